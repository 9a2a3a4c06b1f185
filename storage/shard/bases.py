"""Bases kept open between two seals, so that a seal need not check again every index segment that the one before checked.

Kept for a directory: the manifest that the last seal wrote, byte for byte, and the segments that seal had open. They serve the
next seal only when the manifest it finds on disk has the same bytes: a directory that was replaced, rewound or sealed by
another is opened from its files. Shard logs are opened anew each time; a segment is known by name, length and checksum.
Bound (INV-8): BASES_MAX databases, the least lately used goes; a base holds open mappings and REQUESTS_MAX request ids.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from .checkpoint import Checkpoint
from .shardset import Shard, ShardSet

BASES_MAX = 4


class Base(NamedTuple):
    """What a seal leaves for the next: its checkpoint as written, and the set it stood on itself."""

    manifest: bytes
    checkpoint: Checkpoint
    segments: ShardSet


class OpenBases:
    """By directory."""

    def __init__(self) -> None:
        self._bases: OrderedDict[str, Base] = OrderedDict()

    def keep(self, directory: str, base: Base) -> None:
        """Only segments are kept of the set, none of its logs."""
        shards = [Shard(s.files, {}, s.segments, is_rebuilt=s.is_rebuilt) for s in base.segments.shards]
        self._bases[directory] = base._replace(segments=base.segments.with_shards(shards))
        if len(self._bases) > BASES_MAX:
            self._bases.popitem(last=False)

    def take(self, directory: str, manifest: bytes) -> Base | None:
        """The base if it is the one of that manifest. It is forgotten meanwhile: a seal that fails begins from the files."""
        base = self._bases.pop(directory, None)
        return base if base is not None and base.manifest == manifest else None

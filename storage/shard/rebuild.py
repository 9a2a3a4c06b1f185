"""The primary index of one shard, worked out from its logs alone (INV-5).

Reads every record of the shard once, in order; costs about 3 µs and 200 bytes of memory a key. The result finds the same
live records as the segments it stands in for; superseded entries and deletions are left out, since nothing older is left
for them to hide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..commit.codec import Op
from ..index.primary import GENERATION_SHIFT, NONE, SegmentInfo, build, columns_from_rows
from .logfile import ShardLog
from .record import record_bytes

HashKey = Callable[[int, bytes], int]


def rebuild_index(logs: Sequence[ShardLog], info: SegmentInfo, hash_key: HashKey) -> bytes:
    """A segment's bytes. logs: all of the shard, in order of writing. Blocking. Raises DamagedRecord."""
    newest: dict[tuple[int, bytes], tuple[int, int]] = {}
    for log in logs:
        base = log.entry.generation << GENERATION_SHIFT
        for offset, found in log.records():
            key = (found.collection, found.id)
            if found.op == Op.DELETE:
                newest.pop(key, None)
            else:
                newest[key] = (base | offset, record_bytes(found))
    return build(
        columns_from_rows(
            [
                (hash_key(collection, key), location, NONE, length, collection)
                for (collection, key), (location, length) in newest.items()
            ]
        ),
        info,
    )


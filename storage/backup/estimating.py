"""How long a restore will take, from a sample: some of the backup is copied to where the restore would copy it, in the way it would. Blocking; runs in a worker.

    seconds  =  (backup + archive + what is there, for the safety snapshot) / sampled pace  +  archive / REPLAY_BYTES_PER_S

It is what the primary will be busy for; standbys fetch what they lack meanwhile and after it. The sample reads at most SAMPLE_BYTES and leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass

from ..disk import Disk
from .composed import view_of
from .copying import CHUNK_BYTES, append_shared
from .places import other_disk

SAMPLE_BYTES = 32 * 2**20
REPLAY_BYTES_PER_S = 30_000_000  # of the log, by recovery with its seals: documents of 200 bytes on 2 cores (docs/benchmarks.md, backup)
FIXED_S = 0.5  # of turning the epoch over and opening, whatever the size


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOrder:
    """Which file of which backup (root as places.py has it; directory below it), and a path on the engine's disk that is free for a moment."""

    root: str
    directory: str
    name: str
    scratch: str


def sample_pace(disk: Disk, order: SampleOrder) -> float:
    """Bytes a second of reading, hashing and writing durably. Raises OSError, DamagedRecord."""
    source = view_of(other_disk(disk, order.root), order.directory)
    with suppress(FileNotFoundError):
        disk.remove(order.scratch)  # of an explanation that was cut off
    began_s = time.monotonic()  # noqa: TID251 - in a worker process, which has no loop
    file = source.open_read(f"{order.directory}/{order.name}")
    try:
        made = disk.create(order.scratch)
        try:
            digest = hashlib.sha256()
            for offset in range(0, min(file.size, SAMPLE_BYTES), CHUNK_BYTES):
                chunk = file.read_at(offset, CHUNK_BYTES)
                digest.update(chunk)
                append_shared(made, file, offset, chunk)
            made.sync()
            took_s = time.monotonic() - began_s  # noqa: TID251 - as above
        finally:
            made.close()
            disk.remove(order.scratch)
    finally:
        file.close()
    return max(made.size, 1) / took_s


def estimated_s(*, copied_bytes: int, replayed_bytes: int, pace: float) -> float:
    """Seconds, to two figures at most."""
    return float(f"{FIXED_S + (copied_bytes + replayed_bytes) / pace + replayed_bytes / REPLAY_BYTES_PER_S:.2g}")

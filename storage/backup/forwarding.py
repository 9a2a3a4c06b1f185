"""Carrying a staged backup forward by a log archive: to any commit, or any time. Blocking; runs in a worker.

    staged/ (a checkpoint) + the archive's frames after it ── segments in staged/commit ── the whole log walked as recovery does ── ready

Nothing but the staged directory is written. A target that the archive does not reach is refused before anything is copied, with what is missing.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from ..commit.scan import LogEnd, LogScanner
from ..commit.segment import SegmentHeader, SegmentName
from ..disk import Disk
from ..errors import BadRequest, DamagedRecord, DiskFull
from ..position import Position
from ..shard import checkpoint as checkpoints
from . import log_archive
from .composed import view_of
from .copying import other_disk
from .log_archive import Part, Target
from .names import rfc3339
from .restoring import SPARE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOrder:
    """From where to where. directory: of the checkpoint, a backup's on its disk (base_root) or the staged copy; root and archive: the log archive's; uuid: of the
    database that it is of, in hex (a copy under a new name has another)."""

    base_root: str
    directory: str
    seq: int
    root: str
    archive: str
    uuid: str
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Where it leads: the position, its chain and time, and what it takes."""

    position: Position
    chain: int
    time_us: int
    commits: int = 0
    bytes: int = 0
    files: int = 0


def plan_forward(disk: Disk, order: ForwardOrder) -> Reached:
    """What carrying forward would come to; writes nothing. Raises BadRequest when the target cannot be reached, DamagedRecord."""
    return _planned(disk, order)[0]


def carry_forward(disk: Disk, order: ForwardOrder) -> Reached:
    """Write the commits up to the target into a staged directory's log, synced. Raises as plan_forward, DiskFull."""
    reached, parts = _planned(disk, order)
    archive = other_disk(disk, order.root)
    free = disk.free_bytes()
    if free < reached.bytes + SPARE_BYTES:
        raise DiskFull(f"the log up to the target takes {reached.bytes} bytes, {free} are free; free some space and restore again", free_bytes=free)
    checkpoint = checkpoints.load(disk, order.directory, order.seq)
    uuid = bytes.fromhex(checkpoint.uuid)
    for part, frames in log_archive.frames_ahead(archive, parts):
        stretch = part.stretch
        name = SegmentName(stretch.first_seq, stretch.epoch, stretch.reign_id)
        file = disk.create(f"{order.directory}/commit/{name}")
        try:
            header = SegmentHeader(stretch.epoch, uuid, stretch.reign_id, stretch.first_seq, stretch.chain_before, file.inode())
            file.append([header.encode(), frames])
            file.sync()
        finally:
            file.close()
    _check(disk, order, uuid, checkpoint.chain, reached)
    for directory in (f"{order.directory}/commit", order.directory, posixpath.dirname(order.directory)):
        disk.sync_dir(directory)
    return reached


def _check(disk: Disk, order: ForwardOrder, uuid: bytes, chain: int, reached: Reached) -> None:
    scanner = LogScanner(disk, order.directory, uuid, order.seq, chain)
    for _ in scanner:
        pass
    verdict = scanner.verdict
    if verdict.end is not LogEnd.WHOLE or (verdict.last_seq, verdict.chain) != (reached.position.seq, reached.chain):
        raise DamagedRecord(
            f"the log from the archive ends at commit {verdict.last_seq} ({verdict.reason or 'whole'}), not at {reached.position.seq}; nothing was touched",
            file=order.archive,
            offset=0,
        )


def _planned(disk: Disk, order: ForwardOrder) -> tuple[Reached, list[Part]]:
    archive = other_disk(disk, order.root)
    checkpoint = checkpoints.load(view_of(other_disk(disk, order.base_root), order.directory), order.directory, order.seq)
    target = order.target
    if target.time_us is not None and checkpoint.time_us > target.time_us:
        raise BadRequest(f"the backup holds commits of {rfc3339(checkpoint.time_us)}, after {_in_words(target)}: choose an older one")
    found = log_archive.stretches(archive, order.archive, bytes.fromhex(order.uuid), after_seq=checkpoint.seq)
    parts = log_archive.route(archive, found, checkpoint.seq, checkpoint.chain, target)
    _check_complete(archive, order, parts, checkpoint.seq)
    if not parts:
        return Reached(position=checkpoint.position, chain=checkpoint.chain, time_us=checkpoint.time_us), parts
    last = parts[-1]
    reached = Reached(
        position=Position(last.stretch.epoch, last.to_seq),
        chain=last.chain,
        time_us=last.time_us,
        commits=last.to_seq - checkpoint.seq,
        bytes=sum(part.stretch.end for part in parts),
        files=len(parts),
    )
    return reached, parts


def _check_complete(archive: Disk, order: ForwardOrder, parts: list[Part], base_seq: int) -> None:
    """A time after the last commit that was archived can only be reached if the archiver looked after that time."""
    target = order.target
    if target.time_us is None:
        return
    note = log_archive.read_note(archive, order.archive)
    last = parts[-1].to_seq if parts else base_seq
    if note is None or (note["as_of_us"] < target.time_us and last >= note["seq"]):
        until = f"complete up to {rfc3339(note['as_of_us'])}" if note is not None else "not there"
        raise BadRequest(f"{_in_words(target)} is after what is archived: the archive is {until}; choose an earlier time, or restore to its end")


def _in_words(target: Target) -> str:
    return rfc3339(target.time_us) if target.time_us is not None else str(target)

"""Reading the commit log back: whole commits in order, and the verdict on the first bad byte.

A bad frame is *damage* when this node has said that it was synced; otherwise it is a *tear*, an append that a crash cut short, and the log
ends before it (INV-2). It says so in two places: in synced_seq of a later sound frame that it wrote itself (of followed segments, segment.py,
that is another node's word and counts for nothing), and beside the segments (synced.py). A segment whose header never came to
the device was never synced, so it says nothing either. A log that ends, whole, before what was synced is damaged too. Zeros up to the end of a
segment are neither: space that was reserved and not filled. In a copy of a live directory all of it was synced and none of it proves anything: its later
segments were read at another moment, so what does not continue is a tear, unless the log begins after what the checkpoint holds. Only recovery acts on the verdict (storage/recovery.py); sealing, shipping and the checker
read through the same functions.

Costs: one pass, header crc (0.2 µs) and body crc for each frame; after a bad frame one search over the rest of the log.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

import google_crc32c
import numpy as np

from .. import native
from ..disk import Disk
from ..errors import DamagedRecord
from .codec import HEAD_BYTES, Head, check_body, check_chain, decode_head, following_frames
from .columns import Frames, frames_at
from .segment import HEADER_BYTES, SegmentName, decode_header, has_rotted

CHAIN_AT = HEAD_BYTES - 8
RUN_BYTES = 128 * 2**10  # checked by the kernel in one call: what it returns stays in the cache
_LENGTH_AND_SEQ = struct.Struct("<III12xQ")  # head_crc, body_crc, body_len, seq of a frame's header
ZEROS_BYTES = 2**16
ZEROS = bytes(ZEROS_BYTES)


class LogEnd(Enum):
    """How a log ends."""

    WHOLE = "every byte belongs to a sound commit, or is reserved space"
    TORN = "an unfinished append at the end: keep a copy, then cut"
    DAMAGED = "bytes that had been synced are bad: read-only, repair from a peer or a backup"


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment file and what recovery found in it. end: bytes up to the last sound frame."""

    path: str
    name: SegmentName
    last_seq: int
    end: int


@dataclass(slots=True)
class LogVerdict:
    """The outcome of scanning a log. `segments`: those that hold sound commits, in order; `empty`: those that hold nothing beside one that
    begins with the same commit. `bad_bytes`: from bad_offset to the last
    byte of that segment that is not zero; a tear of 0 bytes has lost nothing.
    """

    segments: list[Segment]
    last_seq: int
    chain: int
    end: LogEnd
    empty: list[str] = field(default_factory=list)
    bad_path: str = ""
    bad_offset: int = 0
    bad_bytes: int = 0
    reason: str = ""


def is_reserved(data: bytes, offset: int) -> bool:
    """Whether everything from offset on is zeros (or nothing): space nobody wrote to."""
    return written_end(data, offset) == offset


def written_end(data: bytes, offset: int = 0) -> int:
    """Where the zeros begin that data ends in; not before offset."""
    end = len(data)
    while end - offset >= ZEROS_BYTES and data.endswith(ZEROS, offset, end):
        end -= ZEROS_BYTES
    start = max(offset, end - ZEROS_BYTES)
    return start + len(data[start:end].rstrip(b"\0"))


def list_segments(disk: Disk, directory: str) -> list[tuple[str, SegmentName]]:
    """(path, name) of every segment of a database directory, in order of first seq."""
    names = [SegmentName.parse(name) for name in disk.list_dir(f"{directory}/commit")]
    return [(f"{directory}/commit/{name}", name) for name in sorted(n for n in names if n is not None)]


class LogScanner:
    """Walks the log of one database from a base. After iteration `verdict` is set. synced_seq: this node's own word (synced.py), which
    whoever acts on the verdict asks for first.

    Yields (Head, body) for every sound commit after base_seq; is_followed is about the segment of the last one. Frames at or below
    base_seq in the first segment are stepped over; the chain is checked from base_seq on.
    """

    def __init__(
        self, disk: Disk, directory: str, uuid: bytes, base_seq: int, base_chain: int, *, copied: bool = False, synced_seq: int = 0
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._copied = copied
        self._synced_seq = 0 if copied else synced_seq
        self.is_followed = False
        self._uuid = uuid
        self._base_seq = base_seq
        every = list_segments(disk, directory)
        begins = max((name.first_seq for _, name in every if name.first_seq <= base_seq + 1), default=0)
        self._earlier = [segment for segment in every if segment[1].first_seq < begins]
        self._todo = every[len(self._earlier) :]
        self._bad_number = len(self._todo)
        self.verdict = LogVerdict([], base_seq, base_chain, LogEnd.WHOLE)

    def __iter__(self) -> Iterator[tuple[Head, bytes]]:
        verdict = self.verdict
        for number, (path, name) in enumerate(self._todo):
            data = self._disk.read_file(path)
            last = None
            reason = self._header_fault(data, path, name)
            offset = HEADER_BYTES if reason is None else 0
            while reason is None:
                if last is None or last >= self._base_seq:  # the usual: many sound frames, checked in one step
                    rows, end, _ = following_frames(
                        data, offset, verdict.last_seq, name.epoch, verdict.chain, RUN_BYTES
                    )
                    for fields, start, frame_end in rows:
                        head = Head(*fields)
                        verdict.last_seq, verdict.chain = head.seq, head.chain
                        yield head, data[start + HEAD_BYTES : frame_end]
                    if rows:
                        last, offset = verdict.last_seq, end
                        continue
                try:
                    head = decode_head(data, offset)
                    if head is None or offset + head.frame_len > len(data):
                        reason = None if is_reserved(data, offset) else "the last append is short"
                        break
                    body = data[offset + HEAD_BYTES : offset + head.frame_len]
                    reason = self._frame_fault(head, body, data[offset : offset + head.frame_len])
                except DamagedRecord as error:
                    reason = str(error)
                if reason is not None:
                    break
                if head.seq > self._base_seq:
                    verdict.last_seq, verdict.chain = head.seq, head.chain
                    yield head, body
                last = head.seq
                offset += head.frame_len
            if last is not None:
                verdict.segments.append(Segment(path, name, last, offset))
            if last is None and (reason is None or is_reserved(data, 0)) and self._stands_elsewhere(number):
                verdict.empty.append(path)
            elif reason is not None or last is None:  # what would have followed an empty one is not there, whatever comes after it
                self._judge(number, data, offset, reason or "the segment holds no commit")
                return
        if verdict.last_seq < self._synced_seq:
            self._judge_missing()

    @property
    def earlier(self) -> list[tuple[str, SegmentName]]:
        """Segments wholly at or below the base, not read."""
        return self._earlier

    @property
    def after_bad(self) -> list[str]:
        """Paths of the segments that follow the bad one."""
        return [path for path, _ in self._todo[self._bad_number + 1 :]]

    def _stands_elsewhere(self, number: int) -> bool:
        """Of a segment that was only begun: whether another reign began the same commit again, or a checkpoint has it."""
        first_seq = self._todo[number][1].first_seq
        return first_seq <= self.verdict.last_seq or any(later.first_seq == first_seq for _, later in self._todo[number + 1 :])

    def _header_fault(self, data: bytes, path: str, name: SegmentName) -> str | None:
        try:
            header = decode_header(data, path)
        except DamagedRecord as error:
            return "the segment was never begun" if is_reserved(data, 0) else str(error)
        if header is None:
            return "the segment header is short"
        if header.uuid != self._uuid:
            return "the segment belongs to another database"
        self.is_followed = header.is_followed
        if (header.first_seq, header.epoch, header.reign_id) != (name.first_seq, name.epoch, name.reign_id):
            return "the segment header does not match its file name"
        if name.first_seq > self.verdict.last_seq + 1:
            return f"commits {self.verdict.last_seq + 1} to {name.first_seq - 1} are missing"
        return None

    def _frame_fault(self, head: Head, body: bytes, frame: bytes) -> str | None:
        if head.seq < self._base_seq:
            return None
        if head.seq == self._base_seq:
            if head.chain != self.verdict.chain:
                return f"commit {head.seq} has another chain than the checkpoint at that seq"
            return None
        if head.seq != self.verdict.last_seq + 1:
            return f"commit {head.seq} follows {self.verdict.last_seq}"
        check_body(head, body)
        if not check_chain(head, frame, self.verdict.chain):
            return f"commit {head.seq} does not continue the chain"
        return None

    def _judge(self, number: int, data: bytes, offset: int, reason: str) -> None:
        verdict = self.verdict
        self._bad_number = number
        verdict.bad_path, verdict.bad_offset, verdict.reason = self._todo[number][0], offset, reason
        bad_seq = verdict.last_seq + 1
        verdict.end = LogEnd.TORN
        written = written_end(data, offset)
        verdict.bad_bytes = written - offset
        if self._copied:
            if number == 0 and self._todo[0][1].first_seq > bad_seq:
                verdict.end = LogEnd.DAMAGED
                verdict.reason = f"{reason}; the copy took so long that they were removed meanwhile: copy it again, under `twinlog hold`"
            return
        if self._synced_seq >= bad_seq or self._vouches(number, data[: written + HEAD_BYTES], offset + 1, bad_seq):  # a header may end in zeros
            verdict.end = LogEnd.DAMAGED
        for later in range(number + 1, len(self._todo)):
            if verdict.end is LogEnd.TORN and self._vouches(later, self._disk.read_file(self._todo[later][0]), HEADER_BYTES, bad_seq):
                verdict.end = LogEnd.DAMAGED

    def _judge_missing(self) -> None:
        """Nothing is bad, but the log ends before what was synced."""
        verdict = self.verdict
        verdict.end = LogEnd.DAMAGED
        verdict.reason = f"the log ends at commit {verdict.last_seq}, and this node had synced it up to {self._synced_seq}"
        verdict.bad_path, verdict.bad_offset = f"{self._directory}/commit", 0
        if verdict.segments:
            verdict.bad_path, verdict.bad_offset = verdict.segments[-1].path, verdict.segments[-1].end

    def _vouches(self, number: int, data: bytes, start: int, seq: int) -> bool:
        """Whether this node itself says in a segment, somewhere from start on, that seq had been synced."""
        path, name = self._todo[number]
        try:
            header = decode_header(data, path)
        except DamagedRecord:
            speaks = has_rotted(data, self._uuid, name)
        else:
            speaks = header is not None and not header.is_followed
        return speaks and _vouched(data, start, seq, name.epoch)


def _vouched(data: bytes, start: int, seq: int, epoch: int) -> bool:
    """Whether a sound frame somewhere at or after start says that seq had been synced.

    Frames are found by the four bytes of their epoch, which stand 16 bytes into a header; the segment's name tells which
    epoch to look for (all its frames have it).
    """
    pattern = epoch.to_bytes(4, "little")
    at = data.find(pattern, start + 16)
    while at != -1:
        try:
            head = decode_head(data, at - 16)
        except DamagedRecord:
            head = None
        if head is not None and head.seq > seq and head.synced_seq >= seq:
            return True
        at = data.find(pattern, at + 1)
    return False


def read_frames(disk: Disk, paths: Sequence[str], after_seq: int, to_seq: int, chain: int) -> Frames:
    """Commits after_seq+1 to to_seq from the given segments, in order; chain: that of commit after_seq.

    Raises DamagedRecord at a gap or a bad byte. Files are read in whole: a segment is bounded by log_segment_bytes plus one
    commit. With the kernel each frame's header and chain are checked, without it the crc of header and body.
    """
    pieces: list[Frames] = []
    expected = after_seq + 1
    for path in paths:
        if expected > to_seq:
            break
        data = disk.read_file(path)
        offset = _step_over(data, expected)
        at, offset = _sound_run(data, offset, expected, to_seq, chain)
        if at:
            chain = int.from_bytes(data[at[-1] + CHAIN_AT : at[-1] + HEAD_BYTES], "little")
        at += _checked_slowly(path, data, offset, expected + len(at), to_seq, chain)
        if at:
            pieces.append(frames_at(data, at))
            expected, chain = int(pieces[-1].heads["seq"][-1]) + 1, int(pieces[-1].heads["chain"][-1])
    if expected <= to_seq:
        raise DamagedRecord(f"the commit log ends at {expected - 1}, {to_seq} was asked for", seq=expected)
    return pieces[0] if len(pieces) == 1 else _joined(pieces)


def _step_over(data: bytes, expected: int) -> int:
    """Where the first frame begins that is not below the expected seq, or the end of the sound ones."""
    offset = HEADER_BYTES
    while (head := decode_head(data, offset)) is not None and head.seq < expected:
        offset += head.frame_len
    return offset


def _run_by_chain(data: bytes, offset: int, expected: int, to_seq: int, chain: int) -> tuple[list[int], int]:
    """(where frames begin, offset after them): the frames from there on that the kernel finds sound. It stops before the first
    that is not."""
    at: list[int] = []
    head = decode_head(data, offset)
    while head is not None and len(at) <= to_seq - expected:
        rows, end, chain = native.KERNEL.frames(data, offset, expected - 1 + len(at), head.epoch, chain, RUN_BYTES)
        if not rows:
            break
        at += [row[-2] for row in rows]
        offset = end
    wanted = to_seq - expected + 1
    return (at, offset) if len(at) <= wanted else (at[:wanted], at[wanted])


def _run_by_crc(data: bytes, offset: int, expected: int, to_seq: int, _chain: int) -> tuple[list[int], int]:
    """The same without the kernel: header and body are held to their crcs."""
    at: list[int] = []
    crc, fields_at = google_crc32c.value, _LENGTH_AND_SEQ.unpack_from
    while expected <= to_seq and offset + HEAD_BYTES <= len(data):
        head_crc, body_crc, body_len, seq = fields_at(data, offset)
        body_at = offset + HEAD_BYTES
        end = body_at + body_len
        if crc(data[offset + 4 : body_at]) != head_crc or seq != expected or end > len(data):
            break
        if crc(data[body_at:end]) != body_crc:
            break
        at.append(offset)
        expected += 1
        offset = end
    return at, offset


_sound_run = _run_by_chain if hasattr(native.KERNEL, "frames") else _run_by_crc


def _checked_slowly(path: str, data: bytes, offset: int, expected: int, to_seq: int, chain: int) -> list[int]:
    """What is wrong where a sound run ends: raises DamagedRecord that says it; frames that are sound after all go on."""
    at = []
    while expected <= to_seq and (head := decode_head(data, offset)) is not None:
        end = offset + head.frame_len
        if end > len(data):
            break
        if head.seq != expected:
            raise DamagedRecord(f"{path}: commit {head.seq} where {expected} should be", file=path, offset=offset)
        check_body(head, data[offset + HEAD_BYTES : end])
        if not check_chain(head, data[offset:end], chain):
            raise DamagedRecord(f"{path}: commit {head.seq} does not continue the chain", file=path, offset=offset)
        at.append(offset)
        expected, chain = expected + 1, head.chain
        offset = end
    return at


def _joined(pieces: Sequence[Frames]) -> Frames:
    """One run of several segments' frames. Copies only the frames."""
    parts: list[memoryview] = []
    at: list[np.ndarray] = []
    size = 0
    for data, heads, places in pieces:
        start = int(places[0])
        end = int(places[-1]) + HEAD_BYTES + int(heads["body_len"][-1])
        parts.append(memoryview(data)[start:end])
        at.append(places - start + size)
        size += end - start
    none = frames_at(b"", [])
    heads = np.concatenate([none.heads, *(piece.heads for piece in pieces)])
    return Frames(b"".join(parts), heads, np.concatenate([none.at, *at]))

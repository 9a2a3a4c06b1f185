"""The commit log's writing end: frames in, segments on disk, and how far they are appended, written and synced.

    append()  ->  buffer  ->  write()  ->  kernel  ->  sync()  ->  device
    appended_seq              written_seq              synced_seq          (each >= the one to its right)

The event loop calls append() and write() in place; sync() runs behind the disk seam. One log has one writer. Recent frames
stay in a bounded ring, so that live shipping reads no file. Knows nothing of documents, roles or acknowledgements.

A write that fails for want of space keeps what is not yet written and may be tried again; a sync that fails is never
tried again (INV-1).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import NamedTuple

import trio

from ..disk import Disk, File
from ..position import Reign
from .codec import HEAD_BYTES, decode_head, step_over
from .segment import HEADER_BYTES, SegmentHeader, SegmentName

RECENT_BYTES_MAX = 8 * 2**20
SYNC_IN_PLACE_S_MAX = 0.001  # recent syncs shorter than this are done on the loop (INV-9)
READ_AHEAD_BYTES = 2**20
CURSORS_MAX = 8  # places where a read ended and the next may go on: one for each standby that catches up


class LogRun(NamedTuple):
    """Whole frames as they stand in the log. last_seq: of the last of them; the one asked after when there is none."""

    data: bytes
    last_seq: int


class _Place(NamedTuple):
    """Where the frame of a seq begins."""

    path: str
    offset: int


_Piece = tuple[int, int, bytes]  # frames appended together: the first's seq, the last's, and their bytes


class CommitLog:
    """Invariant: synced_seq <= written_seq <= appended_seq, and segments on disk hold every seq up to written_seq."""

    def __init__(
        self, disk: Disk, directory: str, uuid: bytes, *, segment_bytes: int, last_seq: int, reign: Reign | None
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._uuid = uuid
        self._segment_bytes = segment_bytes
        self._reign = reign
        self._file: File | None = None
        self._rolls = False
        self._buffer = bytearray()
        self._recent: deque[_Piece] = deque()
        self._recent_bytes = 0
        self._unsynced: list[File] = []
        self._new_names = False
        self._sync_lock = trio.Lock()
        self._sync_failure: OSError | None = None
        self._sync_s = SYNC_IN_PLACE_S_MAX * 2
        self._cursors: dict[int, _Place] = {}  # by the seq that is read next; oldest first
        self.segments: list[tuple[str, int]] = []  # (path, first seq), oldest first; recovery fills it
        self.appended_seq = self.written_seq = self.synced_seq = last_seq
        self.bytes_appended = 0

    @property
    def pending_bytes(self) -> int:
        return len(self._buffer)

    def append(self, frames: bytes, seq: int, chain_before: int, reign: Reign, *, last_seq: int = 0) -> None:
        """Take one encoded commit, or those from seq to last_seq. May open a new segment (and then write what is pending):
        raises OSError, and then nothing was taken."""
        assert seq == self.appended_seq + 1, f"append of {seq} after {self.appended_seq}"
        if self._file is None or self._rolls or reign is not self._reign or self._file.size >= self._segment_bytes:
            self._open_segment(reign, seq, chain_before)
        self._buffer += frames
        self.appended_seq = last_seq or seq
        self.bytes_appended += len(frames)
        self._recent.append((seq, self.appended_seq, frames))
        self._recent_bytes += len(frames)
        while self._recent_bytes > RECENT_BYTES_MAX and len(self._recent) > 1:
            self._recent_bytes -= len(self._recent.popleft()[2])

    def roll(self) -> None:
        """The next commit begins a new segment: so that a seal, which reads whole segments, reads its own commits only."""
        self._rolls = self._file is not None

    def write(self) -> None:
        """Hand everything pending to the kernel. On OSError what was not written stays pending."""
        if not self._buffer:
            return
        file = self._file
        assert file is not None
        before = file.size
        if file not in self._unsynced:
            self._unsynced.append(file)
        try:
            file.append(bytes(self._buffer))
        except OSError:
            del self._buffer[: file.size - before]
            raise
        self._buffer.clear()
        self.written_seq = self.appended_seq

    async def sync(self) -> int:
        """Everything written when this begins survives a power cut when it returns; returns synced_seq.

        Once it has failed it fails ever after: what the device holds is not known any more (INV-1).
        """
        async with self._sync_lock:
            if self._sync_failure is not None:
                raise self._sync_failure
            target = self.written_seq
            if target == self.synced_seq:
                return target
            files, self._unsynced = self._unsynced, []
            new_names, self._new_names = self._new_names, False
            began = trio.current_time()
            try:
                if self._sync_s < SYNC_IN_PLACE_S_MAX:
                    self._sync_files(files, new_names)
                    await trio.lowlevel.checkpoint()
                else:
                    await self._disk.run(self._sync_files, files, new_names)
            except OSError as error:
                self._sync_failure = error
                raise
            self._sync_s = 0.8 * self._sync_s + 0.2 * (trio.current_time() - began)
            self.synced_seq = max(self.synced_seq, target)
            return self.synced_seq

    async def close(self) -> None:
        """Write and sync what is pending, then let the file go."""
        self.write()
        await self.sync()
        self.abandon()

    def abandon(self) -> None:
        """Let the file go without another write."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # Reading back, for shipping.

    def recent(self, after_seq: int, to_seq: int, max_bytes: int) -> LogRun | None:
        """Whole frames after after_seq up to to_seq from the ring, at least one if there is one; None if it begins later."""
        ring = self._recent
        if not ring or after_seq + 1 < ring[0][0]:
            return None
        taken: list[bytes] = []
        room, last = max_bytes, after_seq
        back = 1  # a search from the end, where live shipping reads: the middle of a deque is far away
        while back < len(ring) and ring[-back][1] > after_seq:
            back *= 2
        start = bisect_right(ring, after_seq, lo=max(0, len(ring) - back), key=_last_seq)
        for number in range(start, len(ring)):
            first, end, frames = ring[number]
            if first > to_seq or room <= 0:
                break
            if first == last + 1 and end <= to_seq and len(frames) <= room:
                last = end
                room -= len(frames)
            else:
                frames, last = _part((first, end, frames), last, to_seq, room, needed=not taken)
                room = 0
            taken.append(frames)
        return LogRun(taken[0] if len(taken) == 1 else b"".join(taken), last)

    async def read(self, after_seq: int, to_seq: int, max_bytes: int) -> LogRun | None:
        """As recent(), but from the ring or the files; None when the log no longer holds after_seq + 1."""
        if after_seq >= to_seq:
            return LogRun(b"", after_seq)
        ring = self.recent(after_seq, to_seq, max_bytes)
        if ring is not None:
            return ring
        cursor = self._cursors.pop(after_seq + 1, None)
        found = await self._disk.run(self._read_files, after_seq, to_seq, max_bytes, cursor)
        if found is None:
            return None
        run, place = found
        self._cursors[run.last_seq + 1] = place
        while len(self._cursors) > CURSORS_MAX:
            del self._cursors[next(iter(self._cursors))]
        return run

    def drop_below(self, seq: int) -> list[str]:
        """Forget the segments whose commits are all below seq; returns their paths, to be removed."""
        gone = []
        while len(self.segments) > 1 and self.segments[1][1] <= seq:
            gone.append(self.segments.pop(0)[0])
        return gone

    def _open_segment(self, reign: Reign, first_seq: int, chain_before: int) -> None:
        self.write()
        name = str(SegmentName.of(reign, first_seq))
        path = f"{self._directory}/commit/{name}"
        file = self._disk.create(path)
        try:
            header = SegmentHeader(reign.epoch, self._uuid, reign.id, first_seq, chain_before, file.inode())
            file.append(header.encode())
        except OSError:
            file.close()
            self._disk.remove(path)
            raise
        self._unsynced.append(file)
        self._file, self._reign, self._new_names, self._rolls = file, reign, True, False
        self.segments.append((path, first_seq))

    def _sync_files(self, files: list[File], new_names: bool) -> None:  # noqa: FBT001
        for file in files:
            file.sync()
        if new_names:
            self._disk.sync_dir(f"{self._directory}/commit")

    def _read_files(
        self, after_seq: int, to_seq: int, max_bytes: int, cursor: _Place | None
    ) -> tuple[LogRun, _Place] | None:
        """Frames of one segment, and where the next one begins. None when the log no longer holds them."""
        seq = after_seq + 1
        try:
            place = self._locate(seq, cursor)
            if place is None:
                return None
            file = self._disk.open_read(place.path)
        except FileNotFoundError:  # removed since the list was read: the log no longer holds it
            return None
        try:
            data = file.read_at(place.offset, max(max_bytes, HEAD_BYTES))
            head = decode_head(data)
            if head is None:
                return None
            if head.frame_len > len(data):
                data = file.read_at(place.offset, head.frame_len)
        finally:
            file.close()
        end, last = step_over(data, 0, seq, to_seq, len(data))
        if last < seq:
            return None
        return LogRun(data if end == len(data) else data[:end], last), _Place(place.path, place.offset + end)

    def _locate(self, seq: int, cursor: _Place | None) -> _Place | None:
        """Where the frame of seq begins. A cursor left by the read before makes sequential reading cheap."""
        holding = [(path, first) for path, first in list(self.segments) if first <= seq]
        if not holding:
            return None
        path, next_seq = holding[-1]
        if cursor is not None and cursor.path == path:
            return cursor
        offset = HEADER_BYTES
        file = self._disk.open_read(path)
        try:
            while next_seq < seq:
                data = file.read_at(offset, READ_AHEAD_BYTES)
                head = decode_head(data)
                if head is None or head.seq != next_seq:
                    return None
                after, last = head.frame_len, head.seq
                if after < len(data):
                    after, last = step_over(data, 0, next_seq, seq - 1, len(data))
                offset += after
                next_seq = last + 1
        finally:
            file.close()
        return _Place(path, offset)


def _last_seq(piece: _Piece) -> int:
    return piece[1]


def _part(piece: _Piece, after_seq: int, to_seq: int, room: int, *, needed: bool) -> tuple[bytes, int]:
    """The frames of a piece from after_seq + 1 to to_seq that fit into room; the first one anyway when it is needed."""
    first, _, frames = piece
    begin, _ = step_over(frames, 0, first, after_seq, len(frames))
    end, last = step_over(frames, begin, after_seq + 1, to_seq, begin + room)
    if needed and last == after_seq:
        end, last = step_over(frames, begin, after_seq + 1, after_seq + 1, len(frames))
    return frames[begin:end], last

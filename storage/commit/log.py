"""The commit log's writing end: frames in, segments on disk, and how far they are appended, written and synced.

    append()  ->  buffer  ->  write()  ->  kernel  ->  sync()  ->  device
    appended_seq              written_seq              synced_seq          (each >= the one to its right)

The event loop calls append() and write() in place; syncs run there too while the pace (pace.py) allows it, else behind the disk
seam. One log has one writer. Recent frames stay in a bounded ring, so that live shipping reads no file. Knows nothing of documents,
roles or acknowledgements.

A write that fails for want of space keeps what is not yet written and may be tried again; a sync that fails is never
tried again (INV-1).

Reserved space (told to by reserve_bytes_max, in sync mode): a sync is a third shorter when the file need not grow for it, so the
next segment's file is made ahead, filled with zeros in a disk thread (make_ready), and takes its name when it is needed:

    commit/next.reserved  ── _open_segment(): rename, header ──>  current  ── full, or a seal ──>  finished, cut to its length

    a segment took the file that was ready  ->  the one after it is made
    its reserved space is used up           ->  the next one begins; while there is none, the file grows as any does
    it was filled to the end                ->  later ones are twice as large, RESERVE_BYTES_MIN to reserve_bytes_max

The price is that every byte of the log is written twice, once as a zero. It is spent only where the disk has room for it
(RESERVED_PART_OF_FREE), and failing to reserve is no error of any write.
"""

from __future__ import annotations

import contextlib
import errno
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import trio

from ..disk import Disk, File
from ..position import Reign
from .codec import HEAD_BYTES, decode_head, step_over
from .pace import SyncPace
from .segment import FOLLOWED, HEADER_BYTES, SPARE, SegmentHeader, SegmentName
from .synced import SyncedWord

RECENT_BYTES_MAX = 8 * 2**20
READ_AHEAD_BYTES = 2**20
RESERVE_BYTES_MIN, RESERVE_BYTES_MAX = 2**20, 16 * 2**20
RESERVED_PART_OF_FREE = 8  # at most one in so many of the free bytes is taken by one reservation
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
DESCRIPTOR_RETRY_S = 0.2
SAY_EVERY_S = 0.1  # a second file that grows makes the next sync of this one slower by half; the page cache keeps the word longer than that anyway
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
        self,
        disk: Disk,
        directory: str,
        uuid: bytes,
        *,
        segment_bytes: int,
        last_seq: int,
        reign: Reign | None,
        pace: SyncPace | None = None,
        reserve_bytes_max: int = 0,
        may_reserve: Callable[[int], bool] = lambda length: True,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._uuid = uuid
        self._segment_bytes = segment_bytes
        self._reign = reign
        self._is_followed = False  # the current segment's frames came from another node
        self._begins_at = 0  # the first seq of the current segment
        self._word = SyncedWord(disk, directory, uuid)
        self._says_at_s = -math.inf
        self._file: File | None = None
        self._ends_at = 0  # the current segment's size from which on the next commit begins another
        self._buffer = bytearray()
        self._recent: deque[_Piece] = deque()
        self._recent_bytes = 0
        self._unsynced: list[File] = []
        self._new_names = False
        self._sync_lock = trio.Lock()
        self._sync_failure: OSError | None = None
        self._cursors: dict[int, _Place] = {}  # by the seq that is read next; oldest first
        self._pace = pace or SyncPace()
        self._reserve_bytes_max = min(reserve_bytes_max, segment_bytes)
        self._reserve_bytes = min(RESERVE_BYTES_MIN, self._reserve_bytes_max)  # of the next reservation
        self._may_reserve = may_reserve
        self._reserved = 0  # of the current segment
        self._spare: tuple[File, int] | None = None  # the next segment's file and its reserved bytes
        self._making_spare = trio.Lock()  # or giving it back: both go by its one name
        self._wants_spare = trio.Event()
        self._rolls_when_ready = False
        self._finished: list[File] = []  # segments whose unused reserve is still to be given back
        self.segments: list[tuple[str, int]] = []  # (path, first seq), oldest first; recovery fills it
        self.appended_seq = self.written_seq = self.synced_seq = last_seq
        self.bytes_appended = 0

    @property
    def pending_bytes(self) -> int:
        return len(self._buffer)

    def append(self, frames: bytes, seq: int, chain_before: int, reign: Reign, *, last_seq: int = 0, followed: bool = False) -> None:
        """Take one encoded commit, or those from seq to last_seq. followed: they were received from another node, whose word synced_seq in
        them is. May open a new segment (and then write what is pending): raises OSError, and then nothing was taken."""
        assert seq == self.appended_seq + 1, f"append of {seq} after {self.appended_seq}"
        if self._file is None or reign is not self._reign or followed is not self._is_followed or self._file.size >= self._ends_at:
            self._open_segment(reign, seq, chain_before, FOLLOWED if followed else 0)
        self._buffer += frames
        self.appended_seq = last_seq or seq
        self.bytes_appended += len(frames)
        self._recent.append((seq, self.appended_seq, frames))
        self._recent_bytes += len(frames)
        while self._recent_bytes > RECENT_BYTES_MAX and len(self._recent) > 1:
            self._recent_bytes -= len(self._recent.popleft()[2])

    def roll(self) -> None:
        """The next commit begins a new segment: so that a seal, which reads whole segments, reads its own commits only.
        Where space is reserved it waits for that: reading a few commits of the next seal costs less."""
        if self._reserve_bytes and self._spare is None:
            self._rolls_when_ready = True
            self._wants_spare.set()
        else:
            self._ends_at = 0

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

    def may_sync_here(self) -> bool:
        """Whether the next sync is expected to be short enough for the event loop. Ask once for each.

        Never in place: the first sync of a segment, which waits for the directory too, and while another sync is running.
        """
        return self._pace.allows_in_place(self._directory) and not self._new_names and not self._sync_lock.locked()

    def sync_here(self) -> int:
        """As sync(), but on the event loop: only when may_sync_here() says so."""
        assert not self._new_names and not self._sync_lock.locked()
        if self._sync_failure is not None:
            raise self._sync_failure
        if self.written_seq > self.synced_seq:
            files, self._unsynced = self._unsynced, []
            try:
                self._pace.took(self._sync_files(files))
            except OSError as error:
                self._sync_failure = error
                raise
            self.synced_seq = self.written_seq
            self._say_synced()
        return self.synced_seq

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
            call = self._sync_files_and_names if new_names else self._sync_files
            while True:
                try:
                    self._pace.took(await self._disk.run(call, files))
                    break
                except OSError as error:
                    if error.errno not in NO_DESCRIPTOR:  # which no sync gives: the directory could not be opened, and nothing failed
                        self._sync_failure = error
                        raise
                await trio.sleep(DESCRIPTOR_RETRY_S)
            self.synced_seq = max(self.synced_seq, target)
            self._say_synced()
            return self.synced_seq

    def _say_synced(self) -> None:
        """After a sync, never before it (synced.py). Of a followed segment now and then; frames of this node's own say it themselves, so of
        theirs once: should the header be lost, they would not be believed."""
        is_first = self._word.seq < self._begins_at <= self.synced_seq
        if is_first or (self._is_followed and trio.current_time() >= self._says_at_s):
            self._word.say(self.synced_seq)
            self._says_at_s = trio.current_time() + SAY_EVERY_S

    async def close(self) -> None:
        """Write and sync what is pending, give back reserved space, then let the files go."""
        self.write()
        await self.sync()
        if self._file is not None and self._reserved:
            self._finished.append(self._file)
        if self._finished or self._spare is not None:
            await self._disk.run(self._give_back, self._finished, self._spare)
        self.abandon()

    def abandon(self) -> None:
        """Let the files go without another write."""
        self._finished.clear()
        if self._file is not None:
            self._file.close()
        if self._spare is not None:
            self._spare[0].close()
        self._file = self._spare = None
        self._word.close()

    # Reserved space.

    async def keep_ready(self) -> None:
        """Have the next segment's file made whenever it is asked for, until cancelled."""
        while True:
            await self._wants_spare.wait()
            self._wants_spare = trio.Event()
            await self.make_ready()

    async def make_ready(self) -> None:
        """Give back what finished segments did not use, and reserve the next one's space. Does nothing without reserving."""
        if not self._reserve_bytes:
            return
        if self._finished:
            finished, self._finished = self._finished, []
            await self._disk.run(self._give_back, finished, None)
        async with self._making_spare:
            if self._spare is None and self._may_reserve(self._reserve_bytes):
                self._spare = await self._disk.run(self._reserve_next, self._reserve_bytes)
        if self._rolls_when_ready:
            self._rolls_when_ready = False
            self._ends_at = 0
        elif self._spare is not None and self._file is not None:
            self._ends_at = min(self._reserved, self._segment_bytes)

    async def give_up_spare(self) -> None:
        """Give the next segment's reserved space back: others need it more. It is made again for the segment after the next."""
        async with self._making_spare:
            if self._spare is not None:
                spare, self._spare = self._spare, None
                await self._disk.run(self._give_back, [], spare)
                spare[0].close()

    def _reserve_next(self, length: int) -> tuple[File, int] | None:
        """In a disk thread. None when the disk has no room, or no way to reserve."""
        path = f"{self._directory}/commit/{SPARE}"
        try:
            if self._disk.free_bytes() < RESERVED_PART_OF_FREE * length:
                return None
            if self._disk.exists(path):
                self._disk.remove(path)
            file = self._disk.create(path)
            try:
                file.reserve(length)
            except OSError:
                file.close()
                self._disk.remove(path)
                raise
        except OSError:  # nothing was promised about this file: the next segment grows as it is written
            return None
        return file, length

    def _give_back(self, finished: list[File], spare: tuple[File, int] | None) -> None:
        """In a disk thread. What cannot be given back is zeros behind the last frame, which every reader knows."""
        with contextlib.suppress(OSError):
            for file in finished:
                file.trim()
            if spare is not None:
                self._disk.remove(f"{self._directory}/commit/{SPARE}")

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

    def _open_segment(self, reign: Reign, first_seq: int, chain_before: int, flags: int) -> None:
        self.write()
        name = str(SegmentName.of(reign, first_seq))
        path = f"{self._directory}/commit/{name}"
        file, reserved = self._take_file(path)
        try:
            header = SegmentHeader(reign.epoch, self._uuid, reign.id, first_seq, chain_before, file.inode(), flags)
            file.append(header.encode())
        except OSError:
            file.close()
            self._disk.remove(path)
            raise
        self._finish_segment()
        self._unsynced.append(file)
        self._file, self._reign, self._new_names, self._reserved = file, reign, True, reserved
        self._is_followed, self._begins_at = bool(flags & FOLLOWED), first_seq
        self._ends_at = self._segment_bytes
        self.segments.append((path, first_seq))
        self._wants_spare.set()

    def _take_file(self, path: str) -> tuple[File, int]:
        """The file of a new segment, still empty, and how many bytes of it are reserved."""
        if self._spare is None:
            return self._disk.create(path), 0
        file, reserved = self._spare
        self._disk.rename(file.path, path)
        file.path = path
        self._spare = None
        return file, reserved

    def _finish_segment(self) -> None:
        file = self._file
        if file is None or not self._reserved:
            return
        if file.size >= self._reserved:
            self._reserve_bytes = min(2 * self._reserve_bytes, self._reserve_bytes_max)
        else:
            self._finished.append(file)

    def _sync_files(self, files: list[File]) -> float:
        """The seconds it took."""
        return sum(file.sync() for file in files)

    def _sync_files_and_names(self, files: list[File]) -> float:
        """The seconds without the directory's, which is synced once a segment and says nothing of the next sync."""
        took_s = self._sync_files(files)
        self._disk.sync_dir(f"{self._directory}/commit")
        return took_s

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

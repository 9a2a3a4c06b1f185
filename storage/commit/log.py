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
from collections import deque

import trio

from ..disk import Disk, File
from ..position import Reign
from .codec import HEAD_BYTES, decode_head
from .pace import SyncPace
from .segment import HEADER_BYTES, SPARE, SegmentHeader, SegmentName

RECENT_BYTES_MAX = 8 * 2**20
READ_AHEAD_BYTES = 2**20
RESERVE_BYTES_MIN, RESERVE_BYTES_MAX = 2**20, 16 * 2**20
RESERVED_PART_OF_FREE = 8  # at most one in so many of the free bytes is taken by one reservation


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
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._uuid = uuid
        self._segment_bytes = segment_bytes
        self._reign = reign
        self._file: File | None = None
        self._ends_at = 0  # the current segment's size from which on the next commit begins another
        self._buffer = bytearray()
        self._recent: deque[bytes] = deque()
        self._recent_bytes = 0
        self._unsynced: list[File] = []
        self._new_names = False
        self._sync_lock = trio.Lock()
        self._sync_failure: OSError | None = None
        self._pace = pace or SyncPace()
        self._reserve_bytes_max = min(reserve_bytes_max, segment_bytes)
        self._reserve_bytes = min(RESERVE_BYTES_MIN, self._reserve_bytes_max)  # of the next reservation
        self._reserved = 0  # of the current segment
        self._spare: tuple[File, int] | None = None  # the next segment's file and its reserved bytes
        self._wants_spare = trio.Event()
        self._rolls_when_ready = False
        self._finished: list[File] = []  # segments whose unused reserve is still to be given back
        self._cursor: tuple[int, str, int] | None = None  # next seq, path, offset
        self.segments: list[tuple[str, int]] = []  # (path, first seq), oldest first; recovery fills it
        self.appended_seq = self.written_seq = self.synced_seq = last_seq
        self.bytes_appended = 0

    @property
    def pending_bytes(self) -> int:
        return len(self._buffer)

    def append(self, frame: bytes, seq: int, chain_before: int, reign: Reign) -> None:
        """Take one encoded commit. May open a new segment (and then write what is pending): raises OSError, and then
        the frame was not taken."""
        assert seq == self.appended_seq + 1, f"append of {seq} after {self.appended_seq}"
        if self._file is None or reign is not self._reign or self._file.size >= self._ends_at:
            self._open_segment(reign, seq, chain_before)
        self._buffer += frame
        self.appended_seq = seq
        self.bytes_appended += len(frame)
        self._recent.append(frame)
        self._recent_bytes += len(frame)
        while self._recent_bytes > RECENT_BYTES_MAX and len(self._recent) > 1:
            self._recent_bytes -= len(self._recent.popleft())

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
            try:
                self._pace.took(await self._disk.run(call, files))
            except OSError as error:
                self._sync_failure = error
                raise
            self.synced_seq = max(self.synced_seq, target)
            return self.synced_seq

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
        if self._spare is None:
            self._spare = await self._disk.run(self._reserve_next, self._reserve_bytes)
        if self._rolls_when_ready:
            self._rolls_when_ready = False
            self._ends_at = 0
        elif self._spare is not None and self._file is not None:
            self._ends_at = min(self._reserved, self._segment_bytes)

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

    def recent(self, after_seq: int, to_seq: int, max_bytes: int) -> bytes | None:
        """Whole frames after after_seq up to to_seq from the ring, at least one if there is one; None if it begins later."""
        first = self.appended_seq - len(self._recent) + 1
        if after_seq + 1 < first:
            return None
        taken: list[bytes] = []
        total = 0
        for number in range(after_seq + 1 - first, to_seq + 1 - first):
            frame = self._recent[number]
            if taken and total + len(frame) > max_bytes:
                break
            taken.append(frame)
            total += len(frame)
        return b"".join(taken)

    async def read(self, after_seq: int, to_seq: int, max_bytes: int) -> bytes | None:
        """As recent(), but from the ring or the files; None when the log no longer holds after_seq + 1."""
        if after_seq >= to_seq:
            return b""
        ring = self.recent(after_seq, to_seq, max_bytes)
        if ring is not None:
            return ring
        data, cursor = await self._disk.run(self._read_files, after_seq, to_seq, max_bytes, self._cursor)
        self._cursor = cursor
        return data

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
        file, reserved = self._take_file(path)
        try:
            header = SegmentHeader(reign.epoch, self._uuid, reign.id, first_seq, chain_before, file.inode())
            file.append(header.encode())
        except OSError:
            file.close()
            self._disk.remove(path)
            raise
        self._finish_segment()
        self._unsynced.append(file)
        self._file, self._reign, self._new_names, self._reserved = file, reign, True, reserved
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
        self, after_seq: int, to_seq: int, max_bytes: int, cursor: tuple[int, str, int] | None
    ) -> tuple[bytes | None, tuple[int, str, int] | None]:
        try:
            start = self._locate(after_seq + 1, cursor)
            if start is None:
                return None, None
            path, offset = start
            file = self._disk.open_read(path)
        except FileNotFoundError:  # removed since the list was read: the log no longer holds it
            return None, None
        try:
            data = file.read_at(offset, max(max_bytes, HEAD_BYTES))
            head = decode_head(data)
            if head is None:
                return None, None
            if head.frame_len > len(data):
                data = file.read_at(offset, head.frame_len)
        finally:
            file.close()
        end, seq = 0, after_seq
        while (head := decode_head(data, end)) is not None and end + head.frame_len <= len(data) and head.seq <= to_seq:
            end += head.frame_len
            seq = head.seq
        return data[:end], (seq + 1, path, offset + end)

    def _locate(self, seq: int, cursor: tuple[int, str, int] | None) -> tuple[str, int] | None:
        """Where the frame of seq begins. A cursor left by the read before makes sequential reading cheap."""
        holding = [(path, first) for path, first in list(self.segments) if first <= seq]
        if not holding:
            return None
        path, offset = holding[-1][0], HEADER_BYTES
        if cursor is not None and cursor[0] == seq and cursor[1] == path:
            return path, cursor[2]
        file = self._disk.open_read(path)
        try:
            while True:
                data = file.read_at(offset, READ_AHEAD_BYTES)
                at = 0
                while (head := decode_head(data, at)) is not None:
                    if head.seq == seq:
                        return path, offset + at
                    at += head.frame_len
                if at == 0:
                    return None
                offset += at
        finally:
            file.close()

"""The commit log's writing end: frames in, segments on disk, and how far they are appended, written and synced.

    append()  ->  buffer  ->  write()  ->  kernel  ->  sync()  ->  device
    appended_seq              written_seq              synced_seq          (each >= the one to its right)

The event loop calls append() and write() in place; sync() runs behind the disk seam. One log has one writer. Recent frames
stay in a bounded ring, so that live shipping reads no file. Knows nothing of documents, roles or acknowledgements.

A write that fails for want of space keeps what is not yet written and may be tried again; a sync that fails is never
tried again (INV-1).
"""

from __future__ import annotations

from collections import deque

import trio

from ..disk import Disk, File
from ..position import Reign
from .codec import HEAD_BYTES, decode_head
from .segment import HEADER_BYTES, SegmentHeader, SegmentName

RECENT_BYTES_MAX = 8 * 2**20
SYNC_IN_PLACE_S_MAX = 0.001  # recent syncs shorter than this are done on the loop (INV-9)
READ_AHEAD_BYTES = 2**20


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
        self._recent: deque[bytes] = deque()
        self._recent_bytes = 0
        self._unsynced: list[File] = []
        self._new_names = False
        self._sync_lock = trio.Lock()
        self._sync_failure: OSError | None = None
        self._sync_s = SYNC_IN_PLACE_S_MAX * 2
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
        if self._file is None or self._rolls or reign is not self._reign or self._file.size >= self._segment_bytes:
            self._open_segment(reign, seq, chain_before)
        self._buffer += frame
        self.appended_seq = seq
        self.bytes_appended += len(frame)
        self._recent.append(frame)
        self._recent_bytes += len(frame)
        while self._recent_bytes > RECENT_BYTES_MAX and len(self._recent) > 1:
            self._recent_bytes -= len(self._recent.popleft())

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

"""Length-prefixed frames cut out of a byte stream, in time linear in its bytes. Pure.

    0        4            4+length
    ├────────┼────────────┤      length u32, little-endian: of the body alone
    │ length │ body       │
    └────────┴────────────┘

Both layers of the wire have this shape: packets on the socket, messages inside them. A frame that lies whole in the
chunk it came in is sliced out of it; only a frame that spans chunks is gathered, and each of its bytes is copied
once more. Memory grows with the bytes that came, never with the length that a prefix claims (INV-8).
"""

from __future__ import annotations

import struct
from collections import deque

from .errors import WireError

PREFIX = struct.Struct("<I")
PREFIX_BYTES = PREFIX.size
_unpack_length = PREFIX.unpack_from
WHOLE_FRAMES_MAX = 256  # that cut_whole() gives at once, so that one chunk cannot hold the loop (INV-9)
assert PREFIX_BYTES == 4, "the drawing says 4"


class FrameReader:
    """Bytes in, frame bodies out, in order. A length outside the limits raises `error`, again at every call."""

    __slots__ = ("_what", "_length_min", "_length_max", "_error", "_chunk", "_at", "_waiting", "_partial", "_want")

    def __init__(self, *, what: str, length_min: int, length_max: int, error: type[WireError]) -> None:
        self._what = what
        self._length_min = length_min
        self._length_max = length_max
        self._error = error
        self._chunk = b""  # the chunk being cut, from _at on
        self._at = 0
        self._waiting: deque[bytes] = deque()  # chunks after it
        self._partial = bytearray()  # a frame that began in an earlier chunk, prefix included
        self._want = 0  # how long _partial will be; 0 while the prefix itself is short

    def feed(self, data: bytes) -> None:
        if self._at == len(self._chunk):
            self._chunk = data
            self._at = 0
        else:
            self._waiting.append(data)

    @property
    def buffered_bytes(self) -> int:
        return len(self._partial) + len(self._chunk) - self._at + sum(map(len, self._waiting))

    @property
    def missing_bytes(self) -> int:
        """Of a frame that has begun: how many bytes it still lacks as far as known. 0 between frames.

        Meaningful after next_frame() gave None.
        """
        if not self._partial:
            return 0
        return (self._want or PREFIX_BYTES) - len(self._partial)

    @property
    def is_idle(self) -> bool:
        """Whether nothing that was fed waits here, not even a part of a frame."""
        return self._at == len(self._chunk) and not self._partial and not self._waiting

    def cut_whole(self, data: bytes) -> list[bytes] | None:
        """The frames of data, where nothing waits here and data is at most WHOLE_FRAMES_MAX whole frames with sound
        lengths: the usual chunk, cut without being kept. None otherwise, and nothing has happened: feed() it."""
        if self._partial or self._waiting or self._at != len(self._chunk):
            return None
        smallest, largest, unpack_from = self._length_min, self._length_max, _unpack_length
        size = len(data)
        if size > PREFIX_BYTES and unpack_from(data)[0] == size - PREFIX_BYTES and smallest <= size - PREFIX_BYTES <= largest:
            return [data[PREFIX_BYTES:]]  # the commonest chunk is one frame
        frames: list[bytes] = []
        at = 0
        while at < size:
            start = at + PREFIX_BYTES
            if start > size:
                return None
            (length,) = unpack_from(data, at)
            at = start + length
            if at > size or not smallest <= length <= largest or len(frames) == WHOLE_FRAMES_MAX:
                return None
            frames.append(data[start:at])
        return frames

    def next_frame(self) -> bytes | None:
        """The next whole frame's body, or None until more is fed."""
        while True:
            if self._partial:
                frame = self._gather()
                if frame is not None:
                    return frame
            else:
                chunk, at = self._chunk, self._at
                have = len(chunk) - at
                if have >= PREFIX_BYTES:
                    length = self._checked(PREFIX.unpack_from(chunk, at)[0])
                    end = at + PREFIX_BYTES + length
                    if end <= len(chunk):
                        self._at = end
                        return chunk[at + PREFIX_BYTES : end]
                    self._want = PREFIX_BYTES + length
                if have:
                    self._partial += memoryview(chunk)[at:]
            if self._at_next_chunk():
                continue
            return None

    def take_frames(self, count_max: int) -> list[bytes]:
        """Up to count_max frames that are whole by now. A bad length after good frames raises at the next call."""
        frames: list[bytes] = []
        unpack_from, smallest, largest = PREFIX.unpack_from, self._length_min, self._length_max
        while len(frames) < count_max:
            if not self._partial:  # the fast path: cut the chunk without a call for each frame
                chunk, at = self._chunk, self._at
                size = len(chunk)
                while at + PREFIX_BYTES <= size and len(frames) < count_max:
                    (length,) = unpack_from(chunk, at)
                    end = at + PREFIX_BYTES + length
                    if end > size or not smallest <= length <= largest:
                        break
                    frames.append(chunk[at + PREFIX_BYTES : end])
                    at = end
                if at == size and not self._waiting:  # the usual end: the chunk ends with a frame
                    self._chunk = b""
                    self._at = 0
                    break
                self._at = at
                if len(frames) == count_max:
                    break
            try:
                frame = self.next_frame()
            except WireError:
                if frames:
                    break
                raise
            if frame is None:
                break
            frames.append(frame)
        return frames

    def _gather(self) -> bytes | None:
        """Move bytes of the chunk to the frame that began before it; the frame when it is whole."""
        partial, chunk = self._partial, self._chunk
        if not self._want:
            step = min(PREFIX_BYTES - len(partial), len(chunk) - self._at)
            partial += chunk[self._at : self._at + step]
            self._at += step
            if len(partial) < PREFIX_BYTES:
                return None
            self._want = PREFIX_BYTES + self._checked(PREFIX.unpack_from(partial)[0])
        step = min(self._want - len(partial), len(chunk) - self._at)
        partial += memoryview(chunk)[self._at : self._at + step]
        self._at += step
        if len(partial) < self._want:
            return None
        frame = bytes(memoryview(partial)[PREFIX_BYTES:])
        self._partial = bytearray()
        self._want = 0
        return frame

    def _at_next_chunk(self) -> bool:
        """Everything of this chunk is used: go to the next one, if one waits."""
        if self._waiting:
            self._chunk = self._waiting.popleft()
            self._at = 0
            return True
        self._chunk = b""
        self._at = 0
        return False

    def _checked(self, length: int) -> int:
        if not self._length_min <= length <= self._length_max:
            raise self._error(
                f"{self._what} of {length} bytes, allowed are {self._length_min} to {self._length_max}: "
                f"the other end breaks the protocol or the stream is not in step; close it",
                length=length,
                limit=self._length_max,
            )
        return length

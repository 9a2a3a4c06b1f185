"""A stream whose beginning was looked at and is read again. Pure but for the stream's own read."""

from __future__ import annotations

from typing import BinaryIO


class Ahead:
    """read(n) as the stream's own, after any number of peeks."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._head = b""

    def peek(self, size: int) -> bytes:
        """The next size bytes, fewer only at the end of the stream."""
        while len(self._head) < size and (more := self._stream.read(size - len(self._head))):
            self._head += more
        return self._head[:size]

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._stream.read(size)
        if size < 0:
            data, self._head = self._head + self._stream.read(), b""
        else:
            data, self._head = self._head[:size], self._head[size:]
        return data

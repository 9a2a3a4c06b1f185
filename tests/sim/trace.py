"""The trace of a run: what happened when, in virtual time, and a digest by which two runs are compared."""

from __future__ import annotations

import hashlib
from collections import deque

import trio

KEPT_LINES = 400


class Trace:
    """Every line counts in the digest; only the newest are kept, unless verbose."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._verbose = verbose
        self._lines: deque[str] = deque(maxlen=None if verbose else KEPT_LINES)
        self._first = ""
        self.count = 0

    @property
    def lines(self) -> list[str]:
        return [self._first, *self._lines]

    def begin(self, mix: object) -> None:
        """The first line, always kept: what the seed has drawn."""
        self._first = str(mix)
        self._hash.update(self._first.encode() + b"\n")

    def note(self, who: str, what: str, *details: object) -> None:
        line = f"{trio.current_time():10.4f} {who:<8} {what} {' '.join(map(str, details))}".rstrip()
        self._hash.update(line.encode() + b"\n")
        self._lines.append(line)
        self.count += 1

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

"""Carrying a checkpoint's files from a primary to a standby: which bytes come next, and which may. Pure.

The files of a checkpoint are immutable up to their lengths, so a seed that was cut off goes on where it was: the standby
names every file that is not complete and how much of it is staged, and receives the rest in order, file by file.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage import PeerError

SEED_CHUNK_BYTES = 2**20
SEED_FILES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """One read of one pinned file."""

    file: str
    offset: int
    length: int


class SeedPlan:
    """The primary's end: chunks of all missing bytes. Raises PeerError when the standby names what there is not."""

    def __init__(self, files: dict[str, int], have: dict[str, int], chunk_bytes: int) -> None:
        for name, staged in have.items():
            if name not in files or not 0 <= staged <= files[name]:
                raise PeerError(f"seed: the standby has {staged} bytes of {name!r}, the checkpoint {files.get(name)}")
        self._chunk_bytes = chunk_bytes
        self._todo = [(name, staged, files[name]) for name, staged in sorted(have.items(), reverse=True)]
        self.bytes_left = sum(length - staged for _, staged, length in self._todo)

    def next(self) -> Chunk | None:
        """The next chunk, None after the last. An empty file takes one empty chunk, so that it is made."""
        if not self._todo:
            return None
        name, offset, whole = self._todo.pop()
        length = min(self._chunk_bytes, whole - offset)
        if offset + length < whole:
            self._todo.append((name, offset + length, whole))
        self.bytes_left -= length
        return Chunk(name, offset, length)


class SeedProgress:
    """The standby's end: checks that exactly the bytes come that were asked for. Raises PeerError."""

    def __init__(self, files: dict[str, int]) -> None:
        if len(files) > SEED_FILES_MAX or any(length < 0 for length in files.values()):
            raise PeerError(f"seed of {len(files)} files (limit {SEED_FILES_MAX}), or one of negative length")
        self._files = files
        self._next: dict[str, int] | None = None

    def start(self, have: dict[str, int]) -> None:
        assert all(name in self._files for name in have), "the engine asked for a file that is not in the manifest"
        self._next = dict(have)

    def take(self, file: str, offset: int, length: int) -> None:
        """A chunk arrived."""
        expected = None if self._next is None else self._next.get(file)
        if expected is None or offset != expected or offset + length > self._files[file]:
            raise PeerError(
                f"seed: {length} bytes at {offset} of {file!r}, expected from {expected} up to {self._files.get(file)}"
            )
        assert self._next is not None
        if offset + length == self._files[file]:
            del self._next[file]
        else:
            self._next[file] = offset + length

    def finish(self) -> None:
        if self._next is None or self._next:
            raise PeerError(f"seed ended with files missing: {sorted(self._next or self._files)[:5]}")

    @property
    def bytes_left(self) -> int:
        if self._next is None:
            return sum(self._files.values())
        return sum(self._files[name] - staged for name, staged in self._next.items())

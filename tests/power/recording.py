"""RecordingDisk: OsDisk that notes every change of its files and names, and what each sync promised.

    Event ── number in time ── data | truncate | names | sync | sync_dir | ack
    sync     covers the writes to that file noted before it began (`since`), and counts from when it returned
    names    one operation on directory entries, whole or not at all

Knows no engine. Thread-safe: disk threads and the loop note into one list.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from storage import OsDisk
from storage.disk import OsFile

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event:
    """kind: data (number, offset, bytes), truncate (number, size), sync (number, since), names (assignments: path to file
    number, DIRECTORY or None), sync_dir (path, since), ack (seq)."""

    kind: str
    what: tuple[Any, ...]
    at_s: float


DIRECTORY = -1


class Recording:
    """The list, and which file has which name now. A file's number is its inode's, made unique over reuse of inodes."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.inodes: dict[int, int] = {}  # file number -> the real inode it had
        self.names: dict[str, int] = {}
        self.lock = threading.RLock()
        self.longest_sync_s = 0.0  # with its wait for a thread; several syncs may be one call

    def note(self, kind: str, *what: Any) -> None:
        with self.lock:
            self.events.append(Event(kind, what, time.monotonic()))

    def new_file(self, path: str, inode: int) -> int:
        with self.lock:
            number = len(self.inodes)
            self.inodes[number] = inode
            self.rename_to(path, number)
            return number

    def rename_to(self, path: str, number: int | None, old: str | None = None) -> None:
        with self.lock:
            changes = {path: number} if old is None else {old: None, path: number}
            for name, node in changes.items():
                self.names.pop(name, None)
                if node is not None:
                    self.names[name] = node
            self.note("names", changes)



class RecordedFile(OsFile):
    """An OsFile whose appends, reservations, trims and syncs are noted."""

    def __init__(self, path: str, descriptor: int, recording: Recording, number: int) -> None:
        super().__init__(path, descriptor)
        self._recording = recording
        self._number = number

    def append(self, data: bytes | Sequence[bytes]) -> None:
        joined = bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data)
        before = self.size
        super().append(joined)
        self._recording.note("data", self._number, before, joined)

    def sync(self) -> float:
        since = len(self._recording.events)
        took = super().sync()
        self._recording.note("sync", self._number, since)
        return took

    def reserve(self, length: int) -> None:
        super().reserve(length)
        self._recording.note("data", self._number, 0, bytes(length))
        self._recording.note("sync", self._number, len(self._recording.events))

    def trim(self) -> None:
        super().trim()
        self._recording.note("truncate", self._number, self.size)


class RecordingDisk(OsDisk):
    """Starts with an empty root."""

    def __init__(self, root: str | os.PathLike[str], recording: Recording) -> None:
        super().__init__(root)
        self.recording = recording

    def _recorded(self, file: OsFile, path: str, number: int) -> RecordedFile:
        descriptor, file._descriptor = file._descriptor, -1  # the handle changes hands
        return RecordedFile(path, descriptor, self.recording, number)

    def create(self, path: str) -> OsFile:
        with self.recording.lock:
            file = super().create(path)
            return self._recorded(file, path, self.recording.new_file(path, file.inode()))

    def open_append(self, path: str) -> OsFile:
        with self.recording.lock:
            return self._recorded(super().open_append(path), path, self.recording.names[path])

    def replace_file(self, path: str, data: bytes) -> None:
        beside = path + ".tmp"
        if self.exists(beside):
            self.remove(beside)
        file = self.create(beside)
        try:
            file.append(data)
            file.sync()
        finally:
            file.close()
        self.rename(beside, path)
        self.sync_dir(os.path.dirname(path))

    def rename(self, old: str, new: str) -> None:
        with self.recording.lock:
            assert old in self.recording.names, f"{old}: the workload renames no directory"
            super().rename(old, new)
            self.recording.rename_to(new, self.recording.names[old], old)

    def remove(self, path: str) -> None:
        with self.recording.lock:
            super().remove(path)
            self.recording.rename_to(path, None)

    def make_dir(self, path: str) -> None:
        with self.recording.lock:
            super().make_dir(path)
            made = ""
            for part in filter(None, path.split("/")):
                made = f"{made}/{part}" if made else part
                if self.recording.names.get(made) != DIRECTORY:
                    self.recording.rename_to(made, DIRECTORY)

    def remove_tree(self, path: str) -> None:
        raise AssertionError(f"{path}: the workload removes no tree")

    def sync_dir(self, path: str) -> None:
        since = len(self.recording.events)
        super().sync_dir(path)
        self.recording.note("sync_dir", path, since)

    def sync_all(self, files: Sequence[OsFile]) -> None:
        for file in files:
            file.sync()

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        began_s = time.monotonic()
        try:
            return await super().run(call, *args)
        finally:
            if "sync" in getattr(call, "__name__", ""):  # the commit log's
                self.recording.longest_sync_s = max(self.recording.longest_sync_s, time.monotonic() - began_s)

"""What a simulated disk is made of: files by their bytes, directories by their names, and changes of names that are not durable yet. Pure.

What survives a power cut is disk.py's to say.
"""

from __future__ import annotations


class Inode:
    """A file's bytes. `synced` bytes of them survive a power cut; the last `reserved` of them are zeros nobody appended."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.data = bytearray()
        self.synced = 0
        self.reserved = 0
        self.misdirected: list[tuple[int, bytes]] = []  # (offset, what the device has there once the page cache is gone)
        self.durable_length = 0  # of the file, where a reservation made it longer than what was synced
        self.poisoned = False  # a sync failed: later syncs say yes and keep nothing more, as kernels do

    @property
    def written(self) -> int:
        """Bytes appended so far."""
        return len(self.data) - self.reserved


class Directory:
    """Names now, and the names a power cut would leave."""

    def __init__(self) -> None:
        self.entries: dict[str, Inode | Directory] = {}
        self.durable: dict[str, Inode | Directory] = {}


class NameChange:
    """One directory operation not yet durable: assignments (directory, name, node or None) that happen as one."""

    def __init__(self, assignments: list[tuple[Directory, str, Inode | Directory | None]]) -> None:
        self.assignments = assignments

    def touches(self, directories: set[int]) -> bool:
        return any(id(directory) in directories for directory, _, _ in self.assignments)

    def directories(self) -> set[int]:
        return {id(directory) for directory, _, _ in self.assignments}

    def make_durable(self) -> None:
        for directory, name, node in self.assignments:
            if node is None:
                directory.durable.pop(name, None)
            else:
                directory.durable[name] = node

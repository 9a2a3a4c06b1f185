"""Writing a log segment anew: a good prefix in a new file under the same name. A segment that was cut is never written on. Blocking."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from ..disk import Disk
from .scan import written_end
from .segment import HEADER_BYTES, decode_header

SALVAGED_ZEROS_MAX = 4096  # of the zeros a segment ends in: a torn frame may end in some, the rest was reserved space


def write_anew(disk: Disk, path: str, data: bytes) -> None:
    """A segment's bytes in a new file under the same name, synced; its header names the new file's own inode."""
    header = decode_header(data, path)
    assert header is not None, "only segments with sound commits are written anew"
    beside = f"{path}.new"
    if disk.exists(beside):
        disk.remove(beside)
    file = disk.create(beside)
    try:
        file.append([replace(header, inode=file.inode()).encode(), data[HEADER_BYTES:]])
        file.sync()
    finally:
        file.close()
    disk.rename(beside, path)
    disk.sync_dir(posixpath.dirname(path))


def without_reserve(data: bytes) -> bytes:
    """A segment's bytes with few of the zeros that it ends in."""
    return data[: written_end(data) + SALVAGED_ZEROS_MAX]

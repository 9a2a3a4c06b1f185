"""Recognising a copy of a database directory, and making it a directory of its own.

    cp, rsync, tar ──> files of different moments ── is_copied() ── note_copy() ── recovery ── settle_copy(), the log durable
        ── forget_copy() ──> one checkpoint, everything synced

Every segment's header names the inode of its own file; a copy has another, and the newest segment decides. Recovery writes segments anew and removes
some, which a crash must not end with: `copied.json` says that the directory is a copy, durable before the first change, until all is settled.
A copy of a directory that had it is a copy as well. Blocking. Knows checkpoints and segments, not how they are replayed.
"""

from __future__ import annotations

from .commit.scan import list_segments
from .commit.segment import HEADER_BYTES, decode_header
from .commit.synced import forget
from .disk import Disk
from .errors import DamagedRecord
from .shard import checkpoint as checkpoints

CHECKPOINTS = checkpoints.DIRECTORY
NOTE_FILE = "copied.json"
NOTE = b'{"settled": false}\n'


def is_copied(disk: Disk, directory: str) -> bool:
    """Whether a copy was noted and not settled, or the newest segment with a sound header was made as another file than it is now."""
    if disk.exists(f"{directory}/{NOTE_FILE}"):
        return True
    for path, _ in reversed(list_segments(disk, directory)):
        file = disk.open_read(path)
        try:
            header = decode_header(file.read_at(0, HEADER_BYTES), path)
        except DamagedRecord:
            header = None
        finally:
            file.close()
        if header is not None:
            return header.inode != disk.inode(path)
    return False


def note_copy(disk: Disk, directory: str) -> None:
    """Before the first change: durable when it returns. OSError when a full disk does not take it; nothing has been changed then."""
    path = f"{directory}/{NOTE_FILE}"
    if disk.exists(path):  # an earlier opening's, or one that was copied too and never synced
        _sync(disk, path)
        disk.sync_dir(directory)
    else:
        disk.replace_file(path, NOTE)


def forget_copy(disk: Disk, directory: str) -> None:
    """The last step: from here on the directory is judged as one of its own."""
    disk.remove(f"{directory}/{NOTE_FILE}")
    disk.sync_dir(directory)


def settle_copy(disk: Disk, directory: str, base_seq: int | None) -> list[str]:
    """Leave only the checkpoint at base_seq, and sync what the copying program did not. Returns findings. Safe to repeat.

    The others name files that the copy may lack or have in part. Once it writes on, under the same names, such a manifest could seem
    whole and bring back a state that never was (INV-5): they are removed before anything is written. So is what was said to be synced
    of a log that may have been cut since.
    """
    gone = [seq for seq in checkpoints.list_seqs(disk, directory) if seq != base_seq]
    for seq in gone:
        disk.remove(checkpoints.path_of(directory, seq))
    for name in disk.list_dir(f"{directory}/{CHECKPOINTS}"):
        if name.endswith(".tmp"):
            disk.remove(f"{directory}/{CHECKPOINTS}/{name}")
    disk.make_dir(f"{directory}/{CHECKPOINTS}")
    disk.make_dir(f"{directory}/commit")
    forget(disk, directory)
    _sync_below(disk, directory)
    disk.sync_dir("")
    return [f"{directory} is a copy: it is opened at checkpoint {base_seq or 0} and what its log holds after it"]


def _sync_below(disk: Disk, directory: str) -> None:
    """Every file, then the names of them: what was kept in salvage/ belongs to the copy too."""
    for name in disk.list_dir(directory):
        path = f"{directory}/{name}"
        try:
            _sync_below(disk, path)
        except NotADirectoryError:
            _sync(disk, path)
    disk.sync_dir(directory)


def _sync(disk: Disk, path: str) -> None:
    file = disk.open_read(path)
    try:
        file.sync()
    finally:
        file.close()

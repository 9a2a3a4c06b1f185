"""Recognising a copy of a database directory, and making it a directory of its own.

    cp, rsync, tar ──> files of different moments ── is_copied() ── recovery ── settle_copy() ──> one checkpoint, everything synced

Every segment's header names the inode of its own file; a copy has another. The newest segment decides: recovery writes those it replays anew,
oldest first, so that a crash in between leaves the copy recognised. Blocking. Knows checkpoints and segments, not how they are replayed.
"""

from __future__ import annotations

from .commit.scan import list_segments
from .commit.segment import HEADER_BYTES, decode_header
from .disk import Disk
from .errors import DamagedRecord
from .shard import checkpoint as checkpoints

CHECKPOINTS = checkpoints.DIRECTORY


def is_copied(disk: Disk, directory: str) -> bool:
    """Whether the newest segment with a sound header was made as another file than it is now."""
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


def settle_copy(disk: Disk, directory: str, base_seq: int | None) -> list[str]:
    """Leave only the checkpoint at base_seq, and sync what the copying program did not. Returns findings.

    The others name files that the copy may lack or have in part. Once it writes on, under the same names, such a manifest could seem
    whole and bring back a state that never was (INV-5): they are removed before anything is written.
    """
    gone = [seq for seq in checkpoints.list_seqs(disk, directory) if seq != base_seq]
    for seq in gone:
        disk.remove(checkpoints.path_of(directory, seq))
    for name in disk.list_dir(f"{directory}/{CHECKPOINTS}"):
        if name.endswith(".tmp"):
            disk.remove(f"{directory}/{CHECKPOINTS}/{name}")
    disk.make_dir(f"{directory}/{CHECKPOINTS}")
    disk.make_dir(f"{directory}/commit")
    kept = {name for name, _ in checkpoints.files_of(checkpoints.load(disk, directory, base_seq))} if base_seq is not None else set()
    for name in (*kept, *(f"{CHECKPOINTS}/{seq:020d}.json" for seq in [base_seq] if seq is not None)):
        if disk.exists(f"{directory}/{name}"):  # an index segment may be missing: it is rebuilt
            disk.open_append(f"{directory}/{name}").sync()
    for path in (f"{directory}/{CHECKPOINTS}", directory, ""):
        disk.sync_dir(path)
    return [f"{directory} is a copy: it is opened at checkpoint {base_seq or 0} and what its log holds after it"]

"""Rewind: a closed database goes back to an earlier commit of its own history; what is cut is kept first (INV-7). Blocking.

    the entry, whole and synced (salvage/writing.py) ── intent rewind.json, synced ── the entry gets its name
        ── checkpoints above removed ── commit/synced removed ── log cut into new files ── intent removed

Before the intent nothing has been cut: what is in staging is thrown away and made again. From the intent on the rewind is carried out, by the
next opening if need be; so however often it is killed it ends with one entry.
"""

from __future__ import annotations

import json

from . import identity as identities
from .commit.anew import write_anew
from .commit.scan import is_reserved, list_segments
from .commit.synced import forget
from .disk import Disk
from .errors import DamagedRecord
from .identity import Identity
from .salvage.divergence import Divergence
from .salvage.entry import DIRECTORY
from .salvage.writing import discard_staging, end_of_commits, staging_of, write_entry
from .shard import checkpoint as checkpoints

REWIND_FILE = "rewind.json"
CLOSED_FILE = "closed.json"


def rewind(disk: Disk, directory: str, to_seq: int, now_us: int) -> bool:
    """Cut a closed database back to to_seq. False, and nothing touched, when neither the checkpoints nor the log
    reach it: then it must be seeded. OSError before the intent leaves it as it was."""
    identity = identities.read(disk, directory)
    usable = [seq for seq in checkpoints.list_seqs(disk, directory) if seq <= to_seq and _loads(disk, directory, seq)]
    base = checkpoints.load(disk, directory, max(usable)) if usable else None
    divergence = Divergence.find(disk, directory, identity, base, to_seq)
    if divergence is None:
        return False
    _begin(disk, directory, identity, divergence, now_us)
    finish_rewind(disk, directory, identity)
    return True


def _loads(disk: Disk, directory: str, seq: int) -> bool:
    try:
        loaded = checkpoints.load(disk, directory, seq)
    except DamagedRecord:
        return False
    return checkpoints.missing_log(disk, directory, loaded) is None


def _begin(disk: Disk, directory: str, identity: Identity, divergence: Divergence, now_us: int) -> None:
    """Keep what will be cut, then write the intent."""
    try:
        manifest = write_entry(disk, directory, identity, divergence, now_us)
        intent = {"to_seq": divergence.to_seq, "entry": None if manifest is None else _free_name(disk, directory, manifest.entry_name())}
        disk.replace_file(f"{directory}/{REWIND_FILE}", json.dumps(intent).encode())
    except OSError:
        if not disk.exists(f"{directory}/{REWIND_FILE}"):
            discard_staging(disk, directory)  # a full disk must not keep the space of what nobody was told of
        raise


def _free_name(disk: Disk, directory: str, name: str) -> str:
    """The same commits may have been cut before, and brought back by an operator."""
    taken = set(disk.list_dir(f"{directory}/{DIRECTORY}"))
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}~{number}"
    return candidate


def finish_rewind(disk: Disk, directory: str, identity: Identity) -> None:
    """Carry out the intent in rewind.json, from whatever step a crash left it at; without one, forget what was only begun."""
    path = f"{directory}/{REWIND_FILE}"
    if not disk.exists(path):
        discard_staging(disk, directory)
        return
    intent = json.loads(disk.read_file(path))
    if "entry" not in intent:
        raise DamagedRecord(f"{path} was written by an older Twinlog, which keeps what it cuts in another way: open the database with that one first", file=path)
    to_seq, entry = intent["to_seq"], intent["entry"]
    if entry is not None and disk.exists(staging_of(directory)):
        disk.rename(staging_of(directory), f"{directory}/{DIRECTORY}/{entry}")
        disk.sync_dir(f"{directory}/{DIRECTORY}")
    for seq in reversed(checkpoints.list_seqs(disk, directory)):
        if seq > to_seq:
            disk.remove(f"{directory}/checkpoints/{seq:020d}.json")
    if disk.exists(f"{directory}/checkpoints"):
        disk.sync_dir(f"{directory}/checkpoints")
    forget(disk, directory)
    for segment_path, name in reversed(list_segments(disk, directory)):
        data = disk.read_file(segment_path)
        end = end_of_commits(data, to_seq)
        if is_reserved(data, end):
            continue
        if name.first_seq > to_seq:
            disk.remove(segment_path)
        else:
            write_anew(disk, segment_path, data[:end])
    if disk.exists(f"{directory}/commit"):
        disk.sync_dir(f"{directory}/commit")
    if disk.exists(f"{directory}/{CLOSED_FILE}"):
        disk.remove(f"{directory}/{CLOSED_FILE}")
    disk.remove(path)
    disk.sync_dir(directory)

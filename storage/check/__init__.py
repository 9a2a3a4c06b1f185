"""The offline checker: reads everything a database directory holds and yields what is not as it was written.

    python -m storage.check DIR      DIR: a node's data directory, or one database in it
    exit 0 clean (notes at most), 1 findings, 2 could not check

Read-only; works on copies; shares the codecs with the engine. Checks identity, every checkpoint with the checksums of all its
files (files.py), every record of the newest valid checkpoint, its index segments against an index worked out from the logs,
its catalog and state hash against the live documents (content.py), the checksums of its field index, and every frame and the chain of the commit log (log.py).
A database in use is written to meanwhile: stop its node or check a copy.

Costs: about 6 µs a record, and 300 bytes of memory for each live one of the largest shard.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from .. import identity as identities
from ..disk import Disk, OsDisk
from ..errors import DamagedRecord
from ..finding import Finding, Severity
from ..shard import checkpoint as checkpoints
from ..shard.checkpoint import Checkpoint
from ..shard.rebuild import HashKey
from ..values.keys import hash64
from .content import ContentCheck
from .files import bare, check_checkpoints, check_fields
from .log import check_log

__all__ = ["Finding", "Severity", "check_database", "check_node", "database_names", "locate"]

PUT_BACK = "put back a copy from a peer or a backup"


def check_database(disk: Disk, directory: str, *, hash_key: HashKey = hash64) -> Iterator[Finding]:
    """What is wrong with one database. Blocking. Raises NewerFormat, and OSError when a file cannot be read at all."""
    identity = None
    path = f"{directory}/{identities.FILE}"
    try:
        identity = identities.read(disk, directory)
    except FileNotFoundError:
        yield Finding(Severity.ERROR, path, -1, "missing", PUT_BACK)
    except DamagedRecord as error:
        yield Finding(Severity.ERROR, path, 0, bare(error, path), PUT_BACK)
    sound: list[Checkpoint] = []
    yield from check_checkpoints(disk, directory, identity, sound)
    newest = sound[-1] if sound else None
    if newest is not None:
        yield from ContentCheck(disk, directory, newest, hash_key).run()
        yield from check_fields(disk, directory, newest)
    uuid = identity.uuid if identity is not None else bytes.fromhex(newest.uuid) if newest is not None else None
    if uuid is not None:
        yield from check_log(disk, directory, uuid, sound)
    for name in checkpoints.orphans(disk, directory, sound):
        yield Finding(Severity.NOTE, f"{directory}/{name}", -1, "no sound checkpoint names it", "the next seal removes it")


def check_node(disk: Disk) -> Iterator[Finding]:
    """What is wrong with every database of a node's data directory. Blocking, raises as check_database does."""
    for name in database_names(disk):
        yield from check_database(disk, name)


def database_names(disk: Disk) -> list[str]:
    """Every directory that is a database, or was meant to be one."""
    return [name for name in disk.list_dir("") if _is_database(disk, name)]


def locate(path: str | os.PathLike[str]) -> tuple[Disk, list[str]]:
    """The databases that a path means: itself, or those in it. Raises FileNotFoundError."""
    full = os.path.abspath(path)
    parent, name = os.path.split(full)
    if name and _is_database(OsDisk(parent), name):
        return OsDisk(parent), [name]
    disk = OsDisk(full)
    names = database_names(disk)
    if not names:
        raise FileNotFoundError(f"{full}: no database here")
    return disk, names


def _is_database(disk: Disk, directory: str) -> bool:
    marks = (identities.FILE, checkpoints.DIRECTORY, "commit")
    return any(disk.exists(f"{directory}/{mark}") for mark in marks)

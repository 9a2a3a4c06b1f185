"""Backups that are being made, or were left over, on shelves whose directories cannot be renamed: those in a bucket. Blocking.

    <name>.part          {"by": who makes it}: put before the first file, removed after the manifest, which is put last
    <name>/ files
    <name>/_manifest.json

One is finished when its manifest is there. Without one and with the `.part` beside it, it is not listed; the next backup clears it, when it was begun by this
very data directory (which makes one backup of a database at a time), or so long ago that whoever made it has given up. One without either is listed as what
it is: not whole.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from contextlib import suppress

from ..disk import Disk
from ..errors import DamagedRecord
from . import manifest as manifests
from .names import PART, is_backup, is_safety
from .places import renames_directories

GIVEN_UP_S = 24 * 3600.0  # somebody else's backup, without which nothing more will be put


def begin(disk: Disk, shelf: str, name: str, by: str) -> None:
    """Take the name. Raises FileExistsError when another one has it."""
    if disk.exists(f"{shelf}/{name}") or disk.exists(f"{shelf}/{name}{PART}"):
        raise FileExistsError(errno.EEXIST, "another backup of that name is there or being made: is the shelf used by two databases? try again", f"{shelf}/{name}")
    disk.replace_file(f"{shelf}/{name}{PART}", json.dumps({"by": by}).encode() + b"\n")


def finish(disk: Disk, shelf: str, name: str) -> None:
    """Its manifest is there: it is a backup, also with the mark beside it."""
    with suppress(OSError):  # the next backup removes it
        disk.remove(f"{shelf}/{name}{PART}")


def give_up(disk: Disk, shelf: str, name: str) -> None:
    """Take away what there is of it, the mark last."""
    if disk.exists(f"{shelf}/{name}"):
        disk.remove_tree(f"{shelf}/{name}")
    if disk.exists(f"{shelf}/{name}{PART}"):
        disk.remove(f"{shelf}/{name}{PART}")


def finished(disk: Disk, shelf: str, names: list[str]) -> list[str]:
    """Of everything on a shelf, what is not being made or left over."""
    if renames_directories(disk):
        return names
    there = set(names)
    return [name for name in names if f"{name}{PART}" not in there or disk.exists(f"{shelf}/{name}/{manifests.FILE}")]


def clear_left_over(disk: Disk, shelf: str, begun: str, by: str) -> None:
    """What earlier tries left. begun: the one that was begun just now, by the same."""
    for name in _marked(disk.list_dir(shelf)):
        if name == begun:
            continue
        mark = f"{shelf}/{name}{PART}"
        if disk.exists(f"{shelf}/{name}/{manifests.FILE}"):
            disk.remove(mark)
        elif _maker(disk, mark) == by or disk.age_s(mark, f"{shelf}/{begun}{PART}") > GIVEN_UP_S:  # type: ignore[attr-defined]
            give_up(disk, shelf, name)


def _marked(names: Iterable[str]) -> list[str]:
    bare = [name.removesuffix(PART) for name in names if name.endswith(PART)]
    return [name for name in bare if is_backup(name) or is_safety(name)]


def _maker(disk: Disk, mark: str) -> str:
    try:
        return str(json.loads(disk.read_file(mark))["by"])
    except (OSError, DamagedRecord, ValueError, KeyError, TypeError):
        return ""

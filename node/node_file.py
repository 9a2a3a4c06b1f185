"""node.json: who the node of a data directory is, and whether the directory is a copy. And the lock beside it.

    node.json   {"format": 1, "node_id": "<32 hex digits>", "inode": <its own inode number>}
    lock        held by the process that has the directory open; {"client": "host:port", "admin": "host:port" or ""}

A copy made by cp, tar or rsync has another inode than the one that stands in the file: it is not the node it was copied
from, and gets an id of its own. Knows the disk seam only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from storage import errors

log = logging.getLogger(__name__)

FILE = "node.json"
BESIDE = "node.json.new"
LOCK = "lock"
FORMAT = 1
NODE_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class NodeFile:
    """node_id: hex. copied: the directory was copied from another node's and is now one of its own."""

    node_id: str
    copied: bool


def open_node_file(disk: Any, random_bytes: Callable[[int], bytes], *, adopt: bool = False) -> NodeFile:
    """Read it, or write a new one. adopt: a copied directory keeps the id it was copied with. May block.

    Raises NewerFormat and DamagedRecord.
    """
    held = _read(disk)
    if held is not None and held["inode"] == disk.inode(FILE):
        return NodeFile(held["node_id"], copied=False)
    node_id = held["node_id"] if held is not None and adopt else random_bytes(NODE_ID_BYTES).hex()
    _write(disk, node_id)
    return NodeFile(node_id, copied=held is not None and not adopt)


def is_copy(disk: Any) -> bool:
    """Whether the directory was copied from another node's and not been opened since. May block."""
    held = _read(disk)
    return held is not None and held["inode"] != disk.inode(FILE)


def lock_directory(disk: Any, where: str) -> Callable[[], None]:
    """Take the directory for this process; returns release. Raises DirectoryInUse."""
    try:
        return disk.lock(LOCK, b"")
    except BlockingIOError as error:
        raise errors.DirectoryInUse(
            f"{where} is in use by another process; stop that one, or ask it: its addresses are in {where}/{LOCK}", directory=where
        ) from error


def write_addresses(disk: Any, *, client: str, admin: str) -> None:
    """Into the lock this process holds, so that offline commands find the running node."""
    try:
        file = disk.open_append(LOCK)
        try:
            file.append(json.dumps({"client": client, "admin": admin}).encode() + b"\n")
        finally:
            file.close()
    except OSError as error:  # full or read-only: who looks for the node must know its address
        log.warning("%s could not be written (%s): offline commands will not find this node", LOCK, error)


def read_addresses(disk: Any) -> dict[str, str] | None:
    """What the lock of a directory says: the addresses of the node that has it, or had it last. May block."""
    try:
        value = json.loads(disk.read_file(LOCK))
        return {"client": str(value["client"]), "admin": str(value["admin"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(disk: Any) -> dict[str, Any] | None:
    if not disk.exists(FILE):
        return None
    try:
        value = json.loads(disk.read_file(FILE))
        form = int(value["format"])
        if form <= FORMAT:
            return {"node_id": str(value["node_id"]), "inode": int(value["inode"])}
    except (ValueError, KeyError, TypeError) as error:
        raise errors.DamagedRecord(
            f"{FILE} cannot be read ({error}); remove it to let this node take a new id: its data stays", file=FILE, offset=0
        ) from error
    raise errors.NewerFormat(f"{FILE} has format {form}, this Twinlog knows up to {FORMAT}: start the newer one")


def _write(disk: Any, node_id: str) -> None:
    """Written beside and renamed: the inode that stands in the file is the file's own."""
    if disk.exists(BESIDE):
        disk.remove(BESIDE)
    file = disk.create(BESIDE)
    try:
        value = {"format": FORMAT, "node_id": node_id, "inode": file.inode()}
        file.append(json.dumps(value).encode() + b"\n")
        file.sync()
    except OSError:
        disk.remove(BESIDE)
        raise
    finally:
        file.close()
    disk.rename(BESIDE, FILE)
    disk.sync_dir("")

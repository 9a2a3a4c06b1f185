"""Which databases were dropped on purpose, so that a standby that was away may let go of its copy. Uses the disk seam.

Without an entry here a copy that the primary does not have is kept, with an alarm: an emptied primary must never empty
its standbys (INV-7). dropped.json: {"format": 1, "uuids": ["<hex>", ...]}, oldest first, the newest DROPPED_MAX of them.
"""

from __future__ import annotations

import json

import trio

from storage import DamagedRecord, Seams

from .messages import DROPPED_MAX

DROPPED_FILE = "dropped.json"


class DroppedList:
    """The UUIDs, in memory and on disk. Invariant: what `has` confirms after `add` returned survives a crash."""

    def __init__(self, seams: Seams) -> None:
        self._seams = seams
        self._uuids: dict[bytes, None] = {}
        self._lock = trio.Lock()

    def has(self, uuid: bytes) -> bool:
        return uuid in self._uuids

    def all(self) -> list[bytes]:
        return list(self._uuids)

    async def open(self) -> None:
        """Raises DamagedRecord."""
        disk = self._seams.disk
        if not disk.exists(DROPPED_FILE):
            return
        data = await disk.run(disk.read_file, DROPPED_FILE)
        try:
            self._uuids = dict.fromkeys(bytes.fromhex(text) for text in json.loads(data)["uuids"])
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedRecord(
                f"{DROPPED_FILE} cannot be read ({error}): remove it; copies that were dropped elsewhere will then be kept "
                "with an alarm",
                file=DROPPED_FILE,
                offset=0,
            ) from error

    async def add(self, *uuids: bytes) -> None:
        """Remember, on disk, before anything is removed."""
        if all(uuid in self._uuids for uuid in uuids):
            return
        async with self._lock:
            await self._store(dict.fromkeys([*self._uuids, *uuids]))

    async def discard(self, *uuids: bytes) -> None:
        """These exist after all: the drop was announced but never done."""
        if not any(uuid in self._uuids for uuid in uuids):
            return
        async with self._lock:
            await self._store({uuid: None for uuid in self._uuids if uuid not in uuids})

    async def _store(self, uuids: dict[bytes, None]) -> None:
        kept = dict.fromkeys(list(uuids)[-DROPPED_MAX:])
        value = {"format": 1, "uuids": [uuid.hex() for uuid in kept]}
        disk = self._seams.disk
        with trio.CancelScope(shield=True):
            await disk.run(disk.replace_file, DROPPED_FILE, json.dumps(value).encode() + b"\n")
            self._uuids = kept

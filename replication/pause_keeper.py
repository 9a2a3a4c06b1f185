"""The one place where this node's word about the pause changes: in pause.json, then here, then told to the peers.

Knows the disk seam and the values of pausing.py; knows no link. A word that an operator gives here is on disk before it counts; one that a
peer tells counts even where it cannot be written, since the peers tell it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from storage import Seams

from .pausing import NEVER, PAUSE_FILE, PauseWord, newer, paused, read_pause, resumed, write_pause

log = logging.getLogger("twinlog.replication")


class PauseKeeper:
    """Invariant: `word` never goes back to an older one. changed() runs in place after each newer one; it neither raises nor waits."""

    def __init__(self, seams: Seams, changed: Callable[[], None]) -> None:
        self._seams = seams
        self._changed = changed
        self._lock = trio.Lock()
        self.word: PauseWord = NEVER

    async def open(self) -> None:
        """Raises DamagedRecord or NewerFormat."""
        disk = self._seams.disk
        if disk.exists(PAUSE_FILE):
            self.word = read_pause(await disk.run(disk.read_file, PAUSE_FILE))

    async def pause(self, why: str) -> None:
        """Raises OSError when it cannot be written; then nothing has changed."""
        async with self._lock:
            await self._store(paused(self.word, self._seams.time_us(), why))

    async def resume(self) -> None:
        """As pause. No change when it is not paused."""
        async with self._lock:
            word = resumed(self.word, self._seams.time_us())
            if word != self.word:
                await self._store(word)

    async def hear(self, peer: str, word: PauseWord) -> None:
        """A peer told its word."""
        if newer(self.word, word) == self.word:
            return
        async with self._lock:
            word = newer(self.word, word)
            if word == self.word:
                return
            try:
                await self._store(word)
            except OSError as error:
                log.error("%s could not be written (%s): after a restart this node learns it from its peers", PAUSE_FILE, error)
                self._set(word)
            log.warning("%s says that the cluster is %s", peer, f"paused: {word.why}" if word.paused else "resumed")

    async def _store(self, word: PauseWord) -> None:
        disk = self._seams.disk
        with trio.CancelScope(shield=True):
            await disk.run(disk.replace_file, PAUSE_FILE, write_pause(word))
            self._set(word)

    def _set(self, word: PauseWord) -> None:
        self.word = word
        self._changed()

"""MARKs: what this node works out where the primary put one, so that copies can be compared at exactly that seq (INV-6)."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from .advance import Advance
from .errors import TwinlogError
from .views import View

if TYPE_CHECKING:
    from .database import Database

log = logging.getLogger("twinlog.marking")

MARKS_MAX = 64
FOLDS_MAX = 4  # MARKs whose hash is still being worked out; a MARK beyond that stays without one


class Marking:
    """The state hashes of the newest MARKs: seq -> hex, None while it is being worked out. `advance` stands at the newest known."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.hashes: OrderedDict[int, str | None] = OrderedDict()
        self.advance = Advance()
        self._folds_send, self._folds = trio.open_memory_channel[View](FOLDS_MAX)

    def begin(self, view: View) -> None:
        """A MARK stands at the view's seq."""
        self.hashes[view.seq] = None
        while len(self.hashes) > MARKS_MAX:
            self.hashes.popitem(last=False)
        try:
            self._folds_send.send_nowait(view)
        except trio.WouldBlock:
            del self.hashes[view.seq]

    async def run(self) -> None:
        """Until cancelled."""
        database = self._database
        async for view in self._folds:
            try:
                await database.visible_advance.wait_for(view.seq)
                digest = await view.state_hash()
            except (TwinlogError, OSError) as error:  # this node has no answer; a failed or damaged disk is told elsewhere too
                log.warning("%s: no state hash for the MARK at %d: %s", database.name, view.seq, error)
                self.hashes.pop(view.seq, None)
                continue
            if view.seq in self.hashes:
                self.hashes[view.seq] = digest
            self.advance.set(view.seq)

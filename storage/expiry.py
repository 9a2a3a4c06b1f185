"""Expiry: documents whose date lies too far back are deleted, as the TTL indexes of their collections say (declared.py).

A pass over a database deletes as a client's delete_many does: in groups, each checked again at the appended end, entries of
unique indexes included. A document expires when its field holds a date (in an array: any) that is expireAfterSeconds or more ago;
other values never do. Only a database that takes writes is passed over, so standbys follow their primary's deletions.

A wall clock that jumps ahead would make everything expire at once, for good. So after a jump of more than JUMP_S against the monotonic
clock nothing is deleted for DISTRUST_S: time to set it right, or else it was right. A clock that jumps back only delays.

Cost: without an index a pass reads every document of a collection with a TTL index, so the pause after a pass is at least PAUSE_FACTOR
times as long as the pass took.
"""

from __future__ import annotations

import datetime
import logging
from typing import Any

import trio

from .changing import Asked, change_many
from .database import Database
from .declared import IndexSpec
from .errors import TwinlogError
from .query.filters import compile_filter
from .updating import Deleting

log = logging.getLogger("twinlog.expiry")

PAUSE_FACTOR = 9
JUMP_S = 60.0
DISTRUST_S = 600.0
_EPOCH = datetime.datetime(1970, 1, 1)


async def keep_expiring(db: Database) -> None:
    """A pass every expiry_interval_s while this node writes the database, until cancelled."""
    pause_s = db.engine_options.expiry_interval_s
    clock = ClockWatch(trio.current_time(), db.seams.time_us())
    while True:
        await trio.sleep(pause_s)
        began = trio.current_time()
        time_us = db.seams.time_us()
        was_trusted, is_trusted = clock.is_trusted, clock.look(began, time_us)
        if was_trusted and not is_trusted:
            log.warning("%s: the wall clock jumped ahead; nothing expires for %.0f s, time to set it right", db.name, DISTRUST_S)
        if is_trusted and db.refusal is None and db.history:
            await expire(db, time_us)
        pause_s = max(db.engine_options.expiry_interval_s, PAUSE_FACTOR * (trio.current_time() - began))


class ClockWatch:
    """Whether the wall clock has gone as the monotonic one of late. Pure."""

    def __init__(self, now_s: float, time_us: int) -> None:
        self._now_s, self._time_us = now_s, time_us
        self._distrusted_until = 0.0
        self.is_trusted = True

    def look(self, now_s: float, time_us: int) -> bool:
        ahead_s = (time_us - self._time_us) / 1_000_000 - (now_s - self._now_s)
        self._now_s, self._time_us = now_s, time_us
        if ahead_s > JUMP_S:
            self._distrusted_until = now_s + DISTRUST_S
        self.is_trusted = now_s >= self._distrusted_until
        return self.is_trusted


async def expire(db: Database, time_us: int) -> int:
    """Delete what has expired in one database by that time; returns how many documents."""
    deleted = 0
    for name, number in list(db.catalog.ids.items()):
        for spec in db.catalog.indexes.get(number, ()):
            if spec.expire_after_s is None:
                continue
            try:
                asked = Asked(db=db, collection=name, matches=compile_filter(expired(spec, time_us)))
                deleted += (await change_many(asked, Deleting())).deleted
            except (OSError, TwinlogError) as error:  # a full disk, a role that changed, damage: the next pass tries again
                log.warning("%s.%s: documents that have expired could not be deleted: %s", db.name, name, error)
    return deleted


def expired(spec: IndexSpec, time_us: int) -> dict[str, Any]:
    """The filter of the documents that have expired by that time."""
    [(field, _)] = spec.keys
    assert spec.expire_after_s is not None
    until = _EPOCH + datetime.timedelta(milliseconds=time_us // 1000) - datetime.timedelta(seconds=spec.expire_after_s)
    is_old = {field: {"$lte": until}}
    return is_old if spec.partial is None else {"$and": [spec.partial, is_old]}

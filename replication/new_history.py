"""Another content for one database, by an operator's order: how a restore on the primary becomes the history that every standby follows.

    primary                                                                   standby
       │ close: this database refuses writes (its safety snapshot is made)       │
       │ begin: role.json: primary of the next epoch                             │  hears of it, asks again, is not answered for this database
       │ (storage) the restored directory takes the place                        │
       │ reign of the next epoch, synced, at the restored end                    │
       │ ── its history now ends in a later epoch than any other copy's ──────►  │  rewinds to the common commit, or is seeded

Invariants: the database that was there never gets a reign of the epoch in which the restored one begins, while this process runs; after a
crash only one of the two is there, so one epoch never has two histories (INV-4). The epoch is persisted before the replacement: so a
standby's copy is always of an earlier epoch than the restored one, which beats it, whenever it comes back, and never the other way round.

    crash before role.json          the old database, the old epoch
    crash after it, before intent   the old database, the new epoch: a reign like that after any unclean stop
    crash after the intent          the restored database, the new epoch
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import trio

from storage import BadRequest, Database, NotPrimary, ReadOnly, Turnover, TwinlogError

from .replica import Replica, log
from .roles import RoleState

SETTLE_POLL_S = 0.005
CONVERGE_POLL_S = 0.1


class NewHistory(Turnover):
    """One restore, seen from who may write. is_other: the restored database has a UUID that no node has heard of, so no epoch is needed."""

    def __init__(self, replica: Replica, name: str, waiting: Callable[[], int], *, is_other: bool) -> None:
        self._replica = replica
        self._name = name
        self._waiting = waiting  # how many writes wait for their acknowledgement
        self._is_other = is_other
        self._office: RoleState | None = None  # in which the replacement is right
        self.epoch = 0
        self.held = b""  # the UUID of what was there
        self.linked: set[str] = set()  # the standbys that were there when it began

    async def close(self, uuid: bytes) -> None:
        replica = self._replica
        check_may_begin(replica, self._name)
        self._office = replica.state
        self.epoch = replica.state.epoch
        self.linked = {peer.name for peer in replica.peers.values() if peer.conversation is not None}
        database = replica.engine.databases.get(self._name)
        replica.restoring[self._name] = None if database is None else replica.describe(database)
        if database is not None:
            self.held = database.uuid
            replica.open_or_close(database)
            await database.make_durable()

    async def begin(self, uuid: bytes) -> None:
        replica = self._replica
        self.check()
        if not self._is_other:
            await self._settle()
            await self._next_epoch()
        held = replica.engine.databases.get(self._name)
        if held is not None and held.uuid != uuid:
            await replica.dropped.add(held.uuid)  # standbys let go of it, even if this process ends right after the replacement
        self.check()

    def check(self) -> None:
        replica = self._replica
        if replica.state != self._office or not replica.leads:
            raise NotPrimary(
                f"{replica.config.name} is {replica.state.role.value} of epoch {replica.state.epoch} by now: nothing was restored, "
                "restore on the primary",
                primary=replica.primary_address(),
            )

    async def _settle(self) -> None:
        """A new epoch ends what waits for acknowledgements in every database, so let it be answered first; bounded."""
        replica = self._replica
        replica.turning = True
        replica.open_or_close_all()
        try:
            with trio.move_on_after(replica.config.ack_timeout_s):
                while self._waiting():  # noqa: ASYNC110 - it has no event, and this is a moment
                    await trio.sleep(SETTLE_POLL_S)
        except BaseException:
            self._turned()
            raise

    async def _next_epoch(self) -> None:
        replica = self._replica
        try:
            self._office = await replica.keeper.promote(replica.highest_epoch, self.check, f"a restore of {self._name} began a new epoch")
            self.epoch = self._office.epoch
        finally:
            self._turned()

    def _turned(self) -> None:
        self._replica.turning = False
        self._replica.open_or_close_all()


def check_may_begin(replica: Replica, name: str) -> None:
    """Raises what speaks against giving this database another content now."""
    if not replica.leads:
        where = replica.primary_address()
        raise NotPrimary(
            f"{replica.config.name} is {replica.state.role.value}: restore on the primary{f' at {where}' if where else ''}; its standbys follow by themselves",
            primary=where,
        )
    if replica.restoring:
        raise BadRequest(f"a restore of {', '.join(sorted(replica.restoring))} is under way: wait for it")
    if replica.switching_to:
        raise ReadOnly(f"node {replica.config.name} is handing over to {replica.switching_to}: restore afterwards, on the new primary", retry=False)
    database = replica.engine.databases.get(name)
    if database is not None and (hunt := replica.hunts.get(database.uuid)) is not None:
        raise ReadOnly(f"database {name!r} cannot be restored yet: {hunt.explain()}", retry=False)


@asynccontextmanager
async def new_history(
    replica: Replica, take_over: Callable[[Database], None], name: str, waiting: Callable[[], int], *, is_other: bool
) -> AsyncIterator[NewHistory]:
    """Around a restore. On leaving, the database that is there then, whichever it is, gets its reign (take_over) and is opened for writing."""
    check_may_begin(replica, name)
    history = NewHistory(replica, name, waiting, is_other=is_other)
    try:
        yield history
    finally:
        replica.restoring.pop(name, None)
        with trio.CancelScope(shield=True):
            await _after(replica, take_over, name, history.held)


async def _after(replica: Replica, take_over: Callable[[Database], None], name: str, held: bytes) -> None:
    database = replica.engine.databases.get(name)
    replica.open_or_close_all()
    if database is None:
        return
    if not replica.leads:
        replica.cut_links()  # whatever is streamed to this node was for the copy that it had
        return
    if replica.dropped.has(database.uuid):
        try:
            await replica.dropped.discard(database.uuid)
        except OSError as error:  # it is mended when this node starts next
            log.error("%s exists again, but the list of dropped databases could not be written: %s", name, error)
        replica.cut_links()
    if held not in (b"", database.uuid):
        replica.cut_links()  # so that standbys hear what is gone before what is new
    for peer in replica.peers.values():
        peer.copies.pop(database.uuid, None)  # what a standby confirmed of the copy before counts for nothing here (INV-1)
    take_over(database)


async def converge(
    replica: Replica, mark: Callable[[str], Awaitable[dict[str, tuple[int, int, str]]]], name: str, linked: Collection[str], timeout_s: float
) -> dict[str, Any]:
    """Until every standby has the same chain and state hash at one MARK, or the time is over: {equal, hash, seq, nodes: {node: hash},
    missing: {node: why}}. equal: of those that answered, null when this node is alone in it. One that is not connected, nor `linked` before
    the restore cut all links, is not waited for."""
    answers: dict[str, tuple[int, int, str]] = {}
    why = "it has not answered yet"
    with trio.move_on_after(timeout_s):
        while True:
            try:
                answers = await mark(name)
                why = "it does not follow yet"
            except TwinlogError as error:  # its reign is about to begin
                why = str(error)
            away = {peer.name for peer in replica.peers.values() if peer.conversation is None and peer.name not in linked}
            if answers and not replica.peers.keys() - answers.keys() - away:
                break
            await trio.sleep(CONVERGE_POLL_S)
    own = answers.get(replica.config.name)
    missing = {}
    for peer in replica.peers.values():
        if peer.name not in answers:
            missing[peer.name] = "not connected: it follows when it comes back" if peer.conversation is None else why
    same = len({answer for answer in answers.values()}) == 1
    return {
        "equal": same if len(answers) > 1 else None,
        "hash": own[2] if own else "",
        "seq": own[0] if own else 0,
        "nodes": {node: answer[2] for node, answer in answers.items()},
        "missing": missing,
    }

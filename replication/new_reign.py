"""Taking office: a primary begins a reign in each database before that database takes writes, answers or ships.

A reign is due when the newest in the history is of another epoch (a promotion, or a crash right after one), when there is
none (a new database), and after an unclean stop. In the last case, with acks k, the standbys' longer tails are fetched
first (tails.py); a promotion asks nobody, because the operator has decided which copy counts.
"""

from __future__ import annotations

import trio

from storage import Database, DiskFull, PeerError, TwinlogError

from .alarms import AlarmKind
from .replica import Replica, log
from .roles import RoleState
from .tails import TailHunt, answers_needed

FULL_RETRY_S = 1.0  # before a reign that met a full disk is tried again


class Reigns:
    """Invariant: a UUID enters replica.ready only when its reign of the current epoch is synced here, whatever the sync
    mode: a reign that standbys have and a power cut took from the primary would part their histories for good."""

    def __init__(self, replica: Replica, nursery: trio.Nursery) -> None:
        self._replica = replica
        self._nursery = nursery
        self.failed: set[bytes] = set()  # no reign could begin in these since this node took office
        self.office: RoleState | None = None  # the role in which take_office was last called

    def take_office(self, *, ask_standbys: bool) -> None:
        """This node is primary: bring every database into its epoch. ask_standbys: False right after a promotion."""
        self.failed.clear()
        self.office = self._replica.state
        for database in list(self._replica.engine.databases.values()):
            self.take_over(database, ask_standbys=ask_standbys)

    def take_over(self, database: Database, *, ask_standbys: bool) -> None:
        """A database that is here already."""
        if self._replica.leads and database.uuid not in self._replica.ready:
            self._nursery.start_soon(self._take_over, database.uuid, ask_standbys)

    def found(self, database: Database) -> None:
        """A database that was created this moment: its first reign begins in place, so that writes may follow at once."""
        if not self._replica.leads or database.uuid in self._replica.ready:
            return
        try:
            database.begin_reign(self._replica.state.epoch)
            database.flush()
        except DiskFull as error:
            self._cannot(database.uuid, error)
            self._nursery.start_soon(self._take_over, database.uuid, False)
            return
        except TwinlogError as error:
            self._cannot(database.uuid, error)
            return
        self._replica.founded.add(database.uuid)
        self._replica.open_or_close(database)
        self._nursery.start_soon(self._take_over, database.uuid, False)

    def force(self) -> int:
        """Stop waiting for standbys. Returns for how many databases."""
        for hunt in self._replica.hunts.values():
            hunt.forced = True
        self._replica.bump()
        return len(self._replica.hunts)

    def _is_due(self, database: Database) -> bool:
        return database.unclean or not database.history or database.history[-1].epoch != self._replica.state.epoch

    async def _take_over(self, uuid: bytes, ask_standbys: bool) -> None:  # noqa: FBT001 - start_soon has no keywords
        began = self._replica.state
        try:
            database = self._replica.database(uuid)
            if database is None or not self._replica.leads:
                return
            if self._is_due(database):
                mine = not database.history or database.history[-1].epoch == began.epoch
                if ask_standbys and mine:
                    await self._hunt(database)
                if self._replica.state != began or not self._replica.leads:
                    return
                if self._replica.database(uuid) is not database or uuid in self._replica.ready:
                    return
                seq = database.begin_reign(began.epoch)
                database.flush()
                log.info("%s: reign of epoch %d begins at commit %d", database.name, began.epoch, seq)
            await database.make_durable()
            await database.visible_advance.wait_for(database.history[-1].first_seq)
            if self._replica.state == began and self._replica.leads and self._replica.database(uuid) is database:
                self._open(database)
        except DiskFull as error:  # passes by itself, so this does too
            self._cannot(uuid, error)
            await trio.sleep(FULL_RETRY_S)
            if self._replica.state == began and self._replica.leads and uuid not in self._replica.ready:
                self._nursery.start_soon(self._take_over, uuid, ask_standbys)
        except TwinlogError as error:
            self._cannot(uuid, error)

    def _cannot(self, uuid: bytes, error: TwinlogError) -> None:
        self.failed.add(uuid)
        database = self._replica.database(uuid)
        name = database.name if database else uuid.hex()
        message, passes = f"its reign cannot begin, it stays read-only: {error}", isinstance(error, DiskFull)
        self._replica.alarm(AlarmKind.NO_REIGN, message, database=name, passes=passes)
        self._replica.bump()

    def _open(self, database: Database) -> None:
        self.failed.discard(database.uuid)
        self._replica.alarms.clear(AlarmKind.NO_REIGN, database=database.name)
        self._replica.hunts.pop(database.uuid, None)
        self._replica.founded.discard(database.uuid)
        self._replica.ready.add(database.uuid)
        self._replica.open_or_close(database)
        self._replica.bump()
        self._replica.wake_all()

    async def _hunt(self, database: Database) -> None:
        """Until enough standbys have answered and the longest tail is here; or until this is forced or over."""
        replica = self._replica
        began = replica.state
        needed = answers_needed(acks=replica.config.acks, standbys=len(replica.counting))
        hunt = replica.hunts[database.uuid] = TailHunt(database.name, needed)
        replica.open_or_close(database)
        replica.bump()
        while replica.state == began and replica.leads and replica.hunts.get(database.uuid) is hunt:
            seen = replica.changes.value
            if hunt.forced:
                break
            hunt.needed = answers_needed(acks=replica.config.acks, standbys=len(replica.counting))  # a Hello may have said that one is delayed
            if hunt.enough:
                best = hunt.best(database.history, database.position.seq, my_epoch=began.epoch)
                if best is None:
                    break
                if await self._take_tail(database, hunt, *best):
                    continue
            replica.open_or_close(database)
            await replica.changes.wait_past(seen)
        replica.hunts.pop(database.uuid, None)

    async def _take_tail(self, database: Database, hunt: TailHunt, peer: str, end: int) -> bool:
        """Append what one standby has beyond our end. False when it cannot be had now."""
        replica = self._replica
        source = replica.tail_sources.get(peer)
        try:
            if source is None:
                raise PeerError(f"no link with {peer}")
            while database.position.seq < end:
                data = await source.fetch_tail(database.uuid, database.position.seq)
                if replica.hunts.get(database.uuid) is not hunt or replica.database(database.uuid) is not database:
                    return False
                if data is None:
                    hunt.lost = (
                        f"{peer} has commits up to {end} that its log no longer holds: promote {peer}, or promote this "
                        "node with force and lose them"
                    )
                    replica.alarm(AlarmKind.TAIL_LOST, hunt.lost, database=database.name, peer=peer)
                    return False
                if not data:
                    raise PeerError(f"{peer} said its copy ends at {end}, its log ends before")
                database.append_frames(data)
                database.flush()
                await database.visible_advance.wait_for(database.position.seq)
        except PeerError as error:
            log.error("%s: tail of %s: %s", database.name, peer, error)
            hunt.forget(peer)
            return False
        log.info("%s: took its tail up to commit %d from %s", database.name, database.position.seq, peer)
        return True

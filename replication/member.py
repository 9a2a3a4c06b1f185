"""The replicated side of one node, as the node sees it: its role, acknowledgements, promotion, MARKs, status.

It knows the engine and the peers through Replica and decides nothing about log: that is the parts' on each link
(leading, following). A promotion is an operator's order; nothing in here gives it (INV-4).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from storage import BadRequest, Database, DiskFull, Engine, PromotionRefused, Seams, TwinlogError

from . import candidacy, orders
from .acknowledge import Callback
from .alarms import Alarm, AlarmKind
from .conversation import Conversation
from .links import Dial, MessageLink
from .meeting import Meetings
from .messages import Hello
from .new_history import NewHistory, check_may_begin, converge, new_history
from .new_reign import Reigns
from .peers import Peer
from .replica import Replica, log
from .roles import Role, RoleState
from .settings import MemberConfig
from .status import member_status, told_history
from .switchover import (
    OFFER_RETRY_S,
    check_offered,
    decline,
    hand_over,
    is_offered,
    why_declined,
    why_unsynced,
)
from .waiting import Acknowledger


class Member:
    """One node's part in its cluster. `run` it in a nursery; the rest may be called once run has reported started."""

    def __init__(self, engine: Engine, config: MemberConfig, dial: Dial, seams: Seams) -> None:
        self._replica = Replica(engine, config, seams)
        self._config = config
        self._meetings = Meetings(self._replica, dial)
        self._acknowledger = Acknowledger(self._replica)
        self._replica.on_advance = self._advanced
        self._replica.on_confirmed = self._acknowledger.advance
        self._replica.on_role = self._role_changed
        self._replica.on_offer = self._offered
        self._replica.on_declined = self._declined
        self._reigns: Reigns | None = None
        self._nursery: trio.Nursery | None = None
        self._opened = trio.Event()
        self._closed = False

    # What the node asks.

    @property
    def role(self) -> Role:
        return self._replica.state.role

    @property
    def epoch(self) -> int:
        return self._replica.state.epoch

    @property
    def alarms(self) -> list[Alarm]:
        return self._replica.alarms.all()

    def primary_address(self) -> str:
        """Where clients should write; empty when not known."""
        return self._replica.primary_address()

    def check_writable(self, database: Database | None = None) -> None:
        """Raises NotPrimary (with primary=...), ReadOnly or Overloaded when a write now would be refused."""
        error = self._replica.why_closed(database)
        if error is not None:
            raise error
        if database is not None:
            self._acknowledger.check_room(database)

    @property
    def leads(self) -> bool:
        """Whether this node holds itself to be the primary, whatever its databases can take."""
        return self._replica.leads

    def check_leads(self) -> None:
        """Raises NotPrimary (with primary=...) when what this node shows may be older than what the primary does."""
        if not self._replica.leads:
            raise self._replica.why_behind()

    def when_acknowledged(self, database: Database, seq: int, callback: Callback) -> None:
        """See Acknowledger.when_acknowledged: callback(None) or callback(error), perhaps at once."""
        self._acknowledger.when_acknowledged(database, seq, callback)

    async def acknowledged(self, database: Database, seq: int) -> None:
        """Return once seq is durable here and on `acks` standbys. Raises AckTimeout."""
        await self._acknowledger.acknowledged(database, seq)

    def status(self) -> dict[str, Any]:
        return member_status(self._replica, self._acknowledger)

    def ack_fills(self) -> list[tuple[str, int, int]]:
        """(database, writes that wait for their acknowledgement, bound) each."""
        sizes, databases = self._acknowledger.sizes(), list(self._replica.engine.databases.values())
        return [(database.name, sizes.get(database.uuid, 0), self._config.ack_queue_max) for database in databases]

    def window_fills(self) -> list[tuple[str, int, int]]:
        """(standby, bytes of log under way to it, bound) of each that has a link to this primary. Not of delayed ones: theirs is
        usually full, of commits that are not old enough."""
        links, peers = self._replica.tail_sources, self._replica.peers
        return [(name, link.unacked_bytes, self._config.window_bytes) for name, link in links.items() if not peers[name].delay_s]

    @property
    def delay_s(self) -> int:
        """How far this node stays behind its primary; 0 while it is the primary."""
        return 0 if self.role is Role.PRIMARY else self._config.delay_s

    def held_fill(self) -> tuple[int, int]:
        """Bytes of log that this delayed standby holds back, and their bound; (0, 0) on any other node."""
        held = self._replica.held
        return (held.bytes, held.bound) if held is not None else (0, 0)

    async def drop_database(self, name: str) -> None:
        """Drop on the primary: remembered first, so that standbys which are away let go of their copies later."""
        self.check_writable()
        database = self._replica.engine.databases.get(name)
        if name in self._replica.restoring:
            raise BadRequest(f"database {name!r} is being restored: drop it afterwards")
        if database is None:
            await self._replica.engine.drop_database(name)  # raises NoSuchDatabase
            return
        await self._replica.dropped.add(database.uuid)
        self.check_writable()
        await self._replica.engine.drop_database(name)

    # Restoring.

    def new_history(self, name: str, *, is_other: bool = False) -> AbstractAsyncContextManager[NewHistory]:
        """Around a restore of this database on the primary: gives the Turnover for it. Raises NotPrimary, BadRequest, ReadOnly."""
        return new_history(
            self._replica, self._take_over_now, name, lambda: sum(self._acknowledger.sizes().values()), is_other=is_other
        )

    def check_restorable(self, name: str) -> None:
        """Raises what new_history would raise."""
        check_may_begin(self._replica, name)

    def _take_over_now(self, database: Database) -> None:
        if self._reigns is not None and self._nursery is not None:  # else this node ends, and its next start does it
            self._reigns.take_over(database, ask_standbys=False)

    async def converged(self, name: str, linked: Collection[str], timeout_s: float) -> dict[str, Any]:
        """See new_history.converge."""
        return await converge(self._replica, self.mark, name, linked, timeout_s)

    def reseed(self, name: str) -> None:
        """An operator's order on a standby: replace this copy from the primary, whatever its state; the old is salvaged. One that the primary does not
        have, or has another of this name for, is set aside."""
        database = self._replica.engine.database(name)
        if self.role is not Role.STANDBY:
            raise BadRequest(f"{self._config.name} is {self.role.value}: only a standby's copy can be reseeded")
        self._replica.reseed.add(database.uuid)
        for alarm in self.alarms:
            if alarm.database == name:
                self._replica.alarms.clear(alarm.kind, database=name, peer=alarm.peer)
        if self._replica.follower is not None:
            self._replica.follower.cancel()

    def clear_alarm(self, kind: str, *, database: str = "", peer: str = "") -> None:
        """An operator has looked: a copy that was stopped by INV-6 may follow again."""
        kinds = {known.value: known for known in AlarmKind}
        if kind not in kinds:
            raise BadRequest(f"there is no alarm {kind!r}; known are {sorted(kinds)}")
        self._replica.alarms.clear(kinds[kind], database=database, peer=peer)
        held = self._replica.engine.databases.get(database)
        if held is not None:
            self._replica.stopped.discard((peer, held.uuid))
        if peer in self._replica.peers and (conversation := self._replica.peers[peer].conversation) is not None:
            conversation.cancel()

    # Promotion.

    async def promote(self, *, force: bool = False, automatic: bool = False) -> int:
        """Make this node the primary of a new epoch, which is returned. Raises PromotionRefused.

        On the primary itself it does nothing, except, with force, to stop waiting for standbys after an unclean stop. automatic: it is a
        program that asks, and not an operator: refused while the cluster is paused.
        """
        replica = self._replica
        orders.check_automation(replica, "promotion", automatic=automatic)
        assert self._reigns is not None, "promote after run has started"
        if replica.leads:
            if replica.hunts and not force:
                waits = "; ".join(hunt.explain() for hunt in replica.hunts.values())
                raise PromotionRefused(f"{self._config.name} is primary already and waits: {waits}", behind=0)
            self._reigns.force()
            return self.epoch
        self._check_promotion(force=force)
        why = f"promoted by force: {unknown}" if (unknown := replica.why_epoch_unknown()) else ""
        return await self._promote(lambda: self._check_promotion(force=force), why)

    async def _promote(self, check: Callable[[], None], why: str = "", after: Callable[[], int] | None = None) -> int:
        """check() is asked once more in the last moment, and refuses by raising. after: the epoch to be above, if it is not all that may be led."""
        replica = self._replica
        await replica.keeper.promote(after or replica.highest_epoch, check, why)
        promoted = replica.state
        while replica.state == promoted and self._is_taking_office():
            await replica.changes.wait_past(replica.changes.value)
        if replica.state != promoted:
            raise PromotionRefused(f"{self._config.name} was promoted and demoted again: {replica.state.why}", behind=0)
        return promoted.epoch

    async def switch_over(self, to: str, timeout_s: float, *, automatic: bool = False) -> tuple[int, float]:
        """On the primary: hand the office over to a standby: (its epoch, seconds without a primary). Raises BadRequest, PromotionRefused."""
        orders.check_automation(self._replica, "switchover", automatic=automatic)
        return await hand_over(self._replica, to, timeout_s)

    def _offered(self, peer: Peer, offer: Hello) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._take_over, peer, offer)

    async def _take_over(self, peer: Peer, offer: Hello) -> None:
        """The operator's order, which the old primary carries: take the office, or say why not."""
        if not is_offered(self._replica, offer):
            return
        unsynced = await why_unsynced(self._replica, offer)
        if not is_offered(self._replica, offer):
            return
        why = unsynced or why_declined(self._replica, offer)

        def check() -> None:
            check_offered(self._replica, offer)
            self._check_promotion(force=False)

        try:
            if why is None:
                check()
                await self._promote(check, after=lambda: offer.epoch)
        except PromotionRefused as error:
            why = error.message
        if why is not None and is_offered(self._replica, offer):
            try:
                await decline(self._replica, offer, why)
            except OSError as error:  # then the offer stands, and comes again with the next link, which is made here and not waited for
                log.error("%s could not be declined: %s; it is tried again", peer.name, error)
                await trio.sleep(OFFER_RETRY_S)
                if is_offered(self._replica, offer) and peer.conversation is not None:
                    peer.conversation.cancel()

    def _declined(self, peer: Peer, answer: Hello) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._take_back, peer, answer)

    async def _take_back(self, peer: Peer, answer: Hello) -> None:
        """The one to whom the office was offered has declined it for good, so this node goes on, if nobody else leads by now."""
        replica = self._replica

        def check() -> None:
            led = [other.name for other in replica.peers.values() if other.role is Role.PRIMARY and other.epoch >= answer.epoch]
            if replica.state.role is not Role.STANDBY or replica.state.epoch != answer.epoch or led:
                raise PromotionRefused(f"this node is {replica.state.role.value} of epoch {replica.state.epoch} by now", behind=0)

        log.error("%s takes its office back: %s declined it: %s", self._config.name, peer.name, answer.reason)
        try:
            await replica.keeper.promote(lambda: answer.epoch, check, f"{peer.name} declined the office: {answer.reason}")
        except PromotionRefused as error:
            log.warning("%s does not take its office back: %s", self._config.name, error)

    def _role_changed(self, old: RoleState, new: RoleState) -> None:
        """In place, right after the change: what follows does not depend on whoever asked for it."""
        self._acknowledger.role_changed(old, new)
        if new.role is Role.PRIMARY and self._nursery is not None:
            back = old.role is Role.FENCED  # to the office it had: its standbys may have what a crash took from it
            self._nursery.start_soon(self._take_office, new, list(self._replica.conversations), back)

    async def _take_office(self, promoted: RoleState, ending: list[Conversation], ask_standbys: bool) -> None:  # noqa: FBT001 - start_soon has no keywords
        for conversation in ending:  # nothing of the old epoch may still be appended or replaced
            await conversation.gone.wait()
        if self._replica.state == promoted and self._reigns is not None:
            self._reigns.take_office(ask_standbys=ask_standbys)
            self._replica.bump()

    def _is_taking_office(self) -> bool:
        reigns = self._reigns
        assert reigns is not None, "promote after run has started"
        return reigns.office != self._replica.state or bool(set(self._uuids()) - self._replica.ready - reigns.failed)

    def _uuids(self) -> list[bytes]:
        return [database.uuid for database in self._replica.engine.databases.values()]

    def _check_promotion(self, *, force: bool) -> None:
        replica = self._replica
        behind = replica.missing_commits()
        if replica.leads:
            raise PromotionRefused(f"{self._config.name} is primary of epoch {replica.state.epoch} by now, by another order", behind=0)
        if replica.state.role is Role.FENCED:
            raise PromotionRefused(
                f"{self._config.name} is fenced ({replica.state.why}) and not promoted, not by force either: unfence it first", behind=behind
            )
        if force:
            log.warning("%s is promoted by force, %d commits known elsewhere may be lost", self._config.name, behind)
            return
        if self._config.delay_s:
            raise PromotionRefused(
                f"{self._config.name} is a delayed standby (delay_s {self._config.delay_s}), {behind} commits behind what other nodes were "
                "heard to have: promote another node, or this one with force to go back to what it shows",
                behind=behind,
            )
        if unknown := replica.why_epoch_unknown():
            raise PromotionRefused(
                f"{self._config.name} should not lead: {unknown}, which may lead still and have all the data: connect it, promote a node that has "
                "data, or this one with force (whoever comes back then follows it, and keeps what it does not have)",
                behind=behind,
            )
        for peer in replica.peers.values():
            if peer.conversation is not None and peer.role is Role.PRIMARY and peer.epoch >= self.epoch:
                raise PromotionRefused(
                    f"{self._config.name} hears a live primary, {peer.name}, in epoch {peer.epoch}: stop it first, or "
                    f"promote with force ({behind} commits of it are not here yet)",
                    behind=behind,
                )
        if behind:
            raise PromotionRefused(
                f"{self._config.name} lacks {behind} commits that other nodes were heard to have: promote the node that "
                "has them, or promote with force and lose them",
                behind=behind,
            )

    # Other orders of an operator.

    async def fence(self, why: str = "") -> dict[str, Any]:
        """Take no writes, lead and follow nobody until `unfence`: {role, epoch, was, lacking: commits that each standby is known to lack}."""
        was = self.role
        lacking = await orders.fence(self._replica, why)
        return {**self._office(), "was": was.value, "lacking": lacking}

    async def unfence(self) -> dict[str, Any]:
        """Back to work: as primary where this node was primary and has heard of no other since, else as a standby. Raises PromotionRefused."""
        replica = self._replica
        state = await replica.keeper.unfence()
        while state.role is Role.PRIMARY and replica.state == state and self._is_taking_office() and not replica.hunts:
            await replica.changes.wait_past(replica.changes.value)
        return self._office()

    async def rejoin(self, *, reseed: bool = False) -> dict[str, Any]:
        """A fenced, frozen or stopped node follows the primary again. reseed: from new copies; the old are salvaged. Raises PromotionRefused."""
        await orders.rejoin(self._replica, reseed=reseed)
        return self._office()

    async def pause(self, why: str = "") -> dict[str, Any]:
        """Refuse changes of role that automation asks for, on all nodes: {paused, reached, missing: nodes that learn it when they come back}."""
        return await orders.pause(self._replica, why)

    async def resume(self) -> dict[str, Any]:
        return await orders.resume(self._replica)

    def check(self) -> dict[str, Any]:
        """What a failover is decided by, as this node knows it."""
        return candidacy.check(self._replica, self._acknowledger)

    def role_history(self) -> dict[str, Any]:
        """The newest changes of this node's role, and the reigns of its databases."""
        return told_history(self._replica)

    def _office(self) -> dict[str, Any]:
        return {"role": self.role.value, "epoch": self.epoch}

    # MARKs.

    async def mark(self, name: str) -> dict[str, tuple[int, int, str]]:
        """Write a MARK and gather (seq, chain, state hash) at it, by node: this one and all standbys that stream.

        Bounded by mark_timeout_s: a node that does not answer in time is left out.
        """
        replica = self._replica
        database = replica.engine.databases.get(name)
        if database is None:
            raise BadRequest(f"there is no database {name!r} to mark")
        self.check_writable(database)
        seq = database.mark()
        database.flush()
        answers: dict[str, tuple[int, int, str]] = {}
        with trio.move_on_after(self._config.mark_timeout_s):
            await database.mark_advance.wait_for(seq)
            chain = await database.chain_at(seq)
            answers[self._config.name] = (seq, chain or 0, database.marks.get(seq) or "")
            while True:
                seen = replica.changes.value
                missing = self._gather_marks(database, seq, answers)
                if not missing:
                    break
                await replica.changes.wait_past(seen)
        return answers

    def _gather_marks(self, database: Database, seq: int, answers: dict[str, tuple[int, int, str]]) -> bool:
        """Whether a standby that streams has not answered yet."""
        missing = False
        for peer in self._replica.peers.values():
            known = peer.copies.get(database.uuid)
            if known is None:
                continue
            if seq in known.marks:
                answers[peer.name] = (seq, *known.marks[seq])
            elif known.streaming and not peer.delay_s:  # a delayed one comes to this MARK when nobody waits any more
                missing = True
        return missing

    async def _mark_now_and_then(self) -> None:
        last: dict[bytes, int] = {}
        while True:
            await trio.sleep(self._config.mark_interval_s)
            for database in list(self._replica.engine.databases.values()):
                if self._replica.why_closed(database) is not None or database.position.seq == last.get(database.uuid):
                    continue
                try:
                    last[database.uuid] = database.mark()
                    database.flush()
                except DiskFull as error:  # told once, when it became full
                    log.debug("%s: no MARK: %s", database.name, error)
                except TwinlogError as error:
                    log.warning("%s: no MARK: %s", database.name, error)

    async def serve_link(self, link: MessageLink) -> None:
        """Converse over a link that a peer dialled, until it ends."""
        await self._opened.wait()
        if self._closed:
            await link.aclose()
            return
        await self._meetings.converse(link, None)

    # Running.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the role, then dial and serve peers until cancelled."""
        replica = self._replica
        await self._open()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._reigns = Reigns(replica, nursery)
                replica.engine.watch_databases(self._databases_changed)
                replica.refresh()
                self._reigns.take_office(ask_standbys=True)
                nursery.start_soon(self._acknowledger.run)
                nursery.start_soon(self._mark_now_and_then)
                nursery.start_soon(self._sample_now_and_then)
                nursery.start_soon(replica.repairs.run)
                for peer in replica.peers.values():
                    nursery.start_soon(self._meetings.dial_forever, peer)
                self._opened.set()
                task_status.started()
        finally:
            self._closed = True
            self._nursery = None
            replica.cut_links()

    async def _open(self) -> None:
        replica = self._replica
        epochs = [reign.epoch for database in replica.engine.databases.values() for reign in database.history]
        named = self._config.named_primary == self._config.name
        await replica.keeper.open(named_primary=named, data_epoch=max(epochs, default=0))
        await replica.dropped.open()
        await replica.pauses.open()
        if replica.leads:
            await replica.dropped.discard(*self._uuids())

    async def _sample_now_and_then(self) -> None:
        while True:
            self._replica.sample()
            await trio.sleep(self._config.heartbeat_s)

    def _advanced(self, uuid: bytes) -> None:
        self._acknowledger.advance(uuid)
        self._replica.wake_all()

    def _databases_changed(self, kind: str, name: str) -> None:
        """The engine's call when a database came, went, or was opened anew (another object, perhaps another end)."""
        known = set(self._replica.ready)
        fresh, gone = self._replica.refresh()
        if kind == "reopened" and self._replica.leads and any(database.uuid in known for database in fresh):
            self._replica.ready.difference_update(database.uuid for database in fresh)
            self._replica.open_or_close_all()
            self._replica.cut_links()  # what was shipped before says nothing about the copy that is here now
        if kind == "dropped":
            self._replica.alarms.clear_following(name)
        for uuid in gone:
            self._acknowledger.dropped(uuid)
        if name in self._replica.restoring:
            for database in fresh:
                self._acknowledger.dropped(database.uuid)  # what was confirmed of the copy before says nothing about this one
        if not self._replica.leads or self._reigns is None or self._nursery is None:
            return
        for database in fresh:
            if kind == "created":
                self._reigns.found(database)
            else:
                self._reigns.take_over(database, ask_standbys=True)
        if gone:
            self._nursery.start_soon(self._remember_dropped, gone)

    async def _remember_dropped(self, uuids: list[bytes]) -> None:
        await self._replica.dropped.add(*uuids)
        self._replica.wake_all()

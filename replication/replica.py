"""What this node holds and knows: its databases, its role, its peers. Shared by all links of the node; starts no task.

Everything here changes in place, without waiting, so whoever reads twice around an `await` must read again. `changes`
counts every such change, for those who wait for one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from storage import (
    Advance,
    Database,
    Engine,
    NotPrimary,
    PeerError,
    ReadOnly,
    Seams,
    TwinlogError,
    history_from_lists,
)

from .age import watch_age
from .alarms import AlarmKind, Alarms
from .conversation import Conversation
from .delaying import HeldFrames
from .dropped import DroppedList
from .lag import LagMeter
from .mark_memory import MarkMemory
from .messages import PROTOCOL, UNFIT_CHARS_MAX, DatabaseState, Heartbeat, Hello
from .outrun import forget_outrun, watch_outrun
from .pause_keeper import PauseKeeper
from .pausing import PauseWord
from .peers import Peer
from .repairing import Repairs
from .role_keeper import RoleKeeper
from .roles import Role, RoleState
from .settings import MemberConfig
from .standby_session import Phase, StandbySession
from .tails import TailHunt, TailSource

log = logging.getLogger("twinlog.replication")

EPOCH_UNHEARD_MIN = 2**16  # where a forced promotion begins that can know of no epoch: above all that operators' orders ever come to
OFFERED_EPOCHS = 2  # that one offer of an office may lead to, after the epoch in which it is made


class Replica:
    """The shared state of one node.

    `ready` holds the databases whose reign of this epoch has begun and is synced: only those answer standbys and ship, and
    take writes (INV-4). `founded` are new ones: they take writes while their first reign is being synced. `stopped` holds the copies that must not be streamed until an operator says so (INV-6).
    """

    def __init__(self, engine: Engine, config: MemberConfig, seams: Seams) -> None:
        self.engine = engine
        self.config = config
        self.seams = seams
        self.alarms = Alarms()
        self.changes = Advance()
        delays = config.peer_delays_s
        self.peers = {
            name: Peer(name, address, delay_s=delays.get(name, 0)) for name, address in config.peers.items() if name != config.name
        }
        self.conversations: set[Conversation] = set()
        self.follower: Conversation | None = None
        self.session: StandbySession | None = None  # with the primary that this node follows now
        self.ready: set[bytes] = set()
        self.founded: set[bytes] = set()
        self.hunts: dict[bytes, TailHunt] = {}
        self.tail_sources: dict[str, TailSource] = {}
        self.stopped: set[tuple[str, bytes]] = set()
        self.held: HeldFrames | None = None  # what this delayed standby holds back
        self.switching_to = ""  # the node to which this primary is handing over, while it takes no writes for that
        # Databases that get another content, by name, as they were: no writes, and no reign for what is there.
        self.restoring: dict[str, DatabaseState | None] = {}
        self.turning = False  # a new epoch of this primary's own is about to begin: nothing is taken that it would leave unanswered
        self.declined = ("", "", 0)  # whose office this node declined, why, and in which epoch
        self.fencing = ""  # why, while this primary takes no writes because it is being fenced
        self.anew: set[bytes] = set()  # copies that were stopped and that an operator ordered to follow again
        self.led = 0  # the highest epoch that a primary was heard to lead
        self.reseed: set[bytes] = set()  # copies that an operator ordered to be replaced from the primary
        self.dropped = DroppedList(seams)
        self.repairs = Repairs(self)
        self.pauses = PauseKeeper(seams, self._pause_changed)
        self.keeper = RoleKeeper(seams, yields=self.open_or_close_all, changed=self._role_changed)
        self.on_advance: Callable[[bytes], None] = lambda uuid: None  # this node's own durable end moved
        self.on_confirmed: Callable[[bytes], None] = lambda uuid: None  # a standby's did
        self.on_offer: Callable[[Peer, Hello], None] = lambda peer, offer: None  # a primary that stepped down offers its office
        self.on_declined: Callable[[Peer, Hello], None] = lambda peer, answer: None
        self.on_role: Callable[[RoleState, RoleState], None] = lambda old, new: None
        self._tended: dict[bytes, tuple[Database, Callable[[], None]]] = {}
        self._meters: dict[bytes, LagMeter] = {}
        self._old_marks: dict[bytes, MarkMemory] = {}

    @property
    def state(self) -> RoleState:
        return self.keeper.state

    @property
    def leads(self) -> bool:
        return self.state.role is Role.PRIMARY and not self.keeper.yielding

    def bump(self) -> None:
        """Something that somebody may wait for has changed."""
        self.changes.set(self.changes.value + 1)

    # Databases.

    def database(self, uuid: bytes) -> Database | None:
        """The copy of that database here; another object after a rewind or a seed."""
        for database in self.engine.databases.values():
            if database.uuid == uuid:
                return database
        return None

    def streams(self, uuid: bytes) -> bool:
        """Whether this standby receives the log of that database now: what its session with the primary says, and nothing else."""
        return self.session is not None and self.session.phase(uuid) is Phase.STREAMING

    def describe(self, database: Database) -> DatabaseState:
        return DatabaseState(
            name=database.name,
            uuid=database.uuid,
            options=dict(database.options),
            history=[reign.as_list() for reign in database.history],
            epoch=database.position.epoch,
            seq=database.position.seq,
            chain=database.chain,
            durable_seq=min(database.visible.seq, database.position.seq),
        )

    def hello(self) -> Hello:
        state = self.state
        declined = self.declined[:2] if self.declined[2] == state.epoch else ("", "")
        return Hello(
            protocol=PROTOCOL,
            cluster=self.config.cluster,
            node=self.config.name,
            node_id=self.engine.node_id,
            role=state.role.value,
            epoch=state.epoch,
            address=self.config.client_address,
            databases=[self.describe(database) for database in self.engine.databases.values()] + self._being_replaced(),
            dropped=self.dropped.all(),
            hands_over_to=state.hands_over_to,
            declined=declined[0],
            reason=declined[1],
            delay_s=self.config.delay_s,
            pause=self.pauses.word.told(),
        )

    def _being_replaced(self) -> list[DatabaseState]:
        """Those that are closed for the moment in which their files are put in place: a standby must not take them for gone."""
        return [state for name, state in self.restoring.items() if state is not None and name not in self.engine.databases]

    def refresh(self) -> tuple[list[Database], list[bytes]]:
        """Take note of databases that came, went or were reopened since: (new objects, UUIDs that are gone)."""
        here = {database.uuid: database for database in self.engine.databases.values()}
        gone = [uuid for uuid in self._tended if uuid not in here]
        fresh = [database for uuid, database in here.items() if self._tended.get(uuid, (None,))[0] is not database]
        for uuid in [*gone, *(database.uuid for database in fresh)]:
            if uuid in self._tended:
                self._tended.pop(uuid)[1]()
        for uuid in gone:
            self.ready.discard(uuid)
            self.founded.discard(uuid)
            self.hunts.pop(uuid, None)
            self._meters.pop(uuid, None)
            self._old_marks.pop(uuid, None)
            for peer in self.peers.values():
                peer.forget_database(uuid)
        for database in fresh:
            self._tended[database.uuid] = (database, self._tend(database))
            self._old_marks.pop(database.uuid, None)
            if self.peers:
                database.set_floor(0)  # until more is known of them: log that is dropped now may be what one of them lacks
            self.open_or_close(database)
        if gone or fresh:
            self.bump()
            self.wake_all()
        return fresh, gone

    def _tend(self, database: Database) -> Callable[[], None]:
        uuid = database.uuid

        def advanced(_seq: int) -> None:
            self.on_advance(uuid)

        def marked(seq: int) -> None:
            if (state_hash := database.marks.get(seq)) is not None:
                delay_s = max((peer.delay_s for peer in self.peers.values()), default=0)
                memory = self._old_marks.setdefault(uuid, MarkMemory())
                memory.note(seq, state_hash, now=trio.current_time(), delay_s=delay_s)
            for peer in self.peers.values():
                if uuid in peer.copies and not self.compare_marks(peer, database):
                    self.wake_all()

        self.repairs.tend(database)
        unsubscribes = (database.visible_advance.subscribe(advanced), database.mark_advance.subscribe(marked))

        def untend() -> None:
            for unsubscribe in unsubscribes:
                unsubscribe()

        return untend

    # Who may write.

    def why_closed(self, database: Database | None = None) -> TwinlogError | None:
        """The refusal that a write to this database meets now; None when it may be written."""
        state = self.state
        if state.role is Role.FROZEN:
            return ReadOnly(f"node {self.config.name} takes no writes: {state.why}")
        if state.role is Role.FENCED:
            where = self.primary_address()
            told = f"write to the primary at {where}" if where else "no primary is known: promote a standby, or unfence this node"
            return NotPrimary(f"node {self.config.name} is fenced ({state.why}); {told}", primary=where)
        if self.fencing:
            return ReadOnly(f"node {self.config.name} is being fenced: {self.fencing}")
        if not self.leads:
            where = self.primary_address()
            told = f"write to the primary at {where}" if where else "no primary is known: promote a node"
            return NotPrimary(f"node {self.config.name} is a standby of epoch {state.epoch}; {told}", primary=where)
        if self.switching_to:
            return ReadOnly(f"node {self.config.name} is handing over to {self.switching_to}: send it again in a moment")
        if database is not None and database.name in self.restoring:
            return ReadOnly(f"database {database.name!r} is being restored: look at what is there afterwards, then write", retry=False)
        if self.turning:
            return ReadOnly(f"node {self.config.name} begins a new epoch: send it again in a moment")
        if database is not None and database.uuid not in self.ready and database.uuid not in self.founded:
            hunt = self.hunts.get(database.uuid)
            reason = hunt.explain() if hunt else f"its reign of epoch {state.epoch} has not begun"
            return ReadOnly(f"database {database.name!r} takes no writes yet: {reason}")
        return None

    def why_behind(self) -> NotPrimary:
        """The refusal that a read meets, of one that shall be the primary's alone."""
        where = self.primary_address()
        told = f"read from the primary at {where}" if where else "no primary is known: promote a node"
        return NotPrimary(f"node {self.config.name} is {self.state.role.value}, not the primary; {told}, or let any node answer (read=any)", primary=where)

    def open_or_close(self, database: Database) -> None:
        database.refuse_writes(self.why_closed(database))

    def open_or_close_all(self) -> None:
        for database in self.engine.databases.values():
            self.open_or_close(database)

    def primary_address(self) -> str:
        """Where clients should write; empty when not known."""
        state = self.state
        if state.role is Role.PRIMARY:
            return "" if self.keeper.yielding else self.config.client_address
        for peer in self.peers.values():
            if peer.hello is not None and peer.role is Role.PRIMARY and peer.epoch == state.epoch:
                return peer.hello.address
        return ""

    def _role_changed(self, old: RoleState, new: RoleState) -> None:
        log.warning("%s is now %s of epoch %d: %s", self.config.name, new.role.value, new.epoch, new.why)
        self.ready.clear()
        self.founded.clear()
        self.hunts.clear()
        self._old_marks.clear()
        for peer in self.peers.values():
            peer.copies.clear()  # what counts for one reign's acknowledgements says nothing about another's
        if new.role is Role.FROZEN:
            self.alarm(AlarmKind.TWO_PRIMARIES, new.why)
        else:
            self.alarms.clear(AlarmKind.TWO_PRIMARIES)
        if new.role is Role.PRIMARY:
            self.alarms.clear_following()
        self.open_or_close_all()
        self.on_role(old, new)
        still_standby = old.role is Role.STANDBY and new.role is Role.STANDBY
        for conversation in self.conversations:
            if conversation.running or not still_standby:  # a standby's Hello is not made wrong by a new epoch
                conversation.cancel()
        self.bump()

    async def hear(self, peer: Peer, role: str, epoch: int) -> bool:
        """Take note of a peer's role; True when this node's changed by it, and links with the old one are ending."""
        try:
            peer.role = Role(role)
        except ValueError as error:
            raise PeerError(f"{peer.name} has the role {role!r}, which this Twinlog does not know") from error
        peer.epoch = max(peer.epoch, epoch)
        if peer.role is Role.PRIMARY:
            peer.led_at = trio.current_time()
        if peer.role in (Role.PRIMARY, Role.FROZEN):
            self.led = max(self.led, epoch)
        return await self.keeper.hear(peer.name, peer.role, epoch)

    async def hear_pause(self, peer: Peer, told: tuple[int, int, str]) -> None:
        """Take note of a peer's word on the pause."""
        word = PauseWord(*told)
        if word != peer.pause:
            peer.pause = word
            self.bump()
        await self.pauses.hear(peer.name, word)

    def _pause_changed(self) -> None:
        """Told at once, and with every heartbeat."""
        for conversation in self.conversations:
            if conversation.running:
                try:
                    conversation.post(self.heartbeat())
                except PeerError:
                    conversation.cancel()  # it takes no messages: told again by the next link
        self.bump()

    def why_unfit(self) -> str:
        """Why this node could not lead if it were promoted now, beyond its role and what it lacks; empty when it could."""
        reasons = [f"database {name!r} could not be opened" for name in self.engine.unopened]
        for database in self.engine.databases.values():
            if database.damaged:
                reasons.append(f"database {database.name!r} is damaged")
            elif database.disk_state["state"] != "ok":
                reasons.append(f"database {database.name!r}: {database.disk_state['why']}")
        return "; ".join(reasons)[:UNFIT_CHARS_MAX]

    def why_epoch_unknown(self) -> str:
        """Why this node cannot know which epochs others have led: it has never heard of any, so its directory is new or was lost; empty when
        it has, or when every other node is linked and knows none either."""
        if self.state.epoch or any(peer.epoch for peer in self.peers.values()):
            return ""
        away = sorted(peer.name for peer in self.peers.values() if peer.conversation is None)
        return f"it knows no epoch, its directory being new or lost, and cannot ask {', '.join(away)}" if away else ""

    def highest_epoch(self) -> int:
        """The epoch that a promotion must be above, of all that were heard of or may be led (INV-4). Where none was heard, it is drawn far
        above them: another node, or an earlier life of this one, may lead any of the first."""
        if self.why_epoch_unknown():
            return EPOCH_UNHEARD_MIN + int.from_bytes(self.seams.random_bytes(3), "little")
        highest = max(self.state.epoch, *(peer.epoch for peer in self.peers.values()), 0)
        return highest if highest <= self._led_epoch() else highest + OFFERED_EPOCHS

    def _led_epoch(self) -> int:
        """The highest epoch that is known to have had a primary. An epoch above it came of a node that stepped out of one, and two more may be led
        unheard: the next one by whoever takes the office that is offered, the one after it by whoever offered it, once it was declined."""
        own = self.state.epoch if self.state.role in (Role.PRIMARY, Role.FROZEN) else 0
        return max(own, self.led, *(database.position.epoch for database in self.engine.databases.values()), 0)

    def cut_links(self) -> list[Conversation]:
        """End every conversation; returns those that are ending."""
        for conversation in self.conversations:
            conversation.cancel()
        return list(self.conversations)

    def wake_all(self) -> None:
        for conversation in self.conversations:
            conversation.wake()

    # Positions, floors, lag.

    def heartbeat(self) -> Heartbeat:
        positions = {}
        for database in self.engine.databases.values():
            visible = database.visible
            positions[database.uuid] = (visible.epoch, visible.seq, database.log_bytes)
        floors = {}
        if self.leads:
            floors = {database.uuid: self.floor(database) for database in self.engine.databases.values()}
        state = self.state
        word = self.pauses.word.told()
        return Heartbeat(state.role.value, state.epoch, positions, floors, self.seams.time_us(), word, self.why_unfit())

    def floor(self, database: Database) -> int:
        """The seq that this node and every known standby have durably; 0 while one was never heard."""
        return min([database.visible.seq, *(peer.durable(database.uuid) for peer in self.peers.values())])

    @property
    def counting(self) -> list[Peer]:
        """The peers whose copies count for acknowledgements (INV-1): a delayed standby's would hold every answer for its delay."""
        return [peer for peer in self.peers.values() if not peer.delay_s]

    def sample(self) -> None:
        """Once a heartbeat: the primary's own ends for lag, its floors, and whom its log has outrun; a delayed standby's age."""
        watch_age(self)
        if not self.leads:
            forget_outrun(self)
            return
        for database in self.engine.databases.values():
            self.own_meter(database.uuid).observe(database.visible.seq, database.log_bytes, trio.current_time())
            database.set_floor(self.floor(database))
        watch_outrun(self)

    def own_meter(self, uuid: bytes) -> LagMeter:
        return self._meters.setdefault(uuid, LagMeter())

    def hear_positions(self, peer: Peer, beat: Heartbeat) -> None:
        now = trio.current_time()
        peer.positions = dict(beat.positions)
        peer.unfit = beat.unfit
        for uuid in [uuid for uuid in peer.meters if uuid not in beat.positions]:
            del peer.meters[uuid]
        for uuid, (_, seq, log_bytes) in beat.positions.items():
            peer.meters.setdefault(uuid, LagMeter()).observe(seq, log_bytes, now)

    def hear_states(self, peer: Peer, hello: Hello) -> None:
        """The positions in a Hello, so that a promotion right after it knows of them; heartbeats then tell more. And the peer's delay."""
        peer.delay_s = max(hello.delay_s, self.config.peer_delays_s.get(peer.name, 0))
        for state in hello.databases:
            log_bytes = peer.positions.get(state.uuid, (0, 0, 0))[2]
            peer.positions[state.uuid] = (state.epoch, state.durable_seq, log_bytes)

    def missing_commits(self) -> int:
        """How many commits other nodes are known to have that this one has not: what a promotion may lose."""
        missing = 0
        for uuid in {uuid for peer in self.peers.values() for uuid in peer.positions}:
            if self.dropped.has(uuid):
                continue
            epoch, seq, _ = max(peer.positions[uuid] for peer in self.peers.values() if uuid in peer.positions)
            database = self.database(uuid)
            mine = (database.visible.epoch, database.visible.seq) if database else (0, 0)
            if mine < (epoch, seq):
                missing += max(1, seq - mine[1])
        return missing

    # Alarms.

    def alarm(self, kind: AlarmKind, message: str, *, database: str = "", peer: str = "", passes: bool = False) -> None:
        """INV-6: a difference is an alarm, not a log line (and a log line too, once)."""
        if self.alarms.put(kind, message, now_us=self.seams.time_us(), database=database, peer=peer, passes=passes):
            log.error("%s: %s%s", kind.value, f"database {database!r}: " if database else "", message)

    def compare_marks(self, peer: Peer, database: Database) -> bool:
        """INV-6 at MARKs: whether the peer's hashes and chains equal ours wherever both are known."""
        known = peer.copy(database.uuid)
        old = self._old_marks.get(database.uuid)
        for seq in sorted(known.marks):
            ours = database.marks.get(seq) or (old.get(seq) if old is not None and peer.delay_s else None)
            if ours is None or seq <= known.compared_mark:
                continue
            known.compared_mark = seq
            known.mark_equal = known.marks[seq][1] == ours
            if not known.mark_equal:
                self.alarm(
                    AlarmKind.HASH_DIFFERS,
                    f"INV-6: at MARK {seq} the state hash is {ours} here and {known.marks[seq][1]} on {peer.name}; "
                    "check both copies, then reseed the wrong one",
                    database=database.name,
                    peer=peer.name,
                )
                self.stopped.add((peer.name, database.uuid))
                return False
        return True


def histories(state: DatabaseState) -> tuple:
    """The history in a peer's state."""
    return history_from_lists(state.history)

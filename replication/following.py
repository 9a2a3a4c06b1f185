"""The standby's end of a link, carried: appends what comes, acknowledges it, and does the slow steps one at a time.

Appending happens in the receiving task; creating, setting aside, rewinding and seeding are chores of one other task, so
heartbeats go on meanwhile. Steps that change files are shielded from cancellation: a cut link never leaves one half done
in this process, and a crash is the engine's to finish or undo.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import trio

from storage import Database, DiskFull, PeerError, TwinlogError

from .alarms import AlarmKind
from .conversation import Conversation
from .delaying import HeldFrames
from .links import CHORES_MAX, FRAMES_BYTES_MAX
from .listening import take_common
from .matching import match
from .messages import (
    DATABASES_MAX,
    Created,
    DatabaseState,
    Dropped,
    FetchTail,
    Heartbeat,
    Hello,
    Instruct,
    MarkHash,
    Message,
    Order,
    SeedBegin,
    SeedChunk,
    Stopped,
    Tail,
    cut,
)
from .peers import Peer
from .replica import Replica, histories, log
from .standby_session import Append, Phase, SeedComplete, StandbySession

RETRY_S = 5.0  # before a copy that failed here (full disk, bad seed) is tried again


class Following:
    """The copy of one primary. Invariant: log is appended only in the role and epoch in which the link began (INV-4)."""

    def __init__(self, replica: Replica, conversation: Conversation, peer: Peer, primary: Hello) -> None:
        self._replica = replica
        self._conversation = conversation
        self._peer = peer
        self._primary = primary
        self._began = replica.state
        self._session = StandbySession()
        self._chores: deque[Callable[[], Awaitable[None]]] = deque()
        self._chore_bell = trio.Event()
        self._acks_due: dict[bytes, None] = {}
        self._marks_due: dict[bytes, None] = {}
        self._marks_sent: dict[bytes, int] = {}
        self._subscriptions: dict[bytes, list[Callable[[], None]]] = {}
        self._targets: dict[bytes, object] = {}
        self._retries: dict[bytes, tuple[float, Callable[[], Awaitable[None]]]] = {}  # when, and what to try again
        config = replica.config
        self._held = HeldFrames(delay_us=config.delay_s * 1_000_000, window_bytes=config.window_bytes) if config.delay_s else None
        self._held_bell = trio.Event()
        replica.held = self._held

    async def run(self) -> None:
        self._replica.session = self._session
        try:
            async with trio.open_nursery() as nursery:
                if self._held is not None:
                    nursery.start_soon(self._take_when_due, self._held)
                await self._reconcile()
                while True:
                    self._chore_bell = trio.Event()
                    while self._chores:
                        await self._chores.popleft()()
                    await self._chore_bell.wait()
        finally:
            if self._replica.session is self._session:
                self._replica.session = None
            for uuid in list(self._subscriptions):
                self._unsubscribe(uuid)
            self._replica.held = None

    def on_beat(self) -> None:
        now = trio.current_time()
        for uuid in [uuid for uuid, (at, _) in self._retries.items() if at <= now]:
            self._chore(self._retries.pop(uuid)[1])

    def _chore(self, step: Callable[[], Awaitable[None]]) -> None:
        if len(self._chores) >= CHORES_MAX + 2 * DATABASES_MAX:
            raise PeerError(f"{self._peer.name} orders more than this node can do: {len(self._chores)} steps wait")
        self._chores.append(step)
        self._chore_bell.set()

    @property
    def _current(self) -> bool:
        return self._replica.state == self._began and not self._replica.keeper.yielding

    # What comes in.

    async def on_message(self, message: Message) -> None:
        if isinstance(message, Heartbeat):
            for uuid, floor in message.floors.items():
                if (database := self._replica.database(uuid)) is not None:
                    database.set_floor(floor)
        if await take_common(self._replica, self._peer, message) or not self._current:
            return
        event = self._session.receive(message)
        match event:
            case Append() if self._held is not None:
                self._held.add(event.uuid, event.data)
                self._held_bell.set()
            case Append():
                await self._append(event.uuid, event.data)
            case Instruct():
                self._obey(event)
            case SeedBegin():
                self._chore(lambda: self._begin_seed(event))
            case SeedChunk():
                await self._write_chunk(event)
            case SeedComplete():
                self._chore(lambda: self._finish_seed(event.uuid))
            case Created():
                self._chore(lambda: self._adopt(event.state))
            case Dropped():
                self._chore(lambda: self._drop(event.uuid))
            case FetchTail():
                self._chore(lambda: self._send_tail(event))
            case Stopped():
                self._unsubscribe(event.uuid)
                self._alarm(AlarmKind.REFUSED_COPY, event.uuid, f"{self._peer.name} stopped shipping: {event.reason}")

    async def _append(self, uuid: bytes, data: bytes) -> None:
        """INV-3: whole commits, in order, checked by header and chain."""
        offset, stream = 0, self._subscriptions.get(uuid)
        while offset < len(data):
            database = self._replica.database(uuid)
            if database is not None:
                try:
                    await database.wait_room()
                except TwinlogError as error:
                    return self._fail(uuid, error)
            if not self._current or self._session.phase(uuid) is not Phase.STREAMING or self._subscriptions.get(uuid) is not stream:
                return
            if database is None or self._replica.database(uuid) is not database:
                return self._halt(uuid, "its database is gone here")
            try:
                offset = database.append_some(data, offset)
                database.flush()
            except PeerError as error:
                self._alarm(AlarmKind.CHAIN_DIFFERS, uuid, f"INV-6: {error}")
                return self._halt(uuid, str(error))
            except TwinlogError as error:
                return self._fail(uuid, error)
            await trio.lowlevel.checkpoint()  # one slice at a time (INV-9); who we are is looked at again after it
        self._acks_due[uuid] = None
        self._conversation.wake()

    async def _take_when_due(self, held: HeldFrames) -> None:
        """A delayed standby's commits, each once it is old enough by this node's clock. The clock is looked at again every
        heartbeat, since it may be set."""
        while True:
            self._held_bell = trio.Event()
            while (piece := held.take_due(self._replica.seams.time_us())) is not None:
                await self._append(*piece)
                if not self._current:
                    return  # promoted: what is still held is not this node's history any more
            due_us = held.next_due_us()
            if due_us is None:
                await self._held_bell.wait()
                continue
            wait_s = max(0.0, (due_us - self._replica.seams.time_us()) / 1e6)
            await trio.sleep(min(wait_s, self._replica.config.heartbeat_s))

    def _obey(self, order: Instruct) -> None:
        """An order, checked against this node's own verdict: nothing older or foreign replaces a copy."""
        uuid = order.uuid
        database = self._replica.database(uuid)
        if database is None:
            return self._halt(uuid, "its database is gone here")
        self._replica.anew.discard(uuid)
        own = match(histories(order.state), order.state.seq, database.history, database.position.seq)
        wanted = order.order is Order.SEED and uuid in self._replica.reseed
        if order.order is Order.REFUSE or (own.order is Order.REFUSE and not wanted):
            reason = order.reason if order.order is Order.REFUSE else own.reason
            kind = AlarmKind.CHAIN_DIFFERS if reason.startswith("INV-6") else AlarmKind.REFUSED_COPY
            self._alarm(kind, uuid, reason)
            self._unsubscribe(uuid)
            if order.order is not Order.REFUSE:
                self._halt(uuid, reason)
            return
        log.info("%s: %s %d %s", database.name, order.order.name, order.seq, order.reason)
        if order.order is Order.SEED:
            return self._unsubscribe(uuid)
        if (order.order, order.seq) != (own.order, own.seq):
            raise PeerError(
                f"{self._peer.name} orders {order.order.name} {order.seq} for database {database.name!r}, "
                f"by the histories it is {own.order.name} {own.seq}"
            )
        if order.order is Order.REWIND:
            return self._chore(lambda: self._rewind(uuid, order.seq))
        self._replica.alarms.clear_following(database.name)
        self._subscribe(database)

    # What goes out.

    def _subscribe(self, database: Database) -> None:
        uuid = database.uuid
        self._unsubscribe(uuid)

        def durable(_seq: int) -> None:
            self._acks_due[uuid] = None
            self._conversation.wake()

        def marked(_seq: int) -> None:
            self._marks_due[uuid] = None
            self._conversation.wake()

        self._subscriptions[uuid] = [
            database.visible_advance.subscribe(durable),
            database.mark_advance.subscribe(marked),
        ]
        durable(0)
        marked(0)

    def _unsubscribe(self, uuid: bytes) -> None:
        for unsubscribe in self._subscriptions.pop(uuid, ()):
            unsubscribe()
        self._acks_due.pop(uuid, None)
        self._marks_due.pop(uuid, None)
        if self._held is not None:
            self._held.forget(uuid)

    async def next_messages(self) -> list[Message]:
        messages: list[Message] = []
        for uuid in list(self._acks_due):
            del self._acks_due[uuid]
            if (database := self._replica.database(uuid)) is not None:
                visible = min(database.visible.seq, database.position.seq)
                ack = self._session.ack(uuid, database.position.seq, visible, database.visible_chain)
                if ack is not None:
                    messages.append(ack)
        if messages:
            return messages
        for uuid in list(self._marks_due):
            del self._marks_due[uuid]
            if (database := self._replica.database(uuid)) is not None:
                messages.extend(await self._finished_marks(database))
        return messages

    async def _finished_marks(self, database: Database) -> list[Message]:
        sent = self._marks_sent.get(database.uuid, 0)
        done = [(seq, state_hash) for seq, state_hash in database.marks.items() if state_hash and seq > sent]
        messages: list[Message] = []
        for seq, state_hash in sorted(done):
            chain = await database.chain_at(seq)
            self._marks_sent[database.uuid] = seq
            messages.append(MarkHash(database.uuid, seq, chain or 0, state_hash))
        return messages if self._session.phase(database.uuid) is Phase.STREAMING else []

    # Chores.

    async def _reconcile(self) -> None:
        """Let go of what was dropped, make what is new, and ask about every copy the primary has."""
        theirs = {state.uuid for state in self._primary.databases}
        await self._replica.dropped.add(*(uuid for uuid in self._primary.dropped if uuid not in theirs))
        for database in list(self._replica.engine.databases.values()):
            if database.uuid in theirs:
                continue
            if self._may_go(database):
                await self._set_aside(database.uuid)
            else:
                self._alarm(
                    AlarmKind.UNKNOWN_TO_PRIMARY,
                    database.uuid,
                    f"{self._peer.name} does not have this database (uuid {database.uuid.hex()}) nor remembers dropping "
                    f"it; this copy is kept: promote the node that should be the primary, or set it aside: {self._reseed_of(database)}",
                )
        for state in self._primary.databases:
            self._chore(lambda state=state: self._adopt(state))

    async def _adopt(self, state: DatabaseState) -> None:
        """Ask about a database of the primary's; make an empty one first if there is none."""
        if not self._current or self._session.phase(state.uuid) is not None:
            return
        database = self._replica.database(state.uuid)
        if database is None:
            taken = self._replica.engine.databases.get(state.name)
            if taken is not None and self._may_go(taken):
                await self._set_aside(taken.uuid)
            elif taken is not None:
                return self._alarm(
                    AlarmKind.UNKNOWN_TO_PRIMARY,
                    taken.uuid,
                    f"{self._peer.name} has another database of this name (uuid {state.uuid.hex()}); this copy is kept: promote the node that should "
                    f"be the primary, or set it aside for the primary's: {self._reseed_of(taken)}",
                )
            database = await self._create(state)
        if database is not None and self._replica.dropped.has(state.uuid):  # a restore has brought it back
            await self._replica.dropped.discard(state.uuid)
        if database is not None:
            reseed, anew = database.uuid in self._replica.reseed, database.uuid in self._replica.anew
            self._conversation.post(self._session.follow(self._replica.describe(database), reseed=reseed, anew=anew))

    async def _create(self, state: DatabaseState) -> Database | None:
        shards, crc = state.options.get("shards"), state.options.get("crc")
        if not isinstance(shards, int) or not isinstance(crc, bool):
            raise PeerError(f"database {state.name!r} comes with shards {shards!r} and crc {crc!r}")
        if (why := self._replica.engine.unopened.get(state.name)) is not None:
            self._alarm_named(
                AlarmKind.STANDBY_FAILED,
                state.name,
                f"this copy could not be opened ({why}); it is kept: move its directory away to have it copied anew",
            )
            self._retries[state.uuid] = trio.current_time() + RETRY_S, lambda: self._adopt(state)  # the engine may open it yet
            return None
        try:
            with trio.CancelScope(shield=True):
                await self._replica.engine.create_database(state.name, uuid=state.uuid, shards=shards, crc=crc)
        except TwinlogError as error:
            passes = isinstance(error, DiskFull)
            self._alarm_named(AlarmKind.STANDBY_FAILED, state.name, f"it cannot be made here: {error}", passes=passes)
            self._retries[state.uuid] = trio.current_time() + RETRY_S, lambda: self._adopt(state)
            return None
        self._replica.refresh()
        return self._replica.database(state.uuid)

    async def _drop(self, uuid: bytes) -> None:
        """A drop of the primary's: remembered first, then the copy is moved aside, not removed (INV-7)."""
        await self._replica.dropped.add(uuid)
        await self._set_aside(uuid)

    def _may_go(self, database: Database) -> bool:
        """Whether a copy that the primary does not have is set aside: it was dropped, is empty, or an operator said so."""
        replica = self._replica
        return database.position.seq == 0 or replica.dropped.has(database.uuid) or database.uuid in replica.reseed

    def _reseed_of(self, database: Database) -> str:
        return f"`twinlog cluster reseed {self._replica.config.name} {database.name}`"

    async def _set_aside(self, uuid: bytes) -> None:
        self._unsubscribe(uuid)
        self._session.forget(uuid)
        self._targets.pop(uuid, None)
        if not self._current or (database := self._replica.database(uuid)) is None:
            return
        with trio.CancelScope(shield=True):
            await self._replica.engine.set_aside(database.name)
        self._replica.reseed.discard(uuid)
        self._replica.refresh()

    async def _rewind(self, uuid: bytes, to_seq: int) -> None:
        database = self._replica.database(uuid)
        if database is None or not self._current or self._session.phase(uuid) is not Phase.BUSY:
            return
        self._unsubscribe(uuid)
        try:
            with trio.CancelScope(shield=True):
                rewound = await self._replica.engine.rewind(database.name, to_seq)
                self._replica.refresh()
        except TwinlogError as error:
            return self._fail(uuid, error)
        self._follow(uuid, rewindable=rewound is not None)

    def _follow(self, uuid: bytes, *, rewindable: bool = True) -> None:
        database = self._replica.database(uuid)
        if database is None:
            return self._halt(uuid, "its database is gone here")
        if self._session.phase(uuid) in (Phase.BUSY, Phase.STOPPED):
            self._conversation.post(self._session.follow(self._replica.describe(database), rewindable=rewindable))

    async def _ask_again(self, uuid: bytes) -> None:
        if self._session.phase(uuid) is Phase.STOPPED:
            self._follow(uuid)

    async def _begin_seed(self, begin: SeedBegin) -> None:
        if not self._current or self._session.phase(begin.uuid) is not Phase.SEEDING:
            return
        try:
            target = await self._replica.engine.begin_seed(begin.name, begin.uuid, begin.options, begin.manifest)
            have = dict(await target.missing())
        except TwinlogError as error:
            return self._fail(begin.uuid, error)
        if self._session.phase(begin.uuid) is Phase.SEEDING:
            self._targets[begin.uuid] = target
            self._conversation.post(self._session.need(begin, have))

    async def _write_chunk(self, chunk: SeedChunk) -> None:
        try:
            await self._targets[chunk.uuid].write(chunk.file, chunk.offset, chunk.data)
        except TwinlogError as error:
            self._fail(chunk.uuid, error)

    async def _finish_seed(self, uuid: bytes) -> None:
        target = self._targets.pop(uuid, None)
        if target is None or not self._current:
            return
        try:
            with trio.CancelScope(shield=True):
                await target.finish()
                self._replica.refresh()
        except TwinlogError as error:
            with trio.CancelScope(shield=True):
                await target.abort()
            return self._fail(uuid, error)
        self._replica.reseed.discard(uuid)
        self._follow(uuid)

    async def _send_tail(self, fetch: FetchTail) -> None:
        database = self._replica.database(fetch.uuid)
        run = None if database is None else await database.read_log(fetch.after_seq, FRAMES_BYTES_MAX)
        for part, rest in cut(run.data if run is not None else b"", FRAMES_BYTES_MAX):
            self._conversation.post(Tail(fetch.uuid, part, rest, run is not None))

    # When a copy cannot go on.

    def _halt(self, uuid: bytes, reason: str) -> None:
        """Stop this copy on this link; the others go on."""
        self._unsubscribe(uuid)
        self._targets.pop(uuid, None)
        self._conversation.post(self._session.stop(uuid, reason))

    def _fail(self, uuid: bytes, error: TwinlogError) -> None:
        """This node could not keep up its copy: say so, and try again later."""
        self._alarm(AlarmKind.STANDBY_FAILED, uuid, f"{error.name}: {error}", passes=isinstance(error, DiskFull))
        self._halt(uuid, f"{error.name}: {error}")
        self._retries[uuid] = trio.current_time() + RETRY_S, lambda: self._ask_again(uuid)

    def _alarm(self, kind: AlarmKind, uuid: bytes, message: str, *, passes: bool = False) -> None:
        database = self._replica.database(uuid)
        self._alarm_named(kind, database.name if database else uuid.hex(), message, passes=passes)

    def _alarm_named(self, kind: AlarmKind, name: str, message: str, *, passes: bool = False) -> None:
        self._replica.alarm(kind, message, database=name, peer=self._peer.name, passes=passes)

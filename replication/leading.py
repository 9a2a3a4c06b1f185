"""The primary's end of a link, carried: reads logs and pinned files, and sends what the session says.

Order of a standby's Follow: the histories are matched, the chain at the common point is read, the order is given; a held
database (its reign has not begun) is answered when it is ready, and meanwhile its state counts for the hunt for tails.
"""

from __future__ import annotations

import trio

from storage import Database, PeerError

from .alarms import AlarmKind
from .conversation import Conversation
from .links import PACE_DELAYED_S, PACE_S
from .listening import take_common
from .matching import Verdict, match, settle
from .messages import (
    Ack,
    Batches,
    Created,
    Dropped,
    FetchTail,
    Follow,
    Hello,
    MarkHash,
    Message,
    Order,
    SeedBegin,
    SeedChunk,
    SeedEnd,
    Stopped,
    Tail,
)
from .peers import Peer
from .primary_session import Phase, PrimarySession, ShipChunk, ShipLog
from .replica import Replica, histories, log


class Leading:
    """One standby's link. Invariant: a pin is held from a SEED order to the STREAM order after it, or the link's end."""

    def __init__(self, replica: Replica, conversation: Conversation, peer: Peer, sent: Hello) -> None:
        self._replica = replica
        self._conversation = conversation
        self._peer = peer
        self._session = PrimarySession(
            window_bytes=replica.config.window_bytes, seed_chunk_bytes=replica.config.seed_chunk_bytes, shares=bool(peer.delay_s)
        )
        self._announced = {state.uuid: state.name for state in sent.databases}
        self._asked: dict[bytes, Follow] = {}
        self._pins: dict[bytes, object] = {}
        self._ship_at: dict[bytes, float] = {}  # not before
        self._tails = Batches()
        self._tail_waits: dict[bytes, tuple[trio.Event, list[bytes | None]]] = {}

    @property
    def unacked_bytes(self) -> int:
        return self._session.unacked_bytes

    async def run(self) -> None:
        self._replica.tail_sources[self._peer.name] = self
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._answer_all)
                nursery.start_soon(self._compare_chains)
        finally:
            self._end()

    def _end(self) -> None:
        if self._replica.tail_sources.get(self._peer.name) is self:
            del self._replica.tail_sources[self._peer.name]
        for hunt in self._replica.hunts.values():
            hunt.forget(self._peer.name)
        for event, _ in self._tail_waits.values():
            event.set()
        for pin in self._pins.values():
            pin.release()
        for known in self._peer.copies.values():
            known.streaming = False

    def on_beat(self) -> None:
        return

    async def on_message(self, message: Message) -> None:
        if await take_common(self._replica, self._peer, message):
            return
        window_was_full = self._session.window_full
        event = self._session.receive(message)
        match event:
            case Follow():
                self._asked[event.state.uuid] = event
                if (hunt := self._replica.hunts.get(event.state.uuid)) is not None:
                    hunt.answer(self._peer.name, event.state, counts=not self._peer.delay_s)
                self._replica.bump()
            case Ack():
                self._take_ack(event)
                if not window_was_full:
                    return  # the sender waits for news of the log, not for this
            case MarkHash():
                database = self._replica.database(event.uuid)
                if database is not None:
                    self._peer.copy(event.uuid).put_mark(event.seq, event.chain, event.hash)
                    self._replica.compare_marks(self._peer, database)
                    self._replica.bump()
            case Tail():
                self._take_tail(event)
            case Stopped():
                self._asked.pop(event.uuid, None)
                known = self._peer.copy(event.uuid)
                known.streaming, known.stopped = False, event.reason
                if (pin := self._pins.pop(event.uuid, None)) is not None:
                    pin.release()  # it may be a long time before it asks again, and then it is offered a newer one
                log.error("%s stopped following database %s: %s", self._peer.name, event.uuid.hex(), event.reason)
        self._conversation.wake()

    def _take_ack(self, ack: Ack) -> None:
        known = self._peer.copy(ack.uuid)
        known.received_seq = ack.received_seq
        known.durable_seq = ack.durable_seq
        known.chain = ack.chain
        self._replica.on_confirmed(ack.uuid)

    # Orders.

    async def _answer_all(self) -> None:
        """Every Follow, as soon as its database is ready to be followed."""
        while True:
            seen = self._replica.changes.value
            for uuid in [uuid for uuid in self._asked if uuid in self._replica.ready]:
                follow = self._asked.pop(uuid, None)
                database = self._replica.database(uuid)
                if follow is not None and database is not None:
                    await self._answer(database, follow)
            await self._replica.changes.wait_past(seen)

    async def _answer(self, database: Database, follow: Follow) -> None:
        uuid = database.uuid
        state = self._replica.describe(database)
        copy = follow.state
        verdict = match(histories(state), state.seq, histories(copy), copy.seq)
        if follow.reseed or follow.anew:
            self._replica.stopped.discard((self._peer.name, uuid))
            for kind in (AlarmKind.CHAIN_DIFFERS, AlarmKind.HASH_DIFFERS):
                self._replica.alarms.clear(kind, database=database.name, peer=self._peer.name)
        if (self._peer.name, uuid) in self._replica.stopped:
            verdict = Verdict(Order.REFUSE, 0, "INV-6: copies differed before; an operator must clear the alarm first")
        chain = None
        if verdict.order in (Order.STREAM, Order.REWIND) and verdict.seq > 0:
            chain = await database.chain_at(verdict.seq)
        verdict = settle(
            verdict,
            primary_chain=chain,
            standby_chain=copy.chain,
            rewindable=follow.rewindable,
            reseed=follow.reseed,
            # A delayed standby is seeded only when it must be: by the log it comes to its delay, by files it is too new for a while.
            files_rather=database.sealed_bytes >= self._replica.config.seed_bytes_min and not self._peer.delay_s,
        )
        if not self._is_at(database, Phase.ASKED):
            return
        if verdict.order is Order.REFUSE:
            kind = AlarmKind.CHAIN_DIFFERS if verdict.reason.startswith("INV-6") else AlarmKind.REFUSED_COPY
            self._replica.alarm(kind, verdict.reason, database=database.name, peer=self._peer.name)
        else:
            self._replica.alarms.clear(AlarmKind.REFUSED_COPY, database=database.name, peer=self._peer.name)
        log.info("%s: %s: %s %d %s", self._peer.name, database.name, verdict.order.name, verdict.seq, verdict.reason)
        known = self._peer.copy(uuid)
        known.streaming = verdict.order is Order.STREAM
        known.seed_bytes_left, known.stopped = 0, ""
        known.durable_seq = None
        if verdict.order in (Order.STREAM, Order.REWIND):
            known.durable_seq = min(copy.durable_seq, verdict.seq)
            known.received_seq = verdict.seq
        self._conversation.post(self._session.instruct(uuid, verdict, state))
        if verdict.order is Order.STREAM:
            if (pin := self._pins.pop(uuid, None)) is not None:
                pin.release()
            self._replica.on_advance(uuid)
        elif verdict.order is Order.SEED:
            await self._offer(database)

    async def _offer(self, database: Database) -> None:
        """Pin a checkpoint, and the log from there, and name its files."""
        pin = await database.pin_checkpoint()
        if pin is None:
            raise PeerError(f"database {database.name!r} has no commit to make a checkpoint of: nothing to seed from")
        if not self._is_at(database, Phase.ORDERED):
            pin.release()
            return
        if (old := self._pins.pop(database.uuid, None)) is not None:
            old.release()
        self._pins[database.uuid] = pin
        options = dict(database.options)
        begin = SeedBegin(database.uuid, database.name, options, pin.seq, pin.manifest, list(pin.files))
        self._conversation.post(self._session.offer(begin))
        self._peer.copy(database.uuid).seed_bytes_left = sum(length for _, length in pin.files)

    def _is_at(self, database: Database, phase: Phase) -> bool:
        """After waiting: whether nothing has overtaken what is being done."""
        shipment = self._session.shipment(database.uuid)
        return (
            self._replica.database(database.uuid) is database
            and database.uuid in self._replica.ready
            and shipment is not None
            and shipment.phase is phase
        )

    # Shipping.

    async def next_messages(self) -> list[Message]:
        replica = self._replica
        if announced := self._announce():
            return announced
        for database in replica.engine.databases.values():
            if (self._peer.name, database.uuid) in replica.stopped and self._is_at(database, Phase.STREAMING):
                return [self._stop(database, "INV-6: this copy differs from the primary's")]
            if database.uuid in replica.ready:
                self._session.news(database.uuid, database.visible.seq)
        for _ in range(len(replica.engine.databases) + 1):
            step = self._session.next_step()
            match step:
                case ShipLog():
                    messages = await self._ship_log(step)
                case ShipChunk():
                    messages = await self._ship_chunk(step)
                case None:
                    break
            if messages:
                return messages
        return []

    def _announce(self) -> list[Message]:
        messages: list[Message] = []
        here = {database.uuid: database for database in self._replica.engine.databases.values()}
        for uuid, database in here.items():
            if uuid not in self._announced:
                self._announced[uuid] = database.name
                messages.append(Created(self._replica.describe(database)))
        for uuid in [uuid for uuid in self._announced if uuid not in here and self._replica.dropped.has(uuid)]:
            messages.append(Dropped(uuid, self._announced.pop(uuid)))
            self._forget(uuid)
        return messages

    def _forget(self, uuid: bytes) -> None:
        self._session.forget(uuid)
        self._asked.pop(uuid, None)
        self._ship_at.pop(uuid, None)
        if (pin := self._pins.pop(uuid, None)) is not None:
            pin.release()

    def _stop(self, database: Database, reason: str) -> Stopped:
        self._session.stop(database.uuid)
        self._peer.copy(database.uuid).streaming = False
        return Stopped(database.uuid, reason)

    async def _ship_log(self, step: ShipLog) -> list[Message]:
        database = self._replica.database(step.uuid)
        if database is None:
            self._session.stop(step.uuid)
            return []
        await self._keep_pace(step.uuid)
        run = await database.read_log(step.after_seq, step.bytes_max)
        shipment = self._session.shipment(step.uuid)
        if not self._is_at(database, Phase.STREAMING) or shipment is None or shipment.sent_seq != step.after_seq:
            return []
        if run is None:
            verdict = Verdict(Order.SEED, 0, f"the primary's log no longer holds what follows commit {step.after_seq}")
            known = self._peer.copy(step.uuid)
            known.streaming = False
            order = self._session.instruct(step.uuid, verdict, self._replica.describe(database))
            self._conversation.post(order)
            await self._offer(database)
            return []
        if not run.data:
            return []
        if run.last_seq >= database.visible.seq and (self._peer.delay_s or not self._replica.config.acks):
            self._ship_at[step.uuid] = trio.current_time() + (PACE_DELAYED_S if self._peer.delay_s else PACE_S)
        return list(self._session.shipped(step.uuid, run.data, run.last_seq))

    async def _keep_pace(self, uuid: bytes) -> None:
        """Small commits go out together: a message costs each end's loop some hundred microseconds, as much as a commit of a
        lone client. Where acknowledgements count each goes at once."""
        ship_at = self._ship_at.pop(uuid, 0.0)
        if trio.current_time() < ship_at:
            await trio.sleep_until(ship_at)

    async def _ship_chunk(self, step: ShipChunk) -> list[Message]:
        if step.chunk is None:
            self._session.seeded(step.uuid)
            self._peer.copy(step.uuid).seed_bytes_left = 0
            return [SeedEnd(step.uuid)]
        chunk = step.chunk
        data = await self._pins[step.uuid].read(chunk.file, chunk.offset, chunk.length)
        shipment = self._session.shipment(step.uuid)
        if shipment is None or shipment.phase is not Phase.SEEDING:
            return []
        if len(data) != chunk.length:
            raise PeerError(f"seed: {chunk.file} gave {len(data)} bytes at {chunk.offset}, {chunk.length} are promised")
        assert shipment.plan is not None
        self._peer.copy(step.uuid).seed_bytes_left = shipment.plan.bytes_left
        return [SeedChunk(step.uuid, chunk.file, chunk.offset, data)]

    # Checks and tails.

    async def _compare_chains(self) -> None:
        """INV-6, once a heartbeat: the chain at each standby's durable end equals ours there. A delayed one's end stands deep in the log,
        where looking a commit up costs a pass over its segment: so seldomer."""
        config = self._replica.config
        while True:
            await trio.sleep(config.mark_interval_s if self._peer.delay_s else config.heartbeat_s)
            for database in list(self._replica.engine.databases.values()):
                known = self._peer.copies.get(database.uuid)
                if known is None or not known.streaming or not known.durable_seq:
                    continue
                seq, theirs = known.durable_seq, known.chain
                if seq <= known.checked_seq or not self._is_at(database, Phase.STREAMING):
                    continue
                shipment = self._session.shipment(database.uuid)
                if shipment is None or shipment.durable_seq != seq:
                    continue  # no acknowledgement on this link yet
                ours = await database.chain_at(seq)
                known.checked_seq = seq
                if ours is not None and ours != theirs:
                    self._replica.alarm(
                        AlarmKind.CHAIN_DIFFERS,
                        f"INV-6: at commit {seq} the chain is {ours:016x} here and {theirs:016x} on {self._peer.name}",
                        database=database.name,
                        peer=self._peer.name,
                    )
                    self._replica.stopped.add((self._peer.name, database.uuid))
                    self._conversation.wake()

    async def fetch_tail(self, uuid: bytes, after_seq: int) -> bytes | None:
        """Ask this standby for log beyond ours. Raises PeerError when the link ends first."""
        event, box = self._tail_waits[uuid] = (trio.Event(), [])
        try:
            self._conversation.post(FetchTail(uuid, after_seq))
            await event.wait()
        finally:
            del self._tail_waits[uuid]
        if not box:
            raise PeerError(f"the link with {self._peer.name} ended while its tail was read")
        return box[0]

    def _take_tail(self, tail: Tail) -> None:
        data = self._tails.add(tail)
        waiting = self._tail_waits.get(tail.uuid)
        if data is None or waiting is None:
            return
        waiting[1].append(data if tail.held else None)
        waiting[0].set()

"""The primary's end of one link with one standby. No link, no engine, no clock.

It multiplexes all databases over the link: `next_step` names the next read, one database after the other, so that a
seed or a long catch-up does not starve the rest. Catch-up and live are one thing: log bytes after the last seq sent.

Invariants: bytes shipped and not yet durable at the standby stay below window_bytes plus one batch, or where the databases share
the window below twice window_bytes plus one batch (INV-8); an
acknowledgement never goes beyond what was sent; nothing is sent for a database between an order and the standby's answer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from storage import PeerError

from .links import FRAMES_BYTES_MAX
from .matching import Verdict
from .messages import (
    Ack,
    DatabaseState,
    Follow,
    Frames,
    Instruct,
    MarkHash,
    Message,
    Order,
    SeedBegin,
    SeedNeed,
    Stopped,
    Tail,
    cut,
)
from .seeding import Chunk, SeedPlan


class Phase(Enum):
    """Where one database is, seen from the primary."""

    ASKED = "its standby waits for an order"
    STREAMING = "its log is shipped"
    ORDERED = "its standby cuts or replaces its copy"
    OFFERED = "its files were offered"
    SEEDING = "its files are shipped"
    STOPPED = "refused or stopped"


@dataclass(frozen=True, slots=True)
class ShipLog:
    uuid: bytes
    after_seq: int
    bytes_max: int = FRAMES_BYTES_MAX


@dataclass(frozen=True, slots=True)
class ShipChunk:
    """chunk None: every file is sent, SeedEnd comes next."""

    uuid: bytes
    chunk: Chunk | None


@dataclass(slots=True)
class Shipment:
    """One database on this link. unacked: (last seq, bytes) of each batch that is not yet durable over there."""

    phase: Phase = Phase.ASKED
    sent_seq: int = 0
    received_seq: int = 0
    durable_seq: int = 0
    chain: int = 0
    visible_seq: int = 0
    unacked: deque[tuple[int, int]] = field(default_factory=deque)
    unacked_bytes: int = 0
    files: dict[str, int] = field(default_factory=dict)
    plan: SeedPlan | None = None


Event = Follow | Ack | MarkHash | SeedNeed | Tail | Stopped | None

_AFTER_ORDER = {
    Order.STREAM: Phase.STREAMING,
    Order.REWIND: Phase.ORDERED,
    Order.SEED: Phase.ORDERED,
    Order.REFUSE: Phase.STOPPED,
}


class PrimarySession:
    """Every database's shipment over one link, and whose turn it is."""

    def __init__(self, *, window_bytes: int, seed_chunk_bytes: int, shares: bool = False) -> None:
        """shares: each database has its equal part of the window. For a standby that takes its time with what it was sent, a delayed one:
        commits of one database that wait to be old enough must not keep another's, which are older, from being sent."""
        self._window_bytes = window_bytes
        self._shares = shares
        self._seed_chunk_bytes = seed_chunk_bytes
        self.unacked_bytes = 0
        self._shipments: dict[bytes, Shipment] = {}
        self._turns: deque[bytes] = deque()

    def shipment(self, uuid: bytes) -> Shipment | None:
        return self._shipments.get(uuid)

    @property
    def window_full(self) -> bool:
        """Whether an acknowledgement may be what the next log waits for."""
        return self._shares or self.unacked_bytes >= self._window_bytes

    def receive(self, message: Message) -> Event:
        """What a message of the standby means; None when it is late and means nothing any more."""
        match message:
            case Follow():
                return self._receive_follow(message)
            case Ack():
                return self._receive_ack(message)
            case MarkHash() | Tail():
                return message if message.uuid in self._shipments else None
            case SeedNeed():
                shipment = self._shipments.get(message.uuid)
                if shipment is None or shipment.phase is Phase.STOPPED:
                    return None
                if shipment.phase is not Phase.OFFERED:
                    raise PeerError(f"SeedNeed for database {message.uuid.hex()}, of which {shipment.phase.value}")
                shipment.plan = SeedPlan(shipment.files, message.have, self._seed_chunk_bytes)
                shipment.phase = Phase.SEEDING
                return message
            case Stopped():
                self.stop(message.uuid)
                return message
            case _:
                raise PeerError(f"a standby sent {type(message).__name__}, which only a primary may send")

    def instruct(self, uuid: bytes, verdict: Verdict, state: DatabaseState) -> Instruct:
        """Give an order. After STREAM, log is shipped from verdict.seq on."""
        shipment = self._shipments[uuid]
        assert shipment.phase in (Phase.ASKED, Phase.STREAMING), f"an order while {shipment.phase.value}"
        self._clear(shipment)
        shipment.phase = _AFTER_ORDER[verdict.order]
        if verdict.order is Order.STREAM:
            shipment.sent_seq = shipment.received_seq = verdict.seq
            shipment.durable_seq = 0  # until the first acknowledgement says
        return Instruct(uuid, verdict.order, verdict.seq, verdict.reason, state)

    def offer(self, begin: SeedBegin) -> SeedBegin:
        """After a SEED order: name the pinned files."""
        shipment = self._shipments[begin.uuid]
        assert shipment.phase is Phase.ORDERED, f"an offer while {shipment.phase.value}"
        shipment.phase = Phase.OFFERED
        shipment.files = dict(begin.files)
        return begin

    def stop(self, uuid: bytes) -> None:
        """Nothing more goes out for this database."""
        if (shipment := self._shipments.get(uuid)) is not None:
            self._clear(shipment)
            shipment.phase = Phase.STOPPED

    def forget(self, uuid: bytes) -> None:
        if (shipment := self._shipments.pop(uuid, None)) is not None:
            self._clear(shipment)
            self._turns.remove(uuid)

    def news(self, uuid: bytes, visible_seq: int) -> None:
        """The primary's visible end moved."""
        if (shipment := self._shipments.get(uuid)) is not None:
            shipment.visible_seq = max(shipment.visible_seq, visible_seq)

    def next_step(self) -> ShipLog | ShipChunk | None:
        """What to read and send next; None until news, an acknowledgement or an answer comes."""
        for _ in range(len(self._turns)):
            uuid = self._turns[0]
            self._turns.rotate(-1)
            shipment = self._shipments[uuid]
            if shipment.phase is Phase.SEEDING:
                assert shipment.plan is not None
                return ShipChunk(uuid, shipment.plan.next())
            behind = shipment.phase is Phase.STREAMING and shipment.visible_seq > shipment.sent_seq
            if behind and self._shares:
                share = max(1, self._window_bytes // len(self._shipments))
                if shipment.unacked_bytes < share and self.unacked_bytes < 2 * self._window_bytes:
                    return ShipLog(uuid, shipment.sent_seq, min(FRAMES_BYTES_MAX, share))
            elif behind and not self.window_full:
                return ShipLog(uuid, shipment.sent_seq)
        return None

    def shipped(self, uuid: bytes, data: bytes, last_seq: int) -> list[Frames]:
        """The messages that carry one batch read for ShipLog."""
        shipment = self._shipments[uuid]
        assert last_seq > shipment.sent_seq, f"a batch up to {last_seq} after {shipment.sent_seq}"
        shipment.sent_seq = last_seq
        shipment.unacked.append((last_seq, len(data)))
        shipment.unacked_bytes += len(data)
        self.unacked_bytes += len(data)
        return [Frames(uuid, part, rest) for part, rest in cut(data, FRAMES_BYTES_MAX)]

    def seeded(self, uuid: bytes) -> None:
        """SeedEnd went out: the standby answers with Follow."""
        shipment = self._shipments[uuid]
        shipment.phase = Phase.ORDERED
        shipment.plan = None

    def _receive_follow(self, message: Follow) -> Follow:
        uuid = message.state.uuid
        shipment = self._shipments.get(uuid)
        if shipment is None:
            shipment = self._shipments[uuid] = Shipment()
            self._turns.append(uuid)
        elif shipment.phase not in (Phase.ORDERED, Phase.STOPPED):
            raise PeerError(f"Follow for database {message.state.name!r}, of which {shipment.phase.value}")
        self._clear(shipment)
        shipment.phase = Phase.ASKED
        return message

    def _receive_ack(self, message: Ack) -> Ack | None:
        shipment = self._shipments.get(message.uuid)
        if shipment is None or shipment.phase is not Phase.STREAMING:
            return None
        if message.received_seq > shipment.sent_seq:
            raise PeerError(f"acknowledged {message.received_seq}, but only {shipment.sent_seq} was sent")
        if message.received_seq < shipment.received_seq or message.durable_seq < shipment.durable_seq:
            raise PeerError(
                f"acknowledgement ({message.received_seq}, {message.durable_seq}) goes back behind "
                f"({shipment.received_seq}, {shipment.durable_seq})"
            )
        shipment.received_seq = message.received_seq
        shipment.durable_seq = message.durable_seq
        shipment.chain = message.chain
        while shipment.unacked and shipment.unacked[0][0] <= message.durable_seq:
            size = shipment.unacked.popleft()[1]
            shipment.unacked_bytes -= size
            self.unacked_bytes -= size
        return message

    def _clear(self, shipment: Shipment) -> None:
        self.unacked_bytes -= shipment.unacked_bytes
        shipment.unacked_bytes = 0
        shipment.unacked.clear()
        shipment.plan = None

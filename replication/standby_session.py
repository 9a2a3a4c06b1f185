"""The standby's end of one link with its primary. No link, no engine, no clock.

A message goes in, and an event that says what must be done comes out (or PeerError). Invariants: for each database the
batches of log leave in the order in which the primary sent them, only between a STREAM order and the next order (INV-3);
chunks of a seed leave in order, file by file, and SeedComplete only after every byte that was asked for.

    ASKED ──STREAM──► STREAMING ──SEED──┐        STOPPED: the primary refused, or this end stopped; what is still on
      ├───REWIND──► BUSY ──follow()──► ASKED     its way is dropped.
      └───SEED────► SEED_ORDERED ─► SEEDING ─► BUSY ──follow()──► ASKED
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from storage import PeerError

from .messages import (
    Ack,
    Batches,
    Created,
    DatabaseState,
    Dropped,
    FetchTail,
    Follow,
    Frames,
    Instruct,
    Message,
    Order,
    SeedBegin,
    SeedChunk,
    SeedEnd,
    SeedNeed,
    Stopped,
)
from .seeding import SeedProgress


class Phase(Enum):
    """Where one database is, seen from the standby."""

    ASKED = "waits for the primary's order"
    STREAMING = "receives the log"
    BUSY = "is being cut or replaced here"
    SEED_ORDERED = "waits for the list of files"
    SEEDING = "receives files"
    STOPPED = "refused or stopped"


@dataclass(frozen=True, slots=True)
class Append:
    """Whole commits, to be checked and appended."""

    uuid: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class SeedComplete:
    uuid: bytes


Event = Append | SeedComplete | Instruct | SeedBegin | SeedChunk | Created | Dropped | FetchTail | Stopped | None

_AFTER_ORDER = {
    Order.STREAM: Phase.STREAMING,
    Order.REWIND: Phase.BUSY,
    Order.SEED: Phase.SEED_ORDERED,
    Order.REFUSE: Phase.STOPPED,
}


class StandbySession:
    """Per database: its phase, the half-received batch, the seed under way, and the last acknowledgement."""

    def __init__(self) -> None:
        self._phases: dict[bytes, Phase] = {}
        self._batches = Batches()
        self._seeds: dict[bytes, SeedProgress] = {}
        self._acked: dict[bytes, tuple[int, int]] = {}

    def phase(self, uuid: bytes) -> Phase | None:
        return self._phases.get(uuid)

    def follow(self, state: DatabaseState, *, rewindable: bool = True, reseed: bool = False, anew: bool = False) -> Follow:
        """Ask about one copy: at the beginning, after a rewind, after a seed."""
        assert self._phases.get(state.uuid) in (None, Phase.BUSY, Phase.STOPPED), "asked twice"
        self._phases[state.uuid] = Phase.ASKED
        self._acked.pop(state.uuid, None)
        return Follow(state, rewindable, reseed, anew)

    def need(self, begin: SeedBegin, have: dict[str, int]) -> SeedNeed:
        """Answer a SeedBegin with what is missing. The primary then sends just that."""
        self._seeds[begin.uuid].start(have)
        return SeedNeed(begin.uuid, have)

    def stop(self, uuid: bytes, reason: str) -> Stopped:
        """This end will not go on with one database."""
        self._phases[uuid] = Phase.STOPPED
        self._batches.forget(uuid)
        self._seeds.pop(uuid, None)
        return Stopped(uuid, reason)

    def forget(self, uuid: bytes) -> None:
        """The database is gone here; it may come back under the same UUID only through Created."""
        for table in (self._phases, self._seeds, self._acked):
            table.pop(uuid, None)
        self._batches.forget(uuid)

    def ack(self, uuid: bytes, received_seq: int, durable_seq: int, chain: int) -> Ack | None:
        """An acknowledgement, when there is something new to say and the primary listens."""
        if self._phases.get(uuid) is not Phase.STREAMING or self._acked.get(uuid) == (received_seq, durable_seq):
            return None
        self._acked[uuid] = (received_seq, durable_seq)
        return Ack(uuid, received_seq, durable_seq, chain)

    def receive(self, message: Message) -> Event:
        """What a message of the primary asks for; None when nothing."""
        match message:
            case Created() | Dropped():
                return message
            case Instruct():
                return self._receive_order(message)
            case Frames():
                return self._receive_frames(message)
            case SeedBegin():
                if self._expect(message.uuid, message, Phase.SEED_ORDERED):
                    self._phases[message.uuid] = Phase.SEEDING
                    self._seeds[message.uuid] = SeedProgress(dict(message.files))
                    return message
            case SeedChunk():
                if self._expect(message.uuid, message, Phase.SEEDING):
                    self._seeds[message.uuid].take(message.file, message.offset, len(message.data))
                    return message
            case SeedEnd():
                if self._expect(message.uuid, message, Phase.SEEDING):
                    self._seeds.pop(message.uuid).finish()
                    self._phases[message.uuid] = Phase.BUSY
                    return SeedComplete(message.uuid)
            case FetchTail():
                if self._expect(message.uuid, message, Phase.ASKED):
                    return message
            case Stopped():
                if self._phases.get(message.uuid) is not None:
                    self.stop(message.uuid, message.reason)
                return message
            case _:
                raise PeerError(f"a primary sent {type(message).__name__}, which only a standby may send")
        return None

    def _receive_order(self, message: Instruct) -> Instruct | None:
        expected = (Phase.ASKED,)
        if message.order in (Order.SEED, Order.REFUSE):
            expected = (Phase.ASKED, Phase.STREAMING)
        if not self._expect(message.uuid, message, *expected):
            return None
        self._batches.forget(message.uuid)
        self._phases[message.uuid] = _AFTER_ORDER[message.order]
        return message

    def _receive_frames(self, message: Frames) -> Append | None:
        if not self._expect(message.uuid, message, Phase.STREAMING):
            return None
        data = self._batches.add(message)
        return Append(message.uuid, data) if data else None

    def _expect(self, uuid: bytes, message: Message, *phases: Phase) -> bool:
        """False when the message is to be dropped; PeerError when it is out of place."""
        phase = self._phases.get(uuid)
        if phase in phases:
            return True
        if phase is Phase.STOPPED or phase is None:
            return False
        raise PeerError(f"{type(message).__name__} for database {uuid.hex()}, which {phase.value}")

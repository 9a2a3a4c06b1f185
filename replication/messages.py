"""The messages of a replication link: values to bytes and back. Pure; knows no link.

Each message is one MessagePack array whose first element is its tag. Both ends send Hello first. Then, between a primary
and a standby, for each database:

    primary                               standby
       │ ◄──────────────── Follow(state) ─── │   here is where my copy ends
       │ ─── Instruct(STREAM, seq) ────────► │   then Frames from there on, for good
       │ ─── Instruct(REWIND, seq) ────────► │   it cuts its copy and says Follow again
       │ ─── Instruct(SEED) ───────────────► │   then SeedBegin ► ◄ SeedNeed, SeedChunk ► ..., SeedEnd ►, Follow again
       │ ─── Instruct(REFUSE, reason) ─────► │   an alarm on both ends; nothing is touched until an operator says reseed
       │ ◄── Ack, MarkHash ───────────────── │
       │ ◄────────── Heartbeat ────────────► │

Two nodes ask each other for what one of them has damaged, whichever leads: RecordWanted ►, ◄ RecordFound (record_exchange.py).

A primary that opened after an unclean stop first reads what its standbys have more than itself: FetchTail ►, ◄ Tail.
Bytes in Frames and Tail are whole commits as they stand in the log; a batch longer than FRAMES_BYTES_MAX is cut into
several messages, `rest` telling how many bytes of the batch are still to come.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from storage import DOCUMENT_BYTES_MAX, PeerError

from .links import MESSAGE_BYTES_MAX
from .pausing import is_sound

PROTOCOL = 1
DATABASES_MAX = 10_000
DROPPED_MAX = 10_000
HISTORY_MAX = 100_000
KEY_BYTES_MAX = 8_192
UNFIT_CHARS_MAX = 500
BATCH_BYTES_MAX = 80 * 2**20  # one commit is at most 16 MiB of documents plus its ids and table


class Order(IntEnum):
    """What a primary tells a standby to do with one database."""

    STREAM = 1
    REWIND = 2
    SEED = 3
    REFUSE = 4


class DatabaseState(msgspec.Struct, array_like=True, frozen=True):
    """One copy of one database: which it is and where it ends. chain is the chain at seq, the appended end."""

    name: str
    uuid: bytes
    options: dict[str, int | bool | str]
    history: list[list[int]]  # reigns as [epoch, id, first_seq, chain]
    epoch: int
    seq: int
    chain: int
    durable_seq: int


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """The first message of both ends. dropped: UUIDs that the sender knows were dropped by a primary."""

    protocol: int
    cluster: str
    node: str
    node_id: str
    role: str
    epoch: int
    address: str
    databases: list[DatabaseState]
    dropped: list[bytes]
    hands_over_to: str = ""  # the node to which the sender, primary until now, was ordered to give the office
    declined: str = ""  # the node whose office the sender declined in this epoch
    reason: str = ""  # why it did
    delay_s: int = 0  # the sender, as a standby, stays so far behind
    pause: tuple[int, int, str] = (0, 0, "")  # the newest word on the pause that the sender knows (pausing.py)


class Fence(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The sender knows of a higher epoch than the receiver's: whoever is primary of less steps down."""

    epoch: int
    node: str


class Follow(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """A standby asks what to do with its copy. rewindable: False after a rewind for which no checkpoint was usable.

    reseed: an operator has ordered this copy to be replaced, whatever its state. anew: an operator has looked at a copy that was stopped; it is
    compared as if it had never been.
    """

    state: DatabaseState
    rewindable: bool
    reseed: bool = False
    anew: bool = False


class Instruct(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """The answer to Follow, with the primary's own state, so that the standby can check the verdict itself."""

    uuid: bytes
    order: Order
    seq: int
    reason: str
    state: DatabaseState


class Created(msgspec.Struct, array_like=True, frozen=True, tag=5):
    state: DatabaseState


class Dropped(msgspec.Struct, array_like=True, frozen=True, tag=6):
    uuid: bytes
    name: str


class Frames(msgspec.Struct, array_like=True, frozen=True, tag=7):
    uuid: bytes
    data: bytes
    rest: int


class SeedBegin(msgspec.Struct, array_like=True, frozen=True, tag=8):
    uuid: bytes
    name: str
    options: dict[str, int | bool | str]
    seq: int
    manifest: bytes
    files: list[tuple[str, int]]


class SeedNeed(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """have: for every file that is not complete, how many of its bytes are staged already."""

    uuid: bytes
    have: dict[str, int]


class SeedChunk(msgspec.Struct, array_like=True, frozen=True, tag=10):
    uuid: bytes
    file: str
    offset: int
    data: bytes


class SeedEnd(msgspec.Struct, array_like=True, frozen=True, tag=11):
    uuid: bytes


class Ack(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """chain is the chain at durable_seq."""

    uuid: bytes
    received_seq: int
    durable_seq: int
    chain: int


class MarkHash(msgspec.Struct, array_like=True, frozen=True, tag=13):
    uuid: bytes
    seq: int
    chain: int  # 0 when the log no longer holds that seq
    hash: str


class Heartbeat(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """positions: uuid -> (epoch, seq, log bytes) of the sender's visible end; floors: uuid -> seq, from a primary.

    pause: as in Hello. unfit: why the sender could not lead if it were promoted now; empty when it could.
    """

    role: str
    epoch: int
    positions: dict[bytes, tuple[int, int, int]]
    floors: dict[bytes, int]
    time_us: int
    pause: tuple[int, int, str] = (0, 0, "")
    unfit: str = ""


class FetchTail(msgspec.Struct, array_like=True, frozen=True, tag=15):
    uuid: bytes
    after_seq: int


class Tail(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """held: False when the standby's log no longer holds what was asked for. Empty data: nothing more."""

    uuid: bytes
    data: bytes
    rest: int
    held: bool


class Stopped(msgspec.Struct, array_like=True, frozen=True, tag=17):
    """The sender will not go on with this database on this link, and why."""

    uuid: bytes
    reason: str


class RecordWanted(msgspec.Struct, array_like=True, frozen=True, tag=18):
    """Either end, on any link: one record of its copy is damaged; the peer may have what was written. key_hash: of collection and key.

    length: of the whole shard record. The write of (seq, row), or when these are 0 the newest of that key up to seq_max.
    """

    uuid: bytes
    ticket: int
    collection: int
    key_hash: int
    length: int
    is_deletion: bool
    seq_max: int
    seq: int
    row: int


class RecordFound(msgspec.Struct, array_like=True, frozen=True, tag=19):
    """The answer to RecordWanted of that ticket. held: False when the sender does not have it, and nothing else counts."""

    uuid: bytes
    ticket: int
    held: bool
    key: bytes = b""
    doc: bytes = b""
    seq: int = 0
    row: int = 0
    time_us: int = 0


Message = (
    Hello
    | Fence
    | Follow
    | Instruct
    | Created
    | Dropped
    | Frames
    | SeedBegin
    | SeedNeed
    | SeedChunk
    | SeedEnd
    | Ack
    | MarkHash
    | Heartbeat
    | FetchTail
    | Tail
    | Stopped
    | RecordWanted
    | RecordFound
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message:
    """One message from a peer, checked. Raises PeerError."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise PeerError(f"replication message of {len(data)} bytes, limit {MESSAGE_BYTES_MAX}")
    try:
        message = _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise PeerError(f"replication message cannot be read: {error}") from error
    _check(message)
    return message


def _check_words(message: Hello | Heartbeat) -> None:
    if not is_sound(message.pause):
        raise PeerError(f"a word on the pause with times {message.pause[:2]} and a reason of {len(message.pause[2])} characters")
    if isinstance(message, Heartbeat) and len(message.unfit) > UNFIT_CHARS_MAX:
        raise PeerError(f"a reason of {len(message.unfit)} characters for being unfit, limit {UNFIT_CHARS_MAX}")


def _check(message: Message) -> None:
    if isinstance(message, Hello | Heartbeat):
        _check_words(message)
    match message:
        case Hello():
            if len(message.databases) > DATABASES_MAX or len(message.dropped) > DROPPED_MAX:
                raise PeerError(
                    f"Hello names {len(message.databases)} databases (limit {DATABASES_MAX}) and "
                    f"{len(message.dropped)} dropped ones (limit {DROPPED_MAX})"
                )
            if message.delay_s < 0:
                raise PeerError(f"Hello names a delay of {message.delay_s} s")
            for state in message.databases:
                _check_state(state)
        case Follow(state=state) | Instruct(state=state) | Created(state=state):
            _check_state(state)
        case Frames(rest=rest) | Tail(rest=rest):
            if not 0 <= rest <= BATCH_BYTES_MAX:
                raise PeerError(f"log batch with {rest} bytes to come, limit {BATCH_BYTES_MAX}")
        case Ack():
            if not 0 <= message.durable_seq <= message.received_seq:
                raise PeerError(f"acknowledged durable {message.durable_seq} beyond received {message.received_seq}")
        case RecordWanted():
            places = (message.ticket, message.collection, message.key_hash, message.length)
            if min(*places, message.seq_max, message.seq, message.row) < 0 or len(message.uuid) != 16:
                raise PeerError(f"a record of {message.length} bytes is asked for by impossible numbers")
        case RecordFound():
            if len(message.doc) > DOCUMENT_BYTES_MAX or len(message.key) > KEY_BYTES_MAX or min(message.seq, message.row, message.time_us) < 0:
                raise PeerError(f"record found: key of {len(message.key)} and document of {len(message.doc)} bytes, or impossible numbers")


def _check_state(state: DatabaseState) -> None:
    if len(state.uuid) != 16:
        raise PeerError(f"database {state.name!r}: UUID of {len(state.uuid)} bytes, must be 16")
    if len(state.history) > HISTORY_MAX:
        raise PeerError(f"database {state.name!r}: history of {len(state.history)} reigns, limit {HISTORY_MAX}")
    first = 0
    epoch = 0
    for reign in state.history:
        if len(reign) != 4 or reign[2] <= first or reign[0] < epoch or min(reign) < 0:
            raise PeerError(f"database {state.name!r}: reign {reign} does not follow epoch {epoch}, seq {first}")
        epoch, first = reign[0], reign[2]
    if state.seq < first or state.seq < 0 or not 0 <= state.durable_seq <= state.seq:
        raise PeerError(
            f"database {state.name!r}: seq {state.seq} (durable {state.durable_seq}) does not fit "
            f"a last reign that began at {first}"
        )


class Batches:
    """Puts cut batches together again, one database at a time each. Invariant: holds at most BATCH_BYTES_MAX each."""

    def __init__(self) -> None:
        self._parts: dict[bytes, tuple[list[bytes], int]] = {}

    def add(self, message: Frames | Tail) -> bytes | None:
        """The whole batch once its last part is here. Raises PeerError when the parts do not fit together."""
        parts, expected = self._parts.pop(message.uuid, ([], -1))
        if expected >= 0 and expected != len(message.data) + message.rest:
            raise PeerError(f"log batch: {len(message.data)} + {message.rest} bytes to come, expected {expected}")
        parts.append(message.data)
        if message.rest:
            if not message.data:
                raise PeerError(f"log batch: an empty part with {message.rest} bytes to come")
            self._parts[message.uuid] = (parts, message.rest)
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def forget(self, uuid: bytes) -> None:
        self._parts.pop(uuid, None)


def cut(data: bytes, limit: int) -> list[tuple[bytes, int]]:
    """A batch as (part, bytes still to come), each part at most limit bytes; one empty part for an empty batch."""
    if len(data) <= limit:
        return [(data, 0)]
    view = memoryview(data)
    return [
        (bytes(view[at : at + limit]), max(0, len(data) - at - limit)) for at in range(0, len(data), limit)
    ]

"""One connection of either port, as the bytes of a conversation: opening, packets, messages. No socket, no clock.

The opening, in the clear:

    client   0      4      5      6         8                  24                        72
             ├──────┼──────┼──────┼─────────┼──────────────────┼─────────────────────────┤
             │ TWL1 │ port │ mode │ version │ key id (16)      │ Noise message 1 (48)    │  mode NOISE only
             └──────┴──────┴──────┴─────────┴──────────────────┴─────────────────────────┘
             magic, u8, u8, u16 little-endian. The first 24 bytes are the Noise prologue: an opening whose port,
             mode, version or key id was altered on the way does not open. Plain: the key id is zeros.

    server   0      4        5        7             7+length
             ├──────┼────────┼────────┼─────────────┤
             │ TWL1 │ status │ length │ body        │    u8, u16 little-endian
             └──────┴────────┴────────┴─────────────┘
             status 0, accepted: Noise message 2 (48 bytes), or nothing when plain
             status 1, refused: one line `ErrorName: message`, UTF-8; then the server closes

Then, in both directions, the inner stream: messages as frames (u32 little-endian length, body). Plain: directly on the
socket. Secure: its bytes ride in packets, many messages in one and one message over many. The client's packet 0 is
empty: an opening can be played again by anybody who saw it, and only that packet proves that the client holds the key
now. So a server says HandshakeDone only after it, and no other packet may be empty.

A refusal is not authenticated: it can end a connection, as cutting it can, and never makes a client fall back to plain.
Nor is the end of the stream: an end between messages looks like a good end, and requests that have no answer tell.

How to drive one: client: send what start() returns. Then feed receive_data() with what arrives (b"" for the end) and
ask next_event() until NEED_DATA or Ended, or take_messages() where many are expected; then send what data_to_send()
returns, which is b"" when nothing can go now. A WireError from next_event() or take_messages() is the end of this connection, and of
nothing else: send data_to_send() once more (a server's refusal is in it) and close.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, IntEnum

import msgspec

from .errors import (
    OPENING_ERRORS,
    BadPacket,
    HandshakeFailed,
    MessageTooLong,
    NotTwinlog,
    PlainRefused,
    PortRefused,
    StreamCut,
    UnknownKey,
    VersionRefused,
    WireError,
)
from .frames import PREFIX, FrameReader
from .keys import KEY_ID_BYTES, Key
from .noise import DH_BYTES, HANDSHAKE_MESSAGE_BYTES, HandshakeState, Role
from .packets import PACKET_BYTES_MAX, PacketOpener, PacketSealer, packet_frames

MAGIC = b"TWL1"
VERSION = 1
PREAMBLE = struct.Struct("<4sBBH16s")
PREAMBLE_HEAD = struct.Struct("<4sBBH")  # what every version shares
REPLY = struct.Struct("<4sBH")
assert PREAMBLE.size == 24, "the drawing says 24"
assert REPLY.size == 7, "the drawing says 7"

MESSAGE_BYTES_MAX = 17 * 2**20 + 64 * 2**10
REFUSAL_BYTES_MAX = 512
HANDSHAKE_BYTES_MAX = PREAMBLE.size + HANDSHAKE_MESSAGE_BYTES  # what a server gathers before it decides
MESSAGES_AT_ONCE = 1024
NO_KEY = bytes(KEY_ID_BYTES)

ACCEPTED = 0
REFUSED = 1


class PortRole(IntEnum):
    """What a port is for; part of the prologue, so a key of one port never opens the other."""

    CLIENT = 1
    CLUSTER = 2


class Mode(IntEnum):
    PLAIN = 0
    NOISE = 1


# Events.


class Message(msgspec.Struct, frozen=True, gc=False):
    """One whole message of the other end."""

    data: bytes


class HandshakeDone(msgspec.Struct, frozen=True):
    """Messages may pass. key_id: of the key both ends hold; 16 zeros when plain."""

    key_id: bytes
    secure: bool


class Ended(msgspec.Struct, frozen=True):
    """The other end finished between messages."""


class NEED_DATA:
    """Nothing more until receive_data(). A sentinel: compared by identity, never made."""


Event = Message | HandshakeDone | Ended | type[NEED_DATA]
RandomBytes = Callable[[int], bytes]


class _State(Enum):
    OPENING = "the opening is not whole"
    CONFIRMING = "a server that answered and waits for the client's empty packet"
    OPEN = "messages pass"
    FAILED = "an error ended it"


def _message_frames() -> FrameReader:
    return FrameReader(what="message", length_min=1, length_max=MESSAGE_BYTES_MAX, error=MessageTooLong)


class Session(ABC):
    """What both ends share once the opening is done. Use ClientSession or ServerSession."""

    def __init__(self, port: PortRole) -> None:
        self._port = port
        self._state = _State.OPENING
        self._error: WireError | None = None
        self._input_ended = False
        self._opening = bytearray()
        self._sealer: PacketSealer | None = None
        self._opener: PacketOpener | None = None
        self._packets = packet_frames()
        self._messages = _message_frames()
        self._clear_out = b""  # bytes of the opening, and sealed ones that must go before anything else
        self._out: deque[bytes | memoryview] = deque()  # the inner stream, not yet sealed
        self._out_bytes = 0

    # Receiving.

    def receive_data(self, data: bytes) -> None:
        """Bytes of the other end, kept as they are, so not a buffer that will change; b"" means the stream ended."""
        if not data:
            self._input_ended = True
        elif self._state is _State.FAILED:
            return
        elif self._state is _State.OPENING:
            self._opening += data
        elif self._opener is None:
            self._messages.feed(data)
        else:
            self._packets.feed(data)

    def next_event(self) -> Event:
        """What the bytes so far mean. Raises a WireError, the same at every later call; then the connection is over."""
        try:
            self._raise_if_failed()
            if self._state is _State.OPENING:
                return self._read_opening() or self._nothing_more()
            while True:
                message = self._messages.next_frame()
                if message is not None:
                    return Message(message)
                was = self._state
                if not self._open_packet():
                    return self._nothing_more()
                if was is _State.CONFIRMING:
                    return self._done()
        except WireError as error:
            self._fail(error)
            raise

    def take_messages(self, count_max: int = MESSAGES_AT_ONCE) -> list[bytes]:
        """Up to count_max messages that are here, as bare bytes: the quick way once HandshakeDone was seen.

        An empty list means: ask next_event(), which says whether it is NEED_DATA, Ended or the handshake. What comes
        before a bad packet is given out first; the error comes at the next call.
        """
        taken: list[bytes] = []
        try:
            self._raise_if_failed()
            if self._state is not _State.OPEN:
                return taken
            while True:
                taken += self._messages.take_frames(count_max - len(taken))
                if len(taken) >= count_max or not self._open_packet():
                    return taken
        except WireError as error:
            self._fail(error)
            if taken:
                return taken
            raise

    def receive_now(self, data: bytes) -> list[bytes] | None:
        """receive_data() and take_messages() in one, for the usual chunk: whole packets of whole messages and nothing left
        from before. None: data was taken in as by receive_data(), ask as usual. Raises as take_messages() does."""
        if self._state is not _State.OPEN or self._input_ended or not data:
            self.receive_data(data)
            return None
        opener = self._opener
        if opener is None:
            plaintext = data
        else:
            packets = self._packets.cut_whole(data)
            if packets is None:
                self._packets.feed(data)
                return None
            plaintext = self._open_whole(packets)
        messages = self._messages.cut_whole(plaintext)
        if messages is None:
            self._messages.feed(plaintext)
        return messages

    def _open_whole(self, packets: list[bytes]) -> bytes:
        """What the packets hold. A bad one after good ones fails the session, and what came before it is given out first."""
        opener, opened = self._opener, b""
        assert opener is not None, "packets come only under a key"
        try:
            for sealed in packets:
                plaintext = opener.open(sealed)
                if not plaintext:
                    raise BadPacket(
                        "an empty packet, which nothing sends; close the connection", packet=opener.opened - 1
                    )
                opened = opened + plaintext if opened else plaintext
        except WireError as error:
            self._fail(error)
            if not opened:
                raise
        return opened

    @property
    def received_bytes(self) -> int:
        """What was fed and not yet given out, in bytes: bounded by what the caller feeds before it asks for events."""
        return len(self._opening) + self._packets.buffered_bytes + self._messages.buffered_bytes

    # Sending.

    def send_message(self, message: bytes) -> None:
        """Queue one message. Raises MessageTooLong to the caller and leaves the session as it is.

        Before HandshakeDone it waits here. After an error it is dropped, as the connection is.
        """
        size = len(message)
        if not 0 < size <= MESSAGE_BYTES_MAX:
            raise MessageTooLong(
                f"message of {size} bytes, allowed are 1 to {MESSAGE_BYTES_MAX}: send fewer documents at once",
                length=size,
                limit=MESSAGE_BYTES_MAX,
            )
        if self._state is _State.FAILED:
            return
        self._out.append(PREFIX.pack(size))
        self._out.append(message)
        self._out_bytes += size + PREFIX.size

    def send_frames(self, frames: bytes) -> None:
        """Queue messages that are framed already: u32 little-endian length, body, and so on, each within its limit."""
        if self._state is not _State.FAILED:
            self._out.append(frames)
            self._out_bytes += len(frames)

    def send_messages(self, messages: Iterable[bytes]) -> None:
        """Queue several; they share packets."""
        for message in messages:
            self.send_message(message)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits here in either direction: all that came was given out, all that was queued was sent."""
        return not self._out_bytes and self._packets.is_idle and self._messages.is_idle and not self._clear_out

    @property
    def pending_bytes(self) -> int:
        """What waits for data_to_send(), in bytes before sealing. The session sets no limit: the caller does."""
        return self._out_bytes + len(self._clear_out)

    @property
    def sendable_bytes(self) -> int:
        """The part of pending_bytes that data_to_send() would give now: without what waits for the handshake."""
        return len(self._clear_out) + (self._out_bytes if self._state is _State.OPEN else 0)

    def data_to_send(self, max_bytes: int | None = None) -> bytes:
        """What is queued, in as few packets as it takes, or about max_bytes of it. b"" when there is nothing.

        Bytes once given out must all be sent, in order: their packets are counted.
        """
        out = self._out
        if len(out) == 1 and self._out_bytes <= PACKET_BYTES_MAX and not self._clear_out and self._state is _State.OPEN:
            plaintext = out[0]  # the usual: one piece, one packet
            if max_bytes is None or self._out_bytes <= max_bytes:
                out.clear()
                self._out_bytes = 0
                return self._sealer.seal(plaintext) if self._sealer is not None else bytes(plaintext)
        clear, self._clear_out = self._clear_out, b""
        if self._state is not _State.OPEN or not self._out_bytes:
            return clear
        plaintext = self._take_out(max_bytes)
        sealer = self._sealer
        if sealer is None:
            return clear + plaintext if clear else plaintext
        if len(plaintext) <= PACKET_BYTES_MAX:
            sealed = sealer.seal(plaintext)
            return clear + sealed if clear else sealed
        view = memoryview(plaintext)
        pieces = [clear]
        for start in range(0, len(plaintext), PACKET_BYTES_MAX):
            pieces.append(sealer.seal(view[start : start + PACKET_BYTES_MAX]))
        return b"".join(pieces)

    def _take_out(self, max_bytes: int | None) -> bytes:
        if max_bytes is None or self._out_bytes <= max_bytes:
            out = self._out
            plaintext = out[0] if len(out) == 1 and type(out[0]) is bytes else b"".join(out)
            out.clear()
            self._out_bytes = 0
            return plaintext
        pieces: list[bytes | memoryview] = []
        room = max(1, max_bytes)
        while room:
            piece = self._out.popleft()
            if len(piece) > room:
                view = memoryview(piece)
                self._out.appendleft(view[room:])
                piece = view[:room]
            pieces.append(piece)
            room -= len(piece)
            self._out_bytes -= len(piece)
        return b"".join(pieces)

    def discard(self) -> None:
        """The connection is gone: let go of all that waits in either direction, which may be megabytes, without waiting for a
        garbage collection. Nothing comes from this session any more."""
        self._fail(StreamCut("the connection is closed", missing=-1))
        self._clear_out = b""
        self._opening = bytearray()
        self._packets = packet_frames()
        self._messages = _message_frames()

    # Inside.

    @abstractmethod
    def _read_opening(self) -> HandshakeDone | None:
        """The end's own part: look at self._opening; HandshakeDone, or None for not yet. Raises WireError."""

    @abstractmethod
    def _done(self) -> HandshakeDone:
        """What next_event() gives when the opening is over."""

    def _begin_stream(self, used: int) -> None:
        """The opening took `used` bytes; whatever came behind them belongs to the stream."""
        rest = bytes(memoryview(self._opening)[used:])
        self._opening = bytearray()
        if rest:
            (self._messages if self._opener is None else self._packets).feed(rest)

    def _open_packet(self) -> bool:
        """Open the next whole packet into the inner stream. False: none is here."""
        opener = self._opener
        if opener is None:
            return False
        sealed = self._packets.next_frame()
        if sealed is None:
            return False
        plaintext = opener.open(sealed)
        if self._state is _State.CONFIRMING:
            if plaintext:
                raise BadPacket("packet 0 of a client must be empty; close the connection", packet=0)
            self._state = _State.OPEN
        elif not plaintext:
            raise BadPacket("an empty packet, which nothing sends; close the connection", packet=opener.opened - 1)
        else:
            self._messages.feed(plaintext)
        return True

    def _nothing_more(self) -> Event:
        """No event in the bytes so far: wait, or say how the stream ended."""
        if not self._input_ended:
            return NEED_DATA
        if self._state is not _State.OPEN:
            return self._ended_while_opening()
        missing = self._packets.missing_bytes or self._messages.missing_bytes
        if missing:
            raise StreamCut(
                f"the stream ended inside a frame that lacks at least {missing} bytes; what came before it stands, "
                f"ask again over a new connection",
                missing=missing,
            )
        return Ended()

    def _ended_while_opening(self) -> Event:
        raise StreamCut("the stream ended before the handshake was done", missing=-1)

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            raise self._error

    def _fail(self, error: WireError) -> None:
        """Remember the error, forget everything queued: nothing may follow on a connection that is not in step."""
        if self._error is not None:
            return
        self._error = error
        self._state = _State.FAILED
        self._opening = bytearray()
        self._packets = packet_frames()
        self._out.clear()
        self._out_bytes = 0
        self._clear_out = b""


class ClientSession(Session):
    """The end that dials. key None: plain. It never falls back from secure to plain."""

    def __init__(self, key: Key | None, port: PortRole, *, random_bytes: RandomBytes) -> None:
        super().__init__(port)
        self._key = key
        mode, key_id = (Mode.PLAIN, NO_KEY) if key is None else (Mode.NOISE, key.id)
        self._preamble = PREAMBLE.pack(MAGIC, port, mode, VERSION, key_id)
        self._handshake: HandshakeState | None = None
        if key is not None:
            self._handshake = HandshakeState(
                Role.INITIATOR, psk=key.psk, prologue=self._preamble, ephemeral=random_bytes(DH_BYTES)
            )

    def start(self) -> bytes:
        """The first bytes to send. Once."""
        if self._handshake is None:
            return self._preamble
        return self._preamble + self._handshake.write_message()

    def _read_opening(self) -> HandshakeDone | None:
        opening = self._opening
        if not MAGIC.startswith(opening[: len(MAGIC)]):
            raise NotTwinlog("the server's first bytes are not Twinlog's: is this the right host and port?")
        if len(opening) < REPLY.size:
            return None
        _, status, length = REPLY.unpack_from(opening)
        self._check_reply(status, length)
        if len(opening) < REPLY.size + length:
            return None
        body = bytes(opening[REPLY.size : REPLY.size + length])
        if status == REFUSED:
            raise _refusal(body)
        if self._handshake is not None:
            self._handshake.read_message(body)
            sending, receiving = self._handshake.split()
            self._handshake = None
            self._sealer = PacketSealer(sending)
            self._opener = PacketOpener(receiving)
            self._clear_out = self._sealer.seal(b"")
        self._state = _State.OPEN
        self._begin_stream(REPLY.size + length)
        return self._done()

    def _check_reply(self, status: int, length: int) -> None:
        if status == REFUSED and length <= REFUSAL_BYTES_MAX:
            return
        if status == ACCEPTED and length == (0 if self._key is None else HANDSHAKE_MESSAGE_BYTES):
            return
        raise NotTwinlog(f"the server's answer makes no sense (status {status}, {length} bytes); close the connection")

    def _done(self) -> HandshakeDone:
        return HandshakeDone(NO_KEY if self._key is None else self._key.id, secure=self._key is not None)

    def _ended_while_opening(self) -> Event:
        raise StreamCut(
            "the server closed before it answered the opening: it is stopping, at its limit, or speaks something else",
            missing=-1,
        )


class ServerSession(Session):
    """The end that is dialled. keys: key id to PSK, or None when it is not known. After the reply it waits for proof."""

    def __init__(
        self,
        keys: Callable[[bytes], bytes | None],
        port: PortRole,
        *,
        plain_allowed: bool,
        random_bytes: RandomBytes,
    ) -> None:
        super().__init__(port)
        self._keys = keys
        self._plain_allowed = plain_allowed
        self._random_bytes = random_bytes
        self._key_id = NO_KEY

    def _read_opening(self) -> HandshakeDone | None:
        opening = self._opening
        if not MAGIC.startswith(opening[: len(MAGIC)]):
            raise NotTwinlog("the first bytes are not Twinlog's: this port speaks the Twinlog protocol only")
        if len(opening) < PREAMBLE_HEAD.size:
            return None
        _, port, mode, version = PREAMBLE_HEAD.unpack_from(opening)
        self._check_head(port, mode, version)
        if len(opening) < PREAMBLE.size:
            return None
        key_id = bytes(opening[PREAMBLE_HEAD.size : PREAMBLE.size])
        if mode == Mode.PLAIN:
            if key_id != NO_KEY:
                raise NotTwinlog("a plain opening that names a key; its key id must be zeros")
            self._clear_out = REPLY.pack(MAGIC, ACCEPTED, 0)
            self._state = _State.OPEN
            self._begin_stream(PREAMBLE.size)
            return self._done()
        psk = self._keys(key_id)
        if psk is None:
            raise UnknownKey(
                f"no key with id {key_id.hex()} here: give this node the client's key, or the client one of its keys",
                key_id=key_id.hex(),
            )
        if len(opening) < HANDSHAKE_BYTES_MAX:
            return None
        handshake = HandshakeState(
            Role.RESPONDER,
            psk=psk,
            prologue=bytes(opening[: PREAMBLE.size]),
            ephemeral=self._random_bytes(DH_BYTES),
        )
        handshake.read_message(bytes(opening[PREAMBLE.size : HANDSHAKE_BYTES_MAX]))
        answer = handshake.write_message()
        receiving, sending = handshake.split()
        self._opener = PacketOpener(receiving)
        self._sealer = PacketSealer(sending)
        self._key_id = key_id
        self._clear_out = REPLY.pack(MAGIC, ACCEPTED, len(answer)) + answer
        self._state = _State.CONFIRMING
        self._begin_stream(HANDSHAKE_BYTES_MAX)
        return self._done() if self._open_packet() else None

    def _check_head(self, port: int, mode: int, version: int) -> None:
        if version != VERSION:
            raise VersionRefused(
                f"protocol version {version} was asked for, this node speaks {VERSION}: use a client of its release",
                asked=version,
                spoken=VERSION,
            )
        if port != self._port:
            raise PortRefused(
                f"{_port_name(port)} protocol was asked for, this is the {_port_name(self._port)} port: check the "
                f"address",
                asked=port,
                served=int(self._port),
            )
        if mode not in (Mode.PLAIN, Mode.NOISE):
            raise NotTwinlog(f"unknown mode {mode} in the opening")
        if mode == Mode.PLAIN and not self._plain_allowed:
            raise PlainRefused("this port takes only connections under a key: give the client a key file")

    def _done(self) -> HandshakeDone:
        return HandshakeDone(self._key_id, secure=self._opener is not None)

    def _ended_while_opening(self) -> Event:
        if self._state is _State.OPENING and not self._opening:
            return Ended()  # dialled and hung up, as port checks do
        raise StreamCut("the client hung up inside the handshake", missing=-1)

    def _fail(self, error: WireError) -> None:
        refuse = self._error is None and self._state is _State.OPENING and error.name in OPENING_ERRORS
        super()._fail(error)
        if refuse:
            line = f"{error.name}: {error.message}".encode()[:REFUSAL_BYTES_MAX]
            self._clear_out = REPLY.pack(MAGIC, REFUSED, len(line)) + line


def _port_name(port: int) -> str:
    return {PortRole.CLIENT: "the client", PortRole.CLUSTER: "the cluster"}.get(port, f"an unknown ({port})")


def _refusal(body: bytes) -> WireError:
    """The server's refusal as the error it named. The text is the other end's: made printable, never trusted."""
    text = body.decode("utf-8", "replace")
    text = "".join(character if character.isprintable() else "?" for character in text)
    name, _, message = text.partition(": ")
    known = OPENING_ERRORS.get(name)
    if known is None:
        return HandshakeFailed(f"the server refused: {text}")
    return known(f"the server refused: {message}")

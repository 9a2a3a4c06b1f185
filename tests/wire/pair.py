"""Two session ends of one connection, for tests: made from a seed, so equal runs give equal bytes."""

from __future__ import annotations

import random
from collections.abc import Callable

from node.wire import (
    NEED_DATA,
    ClientSession,
    Ended,
    HandshakeDone,
    Key,
    Message,
    PortRole,
    ServerSession,
    Session,
    WireError,
)
from node.wire.noise import HandshakeState, Role
from node.wire.packets import PacketSealer
from node.wire.session import PREAMBLE, REPLY

KEY = Key(bytes(range(1, 17)), bytes(range(100, 132)))
OTHER_KEY = Key(bytes(range(2, 18)), bytes(range(60, 92)))


def keys(*known: Key) -> Callable[[bytes], bytes | None]:
    return {key.id: key.psk for key in known}.get


def client(key: Key | None = KEY, *, port: PortRole = PortRole.CLIENT, seed: int = 1) -> ClientSession:
    return ClientSession(key, port, random_bytes=random.Random(seed).randbytes)


def server(
    *known: Key, port: PortRole = PortRole.CLIENT, plain_allowed: bool = False, seed: int = 2
) -> ServerSession:
    return ServerSession(
        keys(*known), port, plain_allowed=plain_allowed, random_bytes=random.Random(seed).randbytes
    )


def opened(key: Key | None = KEY) -> tuple[ClientSession, ServerSession]:
    """A connection past its handshake, nothing queued on either end."""
    dialler = client(key)
    dialled = server(KEY, plain_allowed=True)
    dialled.receive_data(dialler.start())
    if key is None:
        assert isinstance(dialled.next_event(), HandshakeDone)
    else:
        assert dialled.next_event() is NEED_DATA
    dialler.receive_data(dialled.data_to_send())
    assert isinstance(dialler.next_event(), HandshakeDone)
    proof = dialler.data_to_send()
    if key is not None:
        dialled.receive_data(proof)
        assert isinstance(dialled.next_event(), HandshakeDone)
    return dialler, dialled


def raw_client(*, proved: bool = True) -> tuple[PacketSealer, ServerSession]:
    """A client made by hand, that seals whatever a test wants, and its server. proved: packet 0 was sent."""
    dialled = server(KEY)
    preamble = client().start()[: PREAMBLE.size]
    handshake = HandshakeState(Role.INITIATOR, psk=KEY.psk, prologue=preamble, ephemeral=b"\x05" * 32)
    dialled.receive_data(preamble + handshake.write_message())
    assert dialled.next_event() is NEED_DATA
    handshake.read_message(dialled.data_to_send()[REPLY.size :])
    sealer = PacketSealer(handshake.split()[0])
    if proved:
        dialled.receive_data(sealer.seal(b""))
        assert isinstance(dialled.next_event(), HandshakeDone)
    return sealer, dialled


def drain(session: Session) -> tuple[list[bytes], str]:
    """Every message that is there, and how it stops: "need data", "ended" or the error's name."""
    messages: list[bytes] = []
    while True:
        try:
            event = session.next_event()
        except WireError as error:
            return messages, error.name
        if event is NEED_DATA:
            return messages, "need data"
        if isinstance(event, Ended):
            return messages, "ended"
        if isinstance(event, Message):
            messages.append(event.data)


def packets_of(data: bytes) -> list[bytes]:
    """Sealed bytes cut into packets, prefixes included."""
    found = []
    while data:
        size = 4 + int.from_bytes(data[:4], "little")
        found.append(data[:size])
        data = data[size:]
    return found

"""A connection from its first byte: who may open it, what passes, what ends it, and under which name on which end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.wire import (
    MESSAGE_BYTES_MAX,
    NEED_DATA,
    PACKET_BYTES_MAX,
    BadPacket,
    ClientSession,
    Ended,
    HandshakeDone,
    HandshakeFailed,
    Key,
    Message,
    MessageTooLong,
    NotTwinlog,
    PacketTooLong,
    PlainRefused,
    PortRefused,
    PortRole,
    ServerSession,
    StreamCut,
    UnknownKey,
    VersionRefused,
    WireError,
)
from node.wire.session import HANDSHAKE_BYTES_MAX, REFUSAL_BYTES_MAX, REPLY

from .pair import KEY, OTHER_KEY, client, drain, opened, packets_of, raw_client, server

MODES = pytest.mark.parametrize("key", [KEY, None], ids=["secure", "plain"])


# The opening.


def test_the_bytes_of_an_opening_are_the_drawn_ones() -> None:
    start = client().start()
    assert start[:24] == b"TWL1" + b"\x01" + b"\x01" + b"\x01\x00" + KEY.id
    assert len(start) == 72
    assert client(None, port=PortRole.CLUSTER).start() == b"TWL1" + b"\x02" + b"\x00" + b"\x01\x00" + bytes(16)

    dialled = server(KEY)
    dialled.receive_data(start)
    assert dialled.next_event() is NEED_DATA
    reply = dialled.data_to_send()
    assert reply[:7] == b"TWL1" + b"\x00" + b"\x30\x00"
    assert len(reply) == 7 + 48
    plain = server(plain_allowed=True)
    plain.receive_data(client(None).start())
    assert plain.next_event() == HandshakeDone(bytes(16), secure=False)
    assert plain.data_to_send() == b"TWL1\x00\x00\x00"


@MODES
def test_both_ends_learn_the_key_and_messages_pass_both_ways(key: Key | None) -> None:
    dialler, dialled = opened(key)
    dialler.send_messages([b"one", b"two"])
    dialled.receive_data(dialler.data_to_send())
    assert [dialled.next_event(), dialled.next_event()] == [Message(b"one"), Message(b"two")]
    assert dialled.next_event() is NEED_DATA
    dialled.send_message(b"three")
    dialler.receive_data(dialled.data_to_send())
    assert dialler.next_event() == Message(b"three")
    dialler.receive_data(b"")
    assert isinstance(dialler.next_event(), Ended)
    assert isinstance(dialler.next_event(), Ended)


@MODES
def test_everything_byte_by_byte(key: Key | None) -> None:
    dialler, dialled = client(key), server(KEY, plain_allowed=True)
    dialler.send_message(b"queued before the handshake")
    dialled.send_message(b"from the server")
    to_server, to_client = dialler.start(), b""
    seen_by_server: list[object] = []
    seen_by_client: list[object] = []
    for _ in range(4):
        for session, data, seen in ((dialled, to_server, seen_by_server), (dialler, to_client, seen_by_client)):
            for at in range(len(data)):
                session.receive_data(data[at : at + 1])
                while (event := session.next_event()) is not NEED_DATA:
                    seen.append(event)
        to_server, to_client = dialler.data_to_send(), dialled.data_to_send()
    done = HandshakeDone(bytes(16) if key is None else key.id, secure=key is not None)
    assert seen_by_server == [done, Message(b"queued before the handshake")]
    assert seen_by_client == [done, Message(b"from the server")]


def test_the_server_trusts_only_after_the_client_s_proof() -> None:
    """Message 1 can be played again: its replayer never gets past the empty packet."""
    dialler, dialled = client(), server(KEY)
    start = dialler.start()
    dialled.receive_data(start)
    assert dialled.next_event() is NEED_DATA
    dialler.receive_data(dialled.data_to_send())
    dialler.next_event()
    proof = dialler.data_to_send()
    assert len(proof) == 20
    dialled.receive_data(proof)
    assert dialled.next_event() == HandshakeDone(KEY.id, secure=True)

    replayed = server(KEY, seed=3)
    replayed.send_message(b"never for a replayer")
    replayed.receive_data(start)
    assert replayed.next_event() is NEED_DATA
    assert len(replayed.data_to_send()) == 55  # the reply alone
    assert replayed.sendable_bytes == 0
    replayed.receive_data(proof)
    with pytest.raises(BadPacket):
        replayed.next_event()
    assert replayed.data_to_send() == b""


def test_the_first_packet_is_empty_and_no_other_is() -> None:
    sealer, dialled = raw_client(proved=False)
    dialled.receive_data(sealer.seal(b"\x01\x00\x00\x00x"))
    with pytest.raises(BadPacket, match="must be empty"):
        dialled.next_event()

    sealer, dialled = raw_client()
    dialled.receive_data(sealer.seal(b""))
    with pytest.raises(BadPacket, match="empty packet"):
        dialled.next_event()


# Refused openings: the same name on both ends.


def altered_version(start: bytes) -> bytes:
    return start[:6] + b"\x02\x00" + start[8:]


REFUSALS = {
    "wrong key under the id": (client(Key(KEY.id, OTHER_KEY.psk)).start(), HandshakeFailed),
    "unknown key id": (client(OTHER_KEY).start(), UnknownKey),
    "cluster at the client port": (client(port=PortRole.CLUSTER).start(), PortRefused),
    "another version": (altered_version(client().start()), VersionRefused),
    "plain where refused": (client(None).start(), PlainRefused),
    "not ours at all": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", NotTwinlog),
    "unknown mode": (b"TWL1\x01\x07\x01\x00" + bytes(64), NotTwinlog),
}


@pytest.mark.parametrize(("start", "error"), REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_refused_opening_has_one_name_on_both_ends(start: bytes, error: type[WireError], step: int) -> None:
    dialled = server(KEY)
    with pytest.raises(error) as caught:
        for at in range(0, len(start), step):
            dialled.receive_data(start[at : at + step])
            assert dialled.next_event() is NEED_DATA
    refusal = dialled.data_to_send()
    assert len(refusal) <= REPLY.size + REFUSAL_BYTES_MAX
    assert dialled.data_to_send() == b""
    dialled.receive_data(b"more")
    with pytest.raises(error):
        dialled.next_event()
    assert dialled.received_bytes == 0

    dialler = client()
    dialler.receive_data(refusal)
    with pytest.raises(error) as told:
        dialler.next_event()
    assert caught.value.message in told.value.message
    assert dialler.data_to_send() == b""


def test_a_plain_opening_with_a_key_id_is_refused() -> None:
    dialled = server(KEY, plain_allowed=True)
    dialled.receive_data(b"TWL1\x01\x00\x01\x00" + KEY.id)
    with pytest.raises(NotTwinlog):
        dialled.next_event()


def test_rotation_every_known_key_opens() -> None:
    for key in (KEY, OTHER_KEY):
        dialled = server(KEY, OTHER_KEY)
        dialled.receive_data(client(key).start())
        assert dialled.next_event() is NEED_DATA
        assert len(dialled.data_to_send()) == 55


def test_every_altered_byte_of_an_opening_is_refused() -> None:
    start = client().start()
    assert len(start) == HANDSHAKE_BYTES_MAX
    for byte in range(len(start)):
        for mask in (0x01, 0x80):
            dialled = server(KEY, OTHER_KEY, plain_allowed=False)
            altered = bytearray(start)
            altered[byte] ^= mask
            dialled.receive_data(bytes(altered))
            with pytest.raises(WireError):
                dialled.next_event()


def test_a_stripped_mode_does_not_turn_a_secure_client_plain() -> None:
    """Somebody in between rewrites the opening to plain: the server may agree, the client does not."""
    dialler, dialled = client(), server(KEY, plain_allowed=True)
    dialled.receive_data(dialler.start()[:5] + b"\x00\x01\x00" + bytes(16))
    assert isinstance(dialled.next_event(), HandshakeDone)
    dialler.receive_data(dialled.data_to_send())
    with pytest.raises(NotTwinlog):
        dialler.next_event()


def test_every_altered_byte_of_a_reply_is_refused() -> None:
    dialled = server(KEY)
    dialled.receive_data(client().start())
    dialled.next_event()
    reply = dialled.data_to_send()
    for byte in range(len(reply)):
        dialler = client()
        dialler.start()
        altered = bytearray(reply)
        altered[byte] ^= 0x40
        dialler.receive_data(bytes(altered))
        with pytest.raises((NotTwinlog, HandshakeFailed)):
            dialler.next_event()


def test_a_refusal_s_text_is_bounded_and_made_printable() -> None:
    body = b"Nonsense\x1b[2J: \xff\x00" + b"x" * 100
    dialler = client()
    dialler.receive_data(REPLY.pack(b"TWL1", 1, len(body)) + body)
    with pytest.raises(HandshakeFailed) as told:
        dialler.next_event()
    assert told.value.message.isprintable()
    dialler = client()
    dialler.receive_data(REPLY.pack(b"TWL1", 1, REFUSAL_BYTES_MAX + 1))
    with pytest.raises(NotTwinlog):
        dialler.next_event()


# Ends.


def test_an_opening_cut_at_any_byte() -> None:
    start = client().start()
    for size in range(len(start) + 1):
        dialled = server(KEY)
        if size:
            dialled.receive_data(start[:size])
        assert dialled.next_event() is NEED_DATA
        dialled.receive_data(b"")
        if size == 0:
            assert isinstance(dialled.next_event(), Ended)
        else:
            with pytest.raises(StreamCut):
                dialled.next_event()


def test_a_server_that_hangs_up_unanswered() -> None:
    for said in (b"", b"TW", b"TWL1\x00\x30\x00only a part"):
        dialler = client()
        dialler.start()
        if said:
            dialler.receive_data(said)
        dialler.receive_data(b"")
        with pytest.raises(StreamCut):
            dialler.next_event()


@MODES
def test_a_stream_cut_at_any_byte_gives_what_was_whole(key: Key | None) -> None:
    sizes = (1, 30, 5)
    dialler, _ = opened(key)
    whole = b""
    ends = [0]
    for size in sizes:
        dialler.send_message(bytes([size]) * size)
        whole += dialler.data_to_send()
        ends.append(len(whole))
    for size in range(len(whole) + 1):
        dialled = opened(key)[1]
        if size:
            dialled.receive_data(whole[:size])
        dialled.receive_data(b"")
        messages, stopped = drain(dialled)
        complete = sum(end <= size for end in ends) - 1
        assert [len(message) for message in messages] == list(sizes[:complete])
        assert stopped == ("ended" if size in ends else "StreamCut")


def test_packets_end_well_but_the_message_inside_does_not() -> None:
    sealer, dialled = raw_client()
    dialled.receive_data(sealer.seal(b"\x09\x00\x00\x00half"))
    dialled.receive_data(b"")
    with pytest.raises(StreamCut) as caught:
        dialled.next_event()
    assert caught.value.fields == {"missing": 5}


# Altered, repeated, skipped, reordered.


def sent_in_packets(count: int) -> list[bytes]:
    dialler, _ = opened()
    packets = []
    for number in range(count):
        dialler.send_message(b"message %d" % number)
        packets.append(dialler.data_to_send())
    return packets


@pytest.mark.parametrize(
    ("order", "good"), [([0, 0], 1), ([1], 0), ([0, 2], 1), ([1, 0], 0), ([0, 1, 0], 2), ([0, 1, 2, 2], 3)]
)
def test_packets_out_of_order_end_the_connection(order: list[int], good: int) -> None:
    packets = sent_in_packets(3)
    dialled = opened()[1]
    dialled.receive_data(b"".join(packets[number] for number in order))
    messages, stopped = drain(dialled)
    assert len(messages) == good
    assert stopped == "BadPacket"


def test_every_flipped_byte_of_a_packet_ends_the_connection_or_waits() -> None:
    """A flipped length may make the packet look longer: then it waits, and the end of the stream names it."""
    (packet,) = sent_in_packets(1)
    for byte in range(len(packet)):
        for mask in (0x01, 0x20):
            altered = bytearray(packet)
            altered[byte] ^= mask
            dialled = opened()[1]
            dialled.receive_data(bytes(altered))
            dialled.receive_data(b"")
            messages, stopped = drain(dialled)
            assert messages == []
            assert stopped in ("BadPacket", "PacketTooLong", "StreamCut")
            if byte >= 4:
                assert stopped == "BadPacket"


def test_a_packet_thrown_back_at_its_sender_does_not_open() -> None:
    dialler, _ = opened()
    dialler.send_message(b"mine")
    dialler.receive_data(dialler.data_to_send())
    with pytest.raises(BadPacket):
        dialler.next_event()


def test_a_packet_of_another_connection_does_not_open() -> None:
    dialled = opened()[1]
    other = client(seed=77)
    other_server = server(KEY, seed=78)
    other_server.receive_data(other.start())
    other_server.next_event()
    other.receive_data(other_server.data_to_send())
    other.next_event()
    other.data_to_send()
    other.send_message(b"x")
    dialled.receive_data(other.data_to_send())
    with pytest.raises(BadPacket):
        dialled.next_event()


def test_what_came_before_a_bad_packet_is_given_out_first() -> None:
    packets = sent_in_packets(3)
    dialled = opened()[1]
    dialled.receive_data(packets[0] + packets[1] + packets[1])
    assert dialled.take_messages() == [b"message 0", b"message 1"]
    for _ in range(2):
        with pytest.raises(BadPacket):
            dialled.take_messages()
    with pytest.raises(BadPacket):
        dialled.next_event()


def test_after_an_error_nothing_is_kept_or_sent() -> None:
    dialled = opened()[1]
    dialled.send_message(b"an answer")
    dialled.receive_data((2**31).to_bytes(4, "little"))
    with pytest.raises(PacketTooLong):
        dialled.next_event()
    dialled.send_message(b"another")
    dialled.receive_data(b"x" * 100)
    assert (dialled.data_to_send(), dialled.pending_bytes, dialled.received_bytes) == (b"", 0, 0)


@given(garbage=st.binary(max_size=300), plain=st.booleans())
def test_garbage_never_does_more_than_end_the_connection(garbage: bytes, plain: bool) -> None:
    fresh_server, fresh_client = server(KEY, plain_allowed=True), client(None if plain else KEY)
    open_client, open_server = opened(None if plain else KEY)
    for session in (fresh_server, fresh_client, open_client, open_server):
        if garbage:
            session.receive_data(garbage)
        session.receive_data(b"")
        _, stopped = drain(session)
        assert stopped in ("ended", "NotTwinlog", "VersionRefused", "PortRefused", "UnknownKey", "HandshakeFailed",
                           "BadPacket", "PacketTooLong", "MessageTooLong", "StreamCut")  # fmt: skip


# Sizes and bounds.


@MODES
def test_messages_over_many_packets_and_many_in_one(key: Key | None) -> None:
    dialler, dialled = opened(key)
    sent = [b"a" * (2 * PACKET_BYTES_MAX + 5), b"b", b"c" * (PACKET_BYTES_MAX - 4), b"d"]
    dialler.send_messages(sent)
    data = dialler.data_to_send()
    if key is not None:
        lengths = [len(packet) - 20 for packet in packets_of(data)]
        assert lengths[:-1] == [PACKET_BYTES_MAX] * (len(lengths) - 1)
        assert sum(lengths) == sum(len(message) + 4 for message in sent)
    for at in range(0, len(data), 64 * 1024):
        dialled.receive_data(data[at : at + 64 * 1024])
    assert dialled.take_messages() == sent


@MODES
def test_the_longest_message_passes_and_a_longer_one_is_refused_at_the_sender(key: Key | None) -> None:
    dialler, dialled = opened(key)
    for bad in (b"", bytes(MESSAGE_BYTES_MAX + 1)):
        with pytest.raises(MessageTooLong):
            dialler.send_message(bad)
    assert dialler.pending_bytes == 0
    dialler.send_message(bytes(MESSAGE_BYTES_MAX))
    dialled.receive_data(dialler.data_to_send())
    event = dialled.next_event()
    assert isinstance(event, Message) and event.data == bytes(MESSAGE_BYTES_MAX)


@pytest.mark.parametrize("length", [0, MESSAGE_BYTES_MAX + 1, 2**32 - 1])
def test_a_peer_that_claims_a_longer_message_is_cut_off(length: int) -> None:
    sealer, dialled = raw_client()
    dialled.receive_data(sealer.seal(length.to_bytes(4, "little")))
    with pytest.raises(MessageTooLong):
        dialled.next_event()
    _, plain = opened(None)
    plain.receive_data(length.to_bytes(4, "little"))
    with pytest.raises(MessageTooLong):
        plain.next_event()


def test_a_claimed_length_reserves_no_memory() -> None:
    _, dialled = opened(None)
    dialled.receive_data(MESSAGE_BYTES_MAX.to_bytes(4, "little") + b"a")
    assert dialled.next_event() is NEED_DATA
    assert dialled.received_bytes == 5


@MODES
@settings(max_examples=40)
@given(sizes=st.lists(st.integers(1, 400), max_size=12), max_bytes=st.integers(1, 300), chunk=st.integers(1, 97))
def test_sending_in_portions_changes_nothing(
    key: Key | None, sizes: list[int], max_bytes: int, chunk: int
) -> None:
    dialler, dialled = opened(key)
    sent = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    dialler.send_messages(sent)
    data = b""
    pending = dialler.pending_bytes
    assert pending == dialler.sendable_bytes == sum(sizes) + 4 * len(sizes)
    while portion := dialler.data_to_send(max_bytes):
        assert pending - dialler.pending_bytes == min(max_bytes, pending)
        assert len(portion) <= max_bytes + 20
        pending = dialler.pending_bytes
        data += portion
    for at in range(0, len(data), chunk):
        dialled.receive_data(data[at : at + chunk])
    got: list[bytes] = []
    while taken := dialled.take_messages(3):
        got += taken
    assert got == sent


def test_output_before_the_handshake_waits_and_is_counted() -> None:
    dialler = client()
    dialler.start()
    dialler.send_message(b"12345")
    assert (dialler.pending_bytes, dialler.sendable_bytes, dialler.data_to_send()) == (9, 0, b"")


def test_taking_before_the_handshake_gives_nothing_and_breaks_nothing() -> None:
    dialled = server(KEY)
    dialled.receive_data(client().start())
    assert dialled.take_messages() == []
    assert dialled.next_event() is NEED_DATA
    assert len(dialled.data_to_send()) == 55


def test_a_session_that_is_discarded_holds_nothing_and_gives_nothing():
    session = ServerSession(lambda key_id: None, PortRole.CLIENT, plain_allowed=True, random_bytes=bytes)
    session.receive_data(ClientSession(None, PortRole.CLIENT, random_bytes=bytes).start() + b"\x00\x00\x10\x00" + bytes(1000))
    assert isinstance(session.next_event(), HandshakeDone)
    session.send_message(bytes(10_000))
    assert session.next_event() is NEED_DATA and session.received_bytes and session.pending_bytes
    session.discard()
    assert not session.received_bytes and not session.pending_bytes and not session.data_to_send()
    session.send_message(b"late")
    assert not session.pending_bytes

"""Quick forms say what the general path says, or nothing; native and pure alike."""

from __future__ import annotations

import random
import struct

import msgpack
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from node import quick, wire
from node.quick import GET, INSERT, PING
from storage import canonical, decode_value, encode_document, encode_value, native

KERNEL = native.choose("requests", None)
both_ways = pytest.mark.parametrize(
    "requests",
    [quick._requests, pytest.param(KERNEL, marks=pytest.mark.skipif(KERNEL is None, reason="the kernel is not built"))],
    ids=["pure", "native"],
)


def minimal(number: int) -> bytes:
    return msgpack.packb(number)


def held(requests, message: bytes) -> tuple | None:
    """What `requests` says of a message, after checking it against the general path."""
    [found] = requests([message])
    if found is None:
        return None
    request = wire.decode_request(message)  # raises for a message that the general path would refuse
    assert msgpack.unpackb(found[1]) == request.id
    if found[0] == PING:
        assert type(request) is wire.Ping and len(found) == 2
    elif found[0] == GET:
        assert type(request) is wire.Get and request.min_position is None
        assert found[2:] == (request.db, request.collection, canonical(decode_value(bytes(request.key))))
    else:
        _, _, db, collection, write_id, key, id_value, doc = found
        assert found[0] == INSERT and type(request) is wire.Insert
        assert (db, collection, write_id, [doc]) == (request.db, request.collection, request.request, [bytes(d) for d in request.docs])
        value = decode_value(id_value)
        assert key == canonical(value) and id_value == encode_value(value)
        assert type(doc) is bytes
    return found


names = st.text(max_size=20)
ids = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=40), st.binary(min_size=12, max_size=12).map(ObjectId))
request_ids = st.one_of(st.integers(0, 2**63 - 1), st.sampled_from([0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32]))


@both_ways
@given(request_ids, names, names, ids, st.binary(max_size=64), st.integers(0, 2))
def test_inserts(requests, number: int, db: str, collection: str, identity: object, write_id: bytes, left_out: int):
    doc = encode_document({"_id": identity, "n": [1, {"m": "text"}]})
    fields = ["insert", number, db, collection, [Raw(doc)], True, write_id]
    message = wire.encode_fields(fields[: len(fields) - left_out])
    assert held(requests, bytes(message)) == (
        INSERT, minimal(number), db, collection, b"" if left_out else write_id, canonical(identity), encode_value(identity), doc,
    )  # fmt: skip


@both_ways
@given(request_ids, names, names, ids, st.booleans())
def test_gets(requests, number: int, db: str, collection: str, identity: object, with_nil: bool):
    fields = ["get", number, db, collection, Raw(encode_value(identity)), *([None] if with_nil else [])]
    assert held(requests, bytes(wire.encode_fields(fields))) == (GET, minimal(number), db, collection, canonical(identity))


@both_ways
@given(request_ids)
def test_pings(requests, number: int):
    assert held(requests, wire.encode_request(wire.Ping(number))) == (PING, minimal(number))


DOC = encode_document({"_id": 7, "a": "b"})
KEY = encode_value(7)
LEFT = {
    "two documents": ["insert", 1, "d", "c", [Raw(DOC), Raw(DOC)]],
    "no document": ["insert", 1, "d", "c", []],
    "_id is second": ["insert", 1, "d", "c", [{"a": 1, "_id": 2}]],
    "no _id": ["insert", 1, "d", "c", [{"a": 1}]],
    "a field too many": ["insert", 1, "d", "c", [Raw(DOC)], True, b"", 1],
    "a field too few": ["insert", 1, "d", "c"],
    "ordered is no bool": ["insert", 1, "d", "c", [Raw(DOC)], None],
    "write id too long": ["insert", 1, "d", "c", [Raw(DOC)], True, bytes(65)],
    "write id is text": ["insert", 1, "d", "c", [Raw(DOC)], True, "id"],
    "a min_position": ["get", 1, "d", "c", Raw(KEY), [1, 2]],
    "an array as key": ["get", 1, "d", "c", [1]],
    "a long key": ["get", 1, "d", "c", "x" * 8192],
    "a get's field too many": ["get", 1, "d", "c", Raw(KEY), None, None],
    "a get's field too few": ["get", 1, "d", "c"],
    "a ping with more": ["ping", 1, 2],
    "a ping without id": ["ping"],
    "a negative id": ["ping", -1],
    "an id over 63 bits": ["ping", 2**63],
    "an id that is text": ["ping", "1"],
    "a long name": ["get", 1, "x" * 513, "c", Raw(KEY)],
    "a name that is none": ["get", 1, None, "c", Raw(KEY)],
    "another operation": ["status", 1],
    "an unknown operation": ["pong", 1],
    "an operation in bytes": [b"ping", 1],
    "a map": {"ping": 1},
    "nothing": [],
}


@both_ways
@pytest.mark.parametrize("fields", LEFT.values(), ids=LEFT.keys())
def test_what_is_left_to_the_general_path(requests, fields: object):
    message = bytes(wire.encode_fields(fields))
    assert held(requests, message) is None
    assert held(requests, b"") is None


@both_ways
def test_every_width_of_an_id_is_kept(requests):
    for head, form, quick_too in ((0xCC, ">B", True), (0xCD, ">H", True), (0xCE, ">I", True), (0xCF, ">Q", True), (0xD0, ">b", False), (0xD3, ">q", False)):  # fmt: skip
        rid = bytes([head]) + struct.pack(form, 5)
        assert held(requests, b"\x92\xa4ping" + rid) == ((PING, rid) if quick_too else None)
        assert held(requests, b"\xdd\0\0\0\2\xd9\4ping" + rid) == ((PING, rid) if quick_too else None)


@both_ways
def test_cuts_additions_and_damage(requests):
    whole = [
        bytes(wire.encode_fields(["insert", 300, "shop", "items", [Raw(DOC)], True, b"0123456789abcdef"])),
        bytes(wire.encode_fields(["get", 300, "shop", "items", "some text", None])),
        wire.encode_request(wire.Ping(5)),
    ]
    chance = random.Random(5)
    for message in whole:
        assert held(requests, message) is not None
        assert held(requests, message + b"\0") is None
        for cut in range(len(message)):
            assert held(requests, message[:cut]) is None
        for place in range(len(message)):
            for value in (0, 0x80, 0xC0, 0xFF, *chance.sample(range(256), 12)):
                held(requests, message[:place] + bytes([value]) + message[place + 1 :])


@both_ways
@given(st.lists(st.sampled_from(["a", "b", "é"]), max_size=8), st.binary(max_size=40))
def test_many_at_once(requests, dbs: list[str], noise: bytes):
    messages = [bytes(wire.encode_fields(["get", n, db, "c" + db, Raw(KEY)])) for n, db in enumerate(dbs)]
    found = requests([*messages, noise, b"\x92\xa4ping\x01" + noise])
    assert [row[2:4] for row in found[: len(dbs)]] == [(db, "c" + db) for db in dbs]
    assert found[-2:] == [held(requests, noise), held(requests, b"\x92\xa4ping\x01" + noise)]


@pytest.mark.skipif(KERNEL is None, reason="the kernel is not built")
def test_equal_names_are_one_object_and_strange_messages_are_left():
    message = bytes(wire.encode_fields(["get", 1, "database", "collection", Raw(KEY)]))
    first, second = KERNEL((message, message))
    assert first[2] is second[2] and first[3] is second[3]
    assert KERNEL([bytearray(message), None, 5]) == [None, None, None]
    with pytest.raises(TypeError):
        KERNEL(None)


# Replies.

positions = st.sampled_from([0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1])
replies_both_ways = pytest.mark.parametrize(
    "insert_replies, got_reply",
    [(quick._insert_replies, quick._got_reply), (quick.insert_replies, quick.got_reply)],
    ids=["pure", "chosen"],
)


def frame(number: int, result: object, epoch: int, seq: int) -> bytes:
    message = wire.encode_answer(wire.Reply(number, wire.encode_fields(result), epoch, seq))
    return len(message).to_bytes(4, "little") + message


@replies_both_ways
@given(st.lists(st.tuples(request_ids, ids), max_size=5), positions, positions)
def test_replies_to_inserts(insert_replies, got_reply, given_: list, epoch: int, seq: int):
    frames = insert_replies(
        [minimal(number) for number, _ in given_], [encode_value(identity) for _, identity in given_], epoch, seq
    )
    assert frames == [
        frame(number, {"n": 1, "ids": [Raw(encode_value(identity))], "errors": []}, epoch, seq) for number, identity in given_
    ]


@replies_both_ways
@given(request_ids, st.sampled_from([None, DOC, encode_value(bytes(70_000))]), positions, positions)
def test_replies_to_gets(insert_replies, got_reply, number: int, document: bytes | None, epoch: int, seq: int):
    result = {"doc": None if document is None else Raw(document)}
    assert got_reply(minimal(number), document, epoch, seq) == frame(number, result, epoch, seq)


@replies_both_ways
def test_replies_that_cannot_be(insert_replies, got_reply):
    with pytest.raises(ValueError):
        insert_replies([b"\1"], [], 1, 1)
    with pytest.raises(TypeError):
        insert_replies([b"\1"], ["text"], 1, 1)
    with pytest.raises(TypeError):
        got_reply("text", None, 1, 1)
    with pytest.raises((ValueError, OverflowError)):
        got_reply(b"\1", None, 2**64, 1)

"""Prepared requests of three protocols: bytes, and the places in them where numbers go. Pure.

A template is made with marks that occur nowhere else in it, and the places are then found by looking for the marks: so
what is sent is what the real encoders make. The kinds of places are drawn in load.c. One document everywhere: 200 bytes,
as MessagePack for Twinlog (its `_id` included) and as JSON text for the peers (their key stands outside).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

import msgspec

from node import wire

DOCUMENT_BYTES = 200
KEY_BASE = 2**33  # keys from here on take 9 bytes of MessagePack, as the marks do
KEY_MARK = 0x1122334455660000
SLOT_MARK = 0x1234
WRITE_MARK = b"\xabWRITE-REQUEST\xcd\xef"
DECIMAL_MARK = 7_700_000_000_000_000
BULK_DOCUMENTS = 1000
assert len(WRITE_MARK) == 16 and DECIMAL_MARK > 10**15

Place = tuple[str, int]  # kind, offset


@dataclass(frozen=True)
class Template:
    """One request. answer_min and answer_max bound the length of a good answer as load.c counts it; 0: no bound."""

    protocol: str
    request: bytes
    places: tuple[Place, ...]
    answer_min: int = 0
    answer_max: int = 0
    documents: int = 1


def fields(pad: int) -> dict:
    return {"name": "Ada Lovelace", "channel": 17, "score": 12.5, "active": True, "text": "x" * pad}


def document(key: int) -> dict:
    """The document of that key, 200 bytes as MessagePack for keys from KEY_BASE on."""
    plain = len(msgspec.msgpack.encode({"_id": KEY_BASE, **fields(100)}))
    return {"_id": key, **fields(100 + DOCUMENT_BYTES - plain)}


def document_json() -> bytes:
    """The same fields without key, 200 bytes of JSON."""
    plain = len(json.dumps(fields(100), separators=(",", ":")))
    return json.dumps(fields(100 + DOCUMENT_BYTES - plain), separators=(",", ":")).encode()


# Twinlog.


def _twinlog(request: wire.Request, keys: int, *, answer_min: int = 0, answer_max: int = 0) -> Template:
    body = wire.encode_request(request)
    frame = struct.pack("<I", len(body)) + body
    places: list[Place] = [("slot16", _only(frame, b"\xcd" + struct.pack(">H", SLOT_MARK)) + 1)]
    at = 0
    for number in range(keys):
        at = frame.index(b"\xcf" + struct.pack(">Q", KEY_MARK + number), at) + 1
        places.append(("key64", at))
    if WRITE_MARK in frame:
        places.append(("write128", _only(frame, WRITE_MARK)))
    return Template("twinlog", frame, tuple(places), answer_min, answer_max, max(1, keys))


def _only(frame: bytes, mark: bytes) -> int:
    assert frame.count(mark) == 1, f"{mark!r} stands {frame.count(mark)} times in the template"
    return frame.index(mark)


def twinlog_insert(db: str, collection: str, documents: int = 1) -> Template:
    """documents > 1: an insert_many. With a write id of its own, as the client library sends it."""
    raw = [msgspec.Raw(msgspec.msgpack.encode(document(KEY_MARK + number))) for number in range(documents)]
    request = wire.Insert(SLOT_MARK, db, collection, raw, documents == 1, WRITE_MARK)
    return _twinlog(request, documents, answer_max=80 + 9 * documents)


def twinlog_get(db: str, collection: str) -> Template:
    key = msgspec.Raw(msgspec.msgpack.encode(KEY_MARK))
    return _twinlog(wire.Get(SLOT_MARK, db, collection, key), 1, answer_min=DOCUMENT_BYTES)


def twinlog_ping() -> Template:
    return _twinlog(wire.Ping(SLOT_MARK), 0)


# Redis.


def _redis(words: list[bytes], keys: int, *, answer_min: int = 0) -> Template:
    frame = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    places, at = [], 0
    for number in range(keys):
        at = frame.index(b"%d" % (DECIMAL_MARK + number), at)
        places.append(("dec16", at))
    return Template("redis", frame, tuple(places), answer_min, documents=max(1, keys))


def redis_set(documents: int = 1) -> Template:
    """One: SET. More: MSET."""
    pairs = [word for number in range(documents) for word in (b"%d" % (DECIMAL_MARK + number), document_json())]
    return _redis([b"MSET" if documents > 1 else b"SET", *pairs], documents)


def redis_get() -> Template:
    return _redis([b"GET", b"%d" % DECIMAL_MARK], 1, answer_min=DOCUMENT_BYTES)


def redis_ping() -> Template:
    return _redis([b"PING"], 0)


# PostgreSQL. Bind, Execute, Sync of statements that the dialling prepared; numbers in binary.

INSERT_STATEMENT = ("i", "insert into docs values ($1, $2)", (20, 3802))  # int8, jsonb
GET_STATEMENT = ("g", "select doc from docs where id = $1", (20,))
PING_STATEMENT = ("p", "select 1", ())
STATEMENTS = (INSERT_STATEMENT, GET_STATEMENT, PING_STATEMENT)


def postgres_message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def _postgres_execute(statement: str, values: list[bytes]) -> bytes:
    bind = b"\0" + statement.encode() + b"\0" + struct.pack(">HH", 1, 1) + struct.pack(">H", len(values))
    bind += b"".join(struct.pack(">I", len(value)) + value for value in values) + struct.pack(">HH", 1, 0)
    return postgres_message(b"B", bind) + postgres_message(b"E", b"\0" + bytes(4)) + postgres_message(b"S", b"")


def postgres_insert() -> Template:
    key = struct.pack(">Q", KEY_MARK)
    frame = _postgres_execute(INSERT_STATEMENT[0], [key, b"\x01" + document_json()])
    return Template("postgres", frame, (("key64", _only(frame, key)),))


def postgres_get() -> Template:
    key = struct.pack(">Q", KEY_MARK)
    frame = _postgres_execute(GET_STATEMENT[0], [key])
    return Template("postgres", frame, (("key64", _only(frame, key)),), answer_min=DOCUMENT_BYTES)


def postgres_ping() -> Template:
    return Template("postgres", _postgres_execute(PING_STATEMENT[0], []), ())


def postgres_copy(documents: int) -> Template:
    """COPY docs FROM STDIN of so many text rows, as one simple query with its data behind it."""
    rows = b"".join(b"%d\t%b\n" % (DECIMAL_MARK + number, document_json()) for number in range(documents))
    query = postgres_message(b"Q", b"copy docs from stdin\0")
    frame = query + postgres_message(b"d", rows) + postgres_message(b"c", b"")
    places, at = [], 0
    for number in range(documents):
        at = frame.index(b"%d\t" % (DECIMAL_MARK + number), at)
        places.append(("dec16", at))
    return Template("postgres", frame, tuple(places), documents=documents)

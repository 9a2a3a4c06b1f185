"""All documents of a server out through the wire and checked, and a table filled by one COPY; one document by its key.

    take_all      a find over everything, its batches one after the other; the next is asked for before one is looked at
    copy_out      COPY docs TO STDOUT
    copy_in       COPY docs FROM STDIN, one statement for everything

Every document must come once and be byte for byte what was put in. All rows of one server have one length, so a
batch is held against a row that is known to be good as columns, for some tens of nanoseconds a row. Plain connections only.
Each returns its own CPU seconds, so that a report can say how busy this end was.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from node import wire

from .generator import LoadFailed, dial_twinlog, greet_postgres
from .templates import KEY_BASE, document, document_json, postgres_message

BATCH_ROWS = 10_000
READ_BYTES = 1 << 20
COPY_ROWS = 1_000
KEY_DIGITS = 10
FRAME = struct.Struct("<I")
MESSAGE = struct.Struct(">cI")
POWERS = 10 ** np.arange(KEY_DIGITS - 1, -1, -1, dtype=np.int64)

Passed = Callable[[int], None]  # told how many documents have passed so far
Octets = np.ndarray  # of uint8


class Batch(msgspec.Struct):
    """The result of find and more."""

    docs: msgspec.Raw
    cursor: int


@dataclass(frozen=True)
class RowShape:
    """A row that is known to be good, where its key stands in it, and how keys are read from that column."""

    row: bytes
    key_at: int
    key_bytes: int
    keys: Callable[[Octets], np.ndarray]


class Expected:
    """The documents that must come: keys KEY_BASE and up, each once. Rows in any order."""

    def __init__(self, shape: RowShape, documents: int) -> None:
        self._shape = shape
        self._row = np.frombuffer(shape.row, np.uint8)
        self._seen = np.zeros(documents, np.bool_)
        self.count = 0

    def take(self, rows: memoryview | bytes) -> None:
        """Whole rows. Raises LoadFailed for one that is not what was put in."""
        shape = self._shape
        if len(rows) % len(shape.row):
            raise LoadFailed(f"{len(rows)} bytes are no rows of {len(shape.row)}")
        table = np.frombuffer(rows, np.uint8).reshape(-1, len(shape.row))
        end = shape.key_at + shape.key_bytes
        same = (table[:, : shape.key_at] == self._row[: shape.key_at]).all() and (table[:, end:] == self._row[end:]).all()
        keys = shape.keys(np.ascontiguousarray(table[:, shape.key_at : end])) - KEY_BASE
        if not same or not ((keys >= 0) & (keys < len(self._seen))).all():
            raise LoadFailed(f"among the documents {self.count} to {self.count + len(table)} one is not what was put in")
        self._seen[keys] = True
        self.count += len(table)

    def check_whole(self) -> None:
        if self.count != len(self._seen) or not self._seen.all():
            raise LoadFailed(f"{self.count} documents came out, {int(self._seen.sum())} different ones, of {len(self._seen)}")


def packed_shape() -> RowShape:
    """A document as MessagePack."""
    row = msgspec.msgpack.encode(document(KEY_BASE))
    return RowShape(row, row.index(b"\xcf") + 1, 8, lambda column: column.view(">u8")[:, 0].astype(np.int64))


def copied_shape(text: bytes) -> RowShape:
    """A row of COPY with the message around it. text: of the document as the server writes it."""
    row = b"%d\t%b\n" % (KEY_BASE, text)
    return RowShape(MESSAGE.pack(b"d", len(row) + 4) + row, MESSAGE.size, KEY_DIGITS, lambda column: (column - ord("0")) @ POWERS)


def take_all(address: tuple[str, int], db: str, collection: str, documents: int, passed: Passed) -> float:
    """Everything in the collection. Raises LoadFailed unless it is exactly these documents."""
    expected, cpu = Expected(packed_shape(), documents), time.process_time()
    everything = msgspec.Raw(b"\x80")
    with dial_twinlog(address, None).sock as sock:
        sock.settimeout(None)
        _send(sock, wire.Find(1, db, collection, everything, batch=BATCH_ROWS))
        while True:
            batch = _batch(read_frame(sock))
            if batch.cursor:
                _send(sock, wire.More(1, batch.cursor, BATCH_ROWS))
            expected.take(_rows(bytes(batch.docs)))
            passed(expected.count)
            if not batch.cursor:
                break
    expected.check_whole()
    return time.process_time() - cpu


def get_one(address: tuple[str, int], db: str, collection: str, key: int) -> bytes:
    """One document from a node, as the answer that has it."""
    with dial_twinlog(address, None).sock as sock:
        _send(sock, wire.Get(1, db, collection, msgspec.Raw(msgspec.msgpack.encode(key))))
        return bytes(read_frame(sock))


def select_one(address: tuple[str, int], key: int) -> bytes:
    """One document from a table, as the messages that have it. Raises LoadFailed when the server refuses."""
    with greet_postgres(address) as sock:
        sock.sendall(postgres_message(b"Q", b"select doc from docs where id = %d\0" % key))
        return b"".join(body for kind, body in _until_ready(sock) if kind == b"D")


def _send(sock: socket.socket, request: wire.Request) -> None:
    body = wire.encode_request(request)
    sock.sendall(FRAME.pack(len(body)) + body)


def read_frame(sock: socket.socket) -> bytearray:
    """One answer of a node, without its length."""
    return _exactly(sock, FRAME.unpack(_exactly(sock, FRAME.size))[0])


def _exactly(sock: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, have = memoryview(data), 0
    while have < size:
        got = sock.recv_into(view[have:])
        if not got:
            raise LoadFailed("the server closed the connection")
        have += got
    return data


def _batch(body: bytearray) -> Batch:
    answer = wire.decode_answer(body)
    if isinstance(answer, wire.Failure):
        raise LoadFailed(f"{answer.name}: {answer.message}")
    return msgspec.msgpack.decode(answer.result, type=Batch)


def _rows(array: bytes) -> memoryview:
    """What stands behind the head of a MessagePack array."""
    head = {0xDC: 3, 0xDD: 5}.get(array[0], 1)
    return memoryview(array)[head:]


def copy_out(address: tuple[str, int], text: bytes, documents: int, passed: Passed) -> float:
    """The table as text. text: the first document as the server writes it, which is compared by value here."""
    assert json.loads(text) == json.loads(document_json()), f"the server holds another document: {text[:100]!r}"
    shape, cpu = copied_shape(text), time.process_time()
    expected, row = Expected(shape, documents), len(shape.row)
    with greet_postgres(address) as sock:
        sock.settimeout(None)
        sock.sendall(postgres_message(b"Q", b"copy docs to stdout\0"))
        kind, length = MESSAGE.unpack(_exactly(sock, MESSAGE.size))
        body = _exactly(sock, length - 4)
        if kind != b"H":
            raise LoadFailed(f"PostgreSQL refused: {bytes(body)!r}")
        wanted, room, held = documents * row, bytearray(READ_BYTES), 0
        while wanted:
            got = sock.recv_into(memoryview(room)[held:], min(READ_BYTES - held, wanted))
            if not got:
                raise LoadFailed("the server closed the connection")
            wanted, held = wanted - got, held + got
            whole = held - held % row
            expected.take(memoryview(room)[:whole])
            room[: held - whole] = room[whole:held]
            held -= whole
            passed(expected.count)
        if more := sum(kind == b"d" for kind, _ in _until_ready(sock)):
            raise LoadFailed(f"{more} documents more than the {documents} that went in")
    expected.check_whole()
    return time.process_time() - cpu


def _until_ready(sock: socket.socket) -> list[tuple[bytes, bytes]]:
    """The messages up to ReadyForQuery, by kind and body. Raises LoadFailed when an error is among them."""
    messages: list[tuple[bytes, bytes]] = []
    while not messages or messages[-1][0] != b"Z":
        kind, length = MESSAGE.unpack(_exactly(sock, MESSAGE.size))
        body = _exactly(sock, length - 4)
        if kind == b"E":
            raise LoadFailed(f"PostgreSQL refused: {bytes(body)!r}")
        messages.append((kind, bytes(body)))
    return messages


def copy_rows(documents: int) -> Iterator[bytes]:
    """The text rows of all documents, so many together, each lot as one message."""
    row = b"%d\t%b\n" % (KEY_BASE, document_json())
    table = np.tile(np.frombuffer(row, np.uint8), (COPY_ROWS, 1))
    for first in range(0, documents, COPY_ROWS):
        count = min(COPY_ROWS, documents - first)
        keys = np.arange(KEY_BASE + first, KEY_BASE + first + count, dtype=np.int64)
        table[:count, :KEY_DIGITS] = keys[:, None] // POWERS % 10 + ord("0")
        yield postgres_message(b"d", table[:count].tobytes())


def copy_in(address: tuple[str, int], documents: int, passed: Passed) -> float:
    """Into the empty table docs, in one statement."""
    cpu, done = time.process_time(), 0
    with greet_postgres(address) as sock:
        sock.settimeout(None)
        sock.sendall(postgres_message(b"Q", b"copy docs from stdin\0"))
        for message in copy_rows(documents):
            sock.sendall(message)
            done = min(documents, done + COPY_ROWS)
            passed(done)
        sock.sendall(postgres_message(b"c", b""))
        _until_ready(sock)
    return time.process_time() - cpu

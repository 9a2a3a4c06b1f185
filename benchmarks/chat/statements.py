"""Prepared statements of PostgreSQL over one plain socket, answered as lists of text: the least that a client must do.

    prepare   Parse, once a statement
    ask       Bind, Execute, Sync in one packet; the rows come as text
    copy      a COPY FROM STDIN with the rows behind it in one packet, which the server takes as it finds them

What a row means (JSON, a number) is the caller's to read. Raises LoadFailed with the server's words.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from benchmarks.generator import LoadFailed, greet_postgres
from benchmarks.templates import postgres_message

READ_BYTES = 1 << 18
HEAD = struct.Struct(">cI")
SYNC = postgres_message(b"S", b"")
EXECUTE = postgres_message(b"E", b"\0" + struct.pack(">I", 0))
COPY_IN = postgres_message(b"Q", b"copy docs from stdin\0")
COPY_DONE = postgres_message(b"c", b"")

Fields = tuple[bytes | None, ...]


class Statements:
    """One connection. Each question is planned for its own parameters: they differ too much for one plan to suit all."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._sock = greet_postgres(address, options="-c synchronous_commit=off -c plan_cache_mode=force_custom_plan")
        self._sock.settimeout(None)
        self._data = b""
        self._names: dict[str, bytes] = {}

    def prepare(self, sql: str) -> None:
        """Once is enough; ask does it too."""
        name = self._names[sql] = b"s%d" % len(self._names)
        self._sock.sendall(postgres_message(b"P", name + b"\0" + sql.encode() + b"\0" + struct.pack(">H", 0)) + SYNC)
        self._rows()

    def ask(self, sql: str, parameters: Sequence[str]) -> list[Fields]:
        if sql not in self._names:
            self.prepare(sql)
        texts = b"".join(struct.pack(">I", len(text)) + text for text in map(str.encode, parameters))
        bind = b"\0" + self._names[sql] + b"\0" + struct.pack(">HH", 0, len(parameters)) + texts + struct.pack(">H", 0)
        self._sock.sendall(postgres_message(b"B", bind) + EXECUTE + SYNC)
        return self._rows()

    def copy(self, rows: bytes) -> None:
        """rows: CopyData messages."""
        self._sock.sendall(COPY_IN + rows + COPY_DONE)
        self._rows()

    def copy_many(self, rows: Iterable[bytes]) -> None:
        """One COPY of all of them."""
        self._sock.sendall(COPY_IN)
        for lot in rows:
            self._sock.sendall(lot)
        self._sock.sendall(COPY_DONE)
        self._rows()

    def close(self) -> None:
        self._sock.close()

    def _rows(self) -> list[Fields]:
        """Of all messages up to ReadyForQuery."""
        rows: list[Fields] = []
        data, at, failed = self._data, 0, b""
        while True:
            if len(data) - at < HEAD.size or len(data) - at < 1 + HEAD.unpack_from(data, at)[1]:
                got = self._sock.recv(READ_BYTES)
                if not got:
                    raise LoadFailed("PostgreSQL closed the connection")
                data, at = data[at:] + got, 0
                continue
            kind, length = HEAD.unpack_from(data, at)
            if kind == b"D":
                rows.append(_fields(data, at + HEAD.size))
            elif kind == b"E":
                failed = data[at + HEAD.size : at + 1 + length]
            at += 1 + length
            if kind == b"Z":
                break
        self._data = data[at:]
        if failed:
            raise LoadFailed(f"PostgreSQL refused: {failed!r}")
        return rows


def _fields(data: bytes, at: int) -> Fields:
    """Of one DataRow, which begins at."""
    found: list[bytes | None] = []
    count = int.from_bytes(data[at : at + 2], "big")
    at += 2
    for _ in range(count):
        size = int.from_bytes(data[at : at + 4], "big", signed=True)
        at += 4
        found.append(None if size < 0 else data[at : at + size])
        at += max(0, size)
    return tuple(found)

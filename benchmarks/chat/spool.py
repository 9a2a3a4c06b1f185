"""Messages as files of ready requests, made before anything is measured, so that making them takes nothing from the servers.

    NAME.frames.I   for Twinlog: insert_many frames, as the wire has them, one behind the other
    NAME.copy.I     for PostgreSQL: CopyData messages of text rows (the _id stands outside the document, dates in milliseconds)

    python -m benchmarks.chat.spool DIRECTORY KIND I OF

makes part I of all orders, which stand on its standard input as JSON. One process makes one part; memory is one block's.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from benchmarks.generator import LoadFailed
from benchmarks.servers import COLLECTION, DB
from benchmarks.templates import postgres_message
from node import wire

from .messages import BLOCK, Chat, packed_date

FRAME = struct.Struct("<I")
WRITE_ID = struct.Struct(">QQ")
SLOTS = 1 << 16  # request ids in turn; far more than are outstanding
FRAMES, COPY = "frames", "copy"


class Order(msgspec.Struct, frozen=True):
    """Files to make: the blocks from first to last (not included), of each the first rows messages, in requests of batch messages."""

    name: str
    first: int
    last: int
    rows: int
    batch: int

    def share(self, part: int, parts: int) -> range:
        count = self.last - self.first
        return range(self.first + count * part // parts, self.first + count * (part + 1) // parts)


def part_of(directory: Path, name: str, kind: str, part: int) -> Path:
    return directory / f"{name}.{kind}.{part}"


def frame(number: int, name: str, documents: list[dict[str, object]]) -> bytes:
    """One insert_many with a write id of its own. number: of the request among those of that name."""
    tag = int.from_bytes(name.encode()[:8].ljust(8), "big")
    body = wire.encode_request(wire.Insert(number % SLOTS, DB, COLLECTION, documents, False, WRITE_ID.pack(tag, number)))  # type: ignore[arg-type]
    return FRAME.pack(len(body)) + body


def copied(documents: list[dict[str, object]]) -> bytes:
    """Text rows of COPY as one message. JSON of these messages has neither a backslash nor a tab in it."""
    encode = msgspec.json.encode
    return postgres_message(b"d", b"".join(b"%d\t%b\n" % (document.pop("_id"), encode(document)) for document in documents))


def make_part(directory: Path, kind: str, part: int, parts: int, orders: list[Order]) -> None:
    """The blocks of each order that fall to this part."""
    chat = Chat()
    for order in orders:
        with part_of(directory, order.name, kind, part).open("wb", buffering=1 << 20) as file:
            for number in order.share(part, parts):
                documents = chat.block(number).documents(packed_date if kind == FRAMES else int)
                for at in range(0, order.rows, order.batch):
                    lot = documents[at : at + order.batch]
                    file.write(frame(number * (BLOCK // order.batch) + at // order.batch, order.name, lot) if kind == FRAMES else copied(lot))


def make(directory: Path, kind: str, orders: list[Order]) -> None:
    """All files, by as many processes as there are cores. Raises LoadFailed."""
    parts = os.cpu_count() or 1
    text = msgspec.json.encode(orders)
    running = []
    for part in range(parts):
        command = [sys.executable, "-m", "benchmarks.chat.spool", str(directory), kind, str(part), str(parts)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        running.append(process)
    errors = [process.stderr.read() for process in running if process.stderr is not None]
    if any([process.wait() for process in running]):
        raise LoadFailed(f"the messages could not be made: {b''.join(errors).decode()[-500:]}")


def parts_of(directory: Path, name: str, kind: str) -> list[Path]:
    return sorted(directory.glob(f"{name}.{kind}.*"), key=lambda path: int(path.suffix[1:]))


def frames_in(paths: list[Path]) -> Iterator[bytes]:
    """The requests one by one, each with its length in front."""
    for path in paths:
        with path.open("rb", buffering=1 << 20) as file:
            while head := file.read(FRAME.size):
                yield head + _exactly(file, FRAME.unpack(head)[0])


def copies_in(paths: list[Path]) -> Iterator[bytes]:
    """The CopyData messages one by one."""
    for path in paths:
        with path.open("rb", buffering=1 << 20) as file:
            while head := file.read(5):
                yield head + _exactly(file, struct.unpack(">xI", head)[0] - 4)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise LoadFailed(f"{file.name} ends within a request")
    return data


if __name__ == "__main__":
    directory, kind, part, parts = sys.argv[1:]
    make_part(Path(directory), kind, int(part), int(parts), msgspec.json.decode(sys.stdin.buffer.read(), type=list[Order]))

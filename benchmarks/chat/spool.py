"""Messages as files of ready requests, made before anything is measured, so that making them takes nothing from the servers.

    NAME.frames.I   for Twinlog: insert_many frames, as the wire has them, one behind the other
    NAME.copy.I     for PostgreSQL: CopyData messages of text rows (the _id stands outside the document, dates in milliseconds)

    python -m benchmarks.chat.spool DIRECTORY NAME FIRST LAST ROWS BATCH PART KINDS

makes the files of the blocks FIRST to LAST (not included), of each the first ROWS messages, in requests of BATCH messages; PART is I, KINDS a comma
between "frames" and "copy". One process makes one part; memory is one block's.
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


def make_part(directory: Path, name: str, blocks: range, rows: int, batch: int, part: int, kinds: list[str]) -> None:
    chat = Chat()
    files = {kind: part_of(directory, name, kind, part).open("wb", buffering=1 << 20) for kind in kinds}
    for number in blocks:
        block, first = chat.block(number), number * (BLOCK // batch)
        if FRAMES in files:
            documents = block.documents(packed_date)
            for at in range(0, rows, batch):
                files[FRAMES].write(frame(first + at // batch, name, documents[at : at + batch]))
        if COPY in files:
            documents = block.documents(int)
            for at in range(0, rows, batch):
                files[COPY].write(copied(documents[at : at + batch]))
    for file in files.values():
        file.close()


def make(directory: Path, name: str, blocks: range, rows: int, batch: int, kinds: list[str]) -> None:
    """All files of these blocks, by as many processes as there are cores. Raises LoadFailed."""
    parts = max(1, min(os.cpu_count() or 1, len(blocks)))
    running = []
    for part in range(parts):
        mine = blocks[len(blocks) * part // parts : len(blocks) * (part + 1) // parts]
        words = [str(directory), name, str(mine.start), str(mine.stop), str(rows), str(batch), str(part), ",".join(kinds)]
        running.append(subprocess.Popen([sys.executable, "-m", __name__, *words], stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]))
    for process in running:
        _, errors = process.communicate()
        if process.returncode:
            raise LoadFailed(f"the messages could not be made: {errors.decode()[-500:]}")


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
    directory, name, first, last, rows, batch, part, kinds = sys.argv[1:]
    make_part(Path(directory), name, range(int(first), int(last)), int(rows), int(batch), int(part), kinds.split(","))

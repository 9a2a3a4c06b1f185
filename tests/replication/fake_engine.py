"""The engine's face in memory, for tests of replication alone: real frames and chains, no files, no tasks.

Its log lives in a `Shelf` that outlives the engine, so a node can be killed (what is not durable is lost) and opened
again. A test may hold durability back (`hold`), forget old log (`forget_log`), or lie about a state hash (`marks`).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgpack
import trio

from storage import Advance, DamagedRecord, NoSuchDatabase, PeerError, Position, Reign, Seams, TwinlogError
from storage.commit.codec import (
    Op,
    Record,
    check_chain,
    decode_body,
    decode_head,
    encode,
    encode_body,
    first_chain,
)
from storage.commit.log import LogRun


@dataclass
class Stored:
    """What of one database survives: frames[0] is commit 1; the log holds those after `held_from`."""

    uuid: bytes
    options: dict
    frames: list[bytes] = field(default_factory=list)
    held_from: int = 0
    clean: bool = True


@dataclass
class Shelf:
    """The disk of one node, as far as databases go."""

    databases: dict[str, Stored] = field(default_factory=dict)
    aside: list[tuple[str, Stored]] = field(default_factory=list)
    salvage: list[bytes] = field(default_factory=list)
    seeds: dict[str, dict] = field(default_factory=dict)
    rewindable: bool = True


class FakeScrubbing:
    """What replication sets and calls of a database's scrub."""

    def __init__(self) -> None:
        self.peers: Callable = list
        self.on_change: Callable[[], None] = lambda: None

    def try_again(self) -> None:
        return


class FakeDatabase:

    damaged = False
    def __init__(self, seams: Seams, shelf: Shelf, name: str, stored: Stored) -> None:
        self.seams, self.shelf, self.name, self.stored = seams, shelf, name, stored
        self.uuid, self.options = stored.uuid, stored.options
        self.history: tuple[Reign, ...] = ()
        self.position = Position(0, 0)
        self.chain = self.visible_chain = first_chain(self.uuid)
        self.chains = [self.chain]
        self.documents: dict[tuple[int, bytes], bytes] = {}
        self.frames: list[bytes] = []
        self.hold = False
        self.unclean = not stored.clean
        self.visible = self.position
        self.visible_advance, self.mark_advance = Advance(), Advance()
        self.marks: dict[int, str | None] = {}
        self.floor: int | None = None
        self.refusal: TwinlogError | None = None
        self.disk_state = {"state": "ok", "why": ""}
        self.log_bytes = self.sealed_bytes = 0
        self.last_time_us = self.outrun_seq = 0
        self.closed = False
        self.scrubbing = FakeScrubbing()
        for frame in list(stored.frames):
            self._take(frame)
        stored.frames = []
        self.marks.clear()
        self.flush()

    @property
    def durable_seq(self) -> int:
        return self.visible.seq

    def _take(self, frame: bytes) -> None:
        head = decode_head(frame)
        assert head is not None
        for record in decode_body(head.record_count, frame[56:]):
            if record.op == Op.REIGN:
                reign = Reign(head.epoch, int.from_bytes(record.doc, "little"), head.seq, self.chain)
                self.history = (*self.history, reign)
            elif record.op == Op.PUT:
                self.documents[record.collection, record.id] = record.doc
            elif record.op == Op.MARK:
                self.marks[head.seq] = self.state_hash()
        self.frames.append(frame)
        self.chains.append(head.chain)
        self.position, self.chain = Position(head.epoch, head.seq), head.chain
        self.log_bytes += len(frame)

    def state_hash(self) -> str:
        return hashlib.blake2b(repr(sorted(self.documents.items())).encode()).hexdigest()[:32]

    def _append(self, records: list[Record], epoch: int) -> int:
        self.last_time_us += 1
        frame, _ = encode(
            encode_body(records),
            record_count=len(records),
            epoch=epoch,
            seq=self.position.seq + 1,
            synced_seq=0,
            time_us=self.last_time_us,
            chain_before=self.chain,
        )
        self._take(frame)
        return self.position.seq

    def commit(self, records: list[Record]) -> int:
        if self.refusal is not None:
            raise self.refusal
        return self._append(records, self.history[-1].epoch)

    def begin_reign(self, epoch: int) -> int:
        assert epoch >= self.position.epoch
        seq = self._append([Record(Op.REIGN, 0, b"", self.seams.random_bytes(8))], epoch)
        self.unclean = False
        return seq

    def mark(self) -> int:
        return self.commit([Record(Op.MARK, 0, b"", b"")])

    def append_frames(self, data: bytes) -> int:
        offset = 0
        while offset < len(data):
            offset = self.append_some(data, offset)
        return self.position.seq

    def append_some(self, data: bytes, offset: int) -> int:
        """One frame at a time: the shortest slices there are."""
        head = decode_head(data, offset)
        assert head is not None
        frame = data[offset : offset + head.frame_len]
        if head.seq != self.position.seq + 1 or not check_chain(head, frame, self.chain):
            raise PeerError(f"commit {head.seq} does not continue {self.position}")
        self._take(frame)
        return offset + head.frame_len

    def flush(self) -> None:
        if self.hold or self.closed:
            return
        self.stored.frames = list(self.frames)
        self.visible, self.visible_chain = self.position, self.chain
        self.visible_advance.set(self.position.seq)
        self.mark_advance.set(max(self.marks, default=0))

    def release(self) -> None:
        self.hold = False
        self.flush()

    async def make_durable(self) -> bool:
        await trio.lowlevel.checkpoint()
        self.flush()
        return True

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()

    def refuse_writes(self, error: TwinlogError | None) -> None:
        self.refusal = error

    def set_floor(self, seq: int | None) -> None:
        self.floor = seq

    def forget_log(self, up_to: int) -> None:
        self.stored.held_from = up_to

    async def read_log(self, after_seq: int, max_bytes: int) -> LogRun | None:
        await trio.lowlevel.checkpoint()
        if after_seq < self.stored.held_from:
            return None
        taken, last = b"", after_seq
        for frame in self.frames[after_seq : self.visible.seq]:
            if taken and len(taken) + len(frame) > max_bytes:
                break
            taken += frame
            last += 1
        return LogRun(taken, last)

    async def chain_at(self, seq: int) -> int | None:
        await trio.lowlevel.checkpoint()
        return self.chains[seq] if self.stored.held_from <= seq <= self.position.seq else None

    async def pin_checkpoint(self) -> FakePin:
        await trio.lowlevel.checkpoint()
        return FakePin(self.frames[: self.visible.seq])


class FakePin:
    """A checkpoint of three files that together are the frames."""

    def __init__(self, frames: list[bytes]) -> None:
        whole = msgpack.packb(frames)
        third = len(whole) // 3
        self._files = {"f1": whole[:third], "f2": whole[third : 2 * third], "f3": whole[2 * third :]}
        self.seq = len(frames)
        self.manifest = hashlib.blake2b(whole).digest()
        self.files = [(name, len(data)) for name, data in self._files.items()]
        self.released = False

    async def read(self, name: str, offset: int, length: int) -> bytes:
        await trio.lowlevel.checkpoint()
        assert not self.released
        return self._files[name][offset : offset + length]

    def release(self) -> None:
        self.released = True


class FakeTarget:
    def __init__(self, engine: FakeEngine, name: str, uuid: bytes, options: dict, manifest: bytes) -> None:
        self._engine, self._name, self._uuid, self._options, self._manifest = engine, name, uuid, options, manifest
        staged = engine.shelf.seeds.get(name)
        if staged is None or staged["manifest"] != manifest:
            staged = engine.shelf.seeds[name] = {"manifest": manifest, "f1": b"", "f2": b"", "f3": b""}
        self._staged = staged

    async def missing(self) -> dict[str, int]:
        return {name: len(data) for name, data in self._staged.items() if name != "manifest"}

    async def write(self, file: str, offset: int, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        assert offset == len(self._staged[file])
        self._staged[file] += data

    async def finish(self) -> None:
        whole = self._staged["f1"] + self._staged["f2"] + self._staged["f3"]
        if hashlib.blake2b(whole).digest() != self._manifest:
            raise DamagedRecord("seed does not match its manifest")
        await trio.lowlevel.checkpoint()
        engine = self._engine
        if (old := engine.databases.get(self._name)) is not None:
            engine.shelf.salvage.append(b"".join(old.frames))
            old.closed = True
        frames = msgpack.unpackb(whole)
        engine.shelf.databases[self._name] = Stored(self._uuid, self._options, frames, held_from=len(frames))
        engine.open(self._name)
        engine.shelf.seeds.pop(self._name)
        engine.tell("reopened", self._name)

    async def abort(self) -> None:
        self._engine.shelf.seeds.pop(self._name, None)


class FakeEngine:
    def __init__(self, seams: Seams, shelf: Shelf) -> None:
        self.seams, self.shelf = seams, shelf
        self.node_id = ""
        self.databases: dict[str, FakeDatabase] = {}
        self.unopened: dict[str, str] = {}
        self._watchers: list[Callable[[str, str], None]] = []
        for name in shelf.databases:
            self.open(name)

    def open(self, name: str) -> FakeDatabase:
        database = self.databases[name] = FakeDatabase(self.seams, self.shelf, name, self.shelf.databases[name])
        return database

    def database(self, name: str) -> FakeDatabase:
        if name not in self.databases:
            raise NoSuchDatabase(f"there is no database {name!r}")
        return self.databases[name]

    async def create_database(
        self, name: str, *, uuid: bytes | None = None, shards: int = 8, crc: bool = True
    ) -> FakeDatabase:
        await trio.lowlevel.checkpoint()
        self.shelf.databases[name] = Stored(uuid or self.seams.random_bytes(16), {"shards": shards, "crc": crc})
        database = self.open(name)
        self.tell("created", name)
        return database

    async def drop_database(self, name: str) -> None:
        await self.set_aside(name)
        self.shelf.aside.pop()

    async def set_aside(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self.database(name).closed = True
        del self.databases[name]
        self.shelf.aside.append((name, self.shelf.databases.pop(name)))
        self.tell("dropped", name)

    async def rewind(self, name: str, to_seq: int) -> FakeDatabase | None:
        await trio.lowlevel.checkpoint()
        if not self.shelf.rewindable:
            return None
        old = self.database(name)
        old.closed = True
        stored = self.shelf.databases[name]
        self.shelf.salvage.append(b"".join(old.frames[to_seq:]))
        stored.frames = old.frames[:to_seq]
        del self.databases[name]
        await trio.lowlevel.checkpoint()
        database = self.open(name)
        self.tell("reopened", name)
        return database

    async def begin_seed(self, name: str, uuid: bytes, options: dict, manifest: bytes) -> FakeTarget:
        await trio.lowlevel.checkpoint()
        return FakeTarget(self, name, uuid, options, manifest)

    def watch_databases(self, callback: Callable[[str, str], None]) -> Callable[[], None]:
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def tell(self, kind: str, name: str) -> None:
        for watcher in tuple(self._watchers):
            watcher(kind, name)

    def kill(self) -> None:
        """As kill -9 and a power cut: nothing more reaches the shelf, and the next opening is an unclean one."""
        for name, database in self.databases.items():
            database.closed = True
            self.shelf.databases[name].clean = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeEngine]:
        yield self

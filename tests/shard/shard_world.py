"""A commit log made by hand and a dict that says what it must come to: what the sealing tests compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgpack
import numpy as np

from storage import identity
from storage.commit.codec import CATALOG, Op, Record, encode, encode_body, first_chain
from storage.commit.segment import SegmentHeader, SegmentName
from storage.disk import Disk
from storage.disk_memory import MemoryDisk
from storage.shard import checkpoint as checkpoints
from storage.shard.compaction import Compacted, compact, live_bytes, plan_compaction
from storage.shard.seal import SealPlan, SealResult, seal
from storage.shard.shardset import MISSING, ShardSet
from storage.values.keys import canonical, hash64
from storage.versions.statehash import CollectionState, hash_document, state_hash

UUID = bytes(range(16))
DIRECTORY = "db"


def document(identity: object, **fields: object) -> bytes:
    return msgpack.packb({"_id": identity, **fields})


@dataclass
class World:
    """One database: its disk, its log, and the model."""

    disk: Disk = field(default_factory=MemoryDisk)
    shards: int = 3
    crc: bool = True
    hash_key: Callable[[int, bytes], int] = hash64
    commits_per_segment: int = 4
    live: dict[int, dict[bytes, tuple[int, int, bytes]]] = field(default_factory=dict)  # collection -> key -> seq, row, doc
    names: dict[str, int] = field(default_factory=dict)
    seq: int = 0
    chain: int = first_chain(UUID)
    next_id: int = 1
    sealed: int | None = None
    compacted: list[Compacted] = field(default_factory=list)  # and not taken up yet
    offers: bool = True  # whether the next seal is told of them
    states: dict[int, str] = field(default_factory=dict)  # seq -> state hash by the model
    _paths: list[str] = field(default_factory=list)
    _pending: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.disk.make_dir(f"{DIRECTORY}/commit")
        identity.write(self.disk, DIRECTORY, identity.Identity(UUID, self.shards, self.crc))
        self.states[0] = self.model_hash()

    # Writing

    def create(self, name: str) -> int:
        number = self.next_id
        self.next_id += 1
        self.put(CATALOG, name, document(name, id=number))
        self.names[name] = number
        return number

    def drop(self, name: str) -> None:
        self.delete(CATALOG, name)
        self.live.pop(self.names.pop(name), None)

    def put(self, collection: int, identity: object, doc: bytes | None = None, **fields: object) -> None:
        key = canonical(identity)
        doc = doc or document(identity, **fields)
        self.live.setdefault(collection, {})[key] = (self.seq + 1, len(self._pending), doc)
        self._pending.append(Record(Op.PUT, collection, key, doc))

    def delete(self, collection: int, identity: object) -> None:
        key = canonical(identity)
        self.live.get(collection, {}).pop(key, None)
        self._pending.append(Record(Op.DELETE, collection, key, b""))

    def add(self, record: Record) -> None:
        self._pending.append(record)

    def commit(self) -> int:
        records, self._pending = self._pending, []
        if self.seq % self.commits_per_segment == 0:
            name = SegmentName(self.seq + 1, 1, 7)
            path = f"{DIRECTORY}/commit/{name}"
            file = self.disk.create(path)
            file.append(SegmentHeader(1, UUID, 7, self.seq + 1, self.chain, file.inode()).encode())
            self._paths.append(path)
        else:
            file = self.disk.open_append(self._paths[-1])
        self.seq += 1
        frame, self.chain = encode(
            encode_body(records),
            record_count=len(records),
            epoch=1,
            seq=self.seq,
            synced_seq=self.seq - 1,
            time_us=1_000_000 + self.seq,
            chain_before=self.chain,
        )
        file.append(frame)
        self.states[self.seq] = self.model_hash()
        return self.seq

    def sync_log(self) -> None:
        """What the engine does before it seals: the log and every name is on the device."""
        for path in self._paths:
            self.disk.open_append(path).sync()
        for directory in (f"{DIRECTORY}/commit", DIRECTORY, ""):
            self.disk.sync_dir(directory)

    # Sealing and comparing

    def plan(self, to_seq: int | None = None) -> SealPlan:
        compacted = tuple(self.compacted)
        return SealPlan(
            self.sealed,
            to_seq or self.seq,
            self.shards,
            self.crc,
            UUID.hex(),
            list(self._paths),
            closed=frozenset(log.file for each in compacted for log in each.replaced),
            reserved={each.shard: each.log.generation for each in compacted},
            compacted=compacted if self.offers else (),
        )

    def seal(self) -> SealResult:
        result = seal(self.disk, DIRECTORY, self.plan(), hash_key=self.hash_key)
        self.sealed = result.seq
        self.compacted = [each for each in self.compacted if each not in result.compacted]
        return result

    def compact(self, shard: int) -> Compacted:
        """Copy a shard's logs as they are now; seals do not extend them from here on; one that is told takes the copy up."""
        checkpoint = checkpoints.load(self.disk, DIRECTORY, self.sealed)
        plan = plan_compaction(self.disk, DIRECTORY, checkpoint, shard)
        found = compact(self.disk, DIRECTORY, plan, hash_key=self.hash_key)
        self.compacted.append(found)
        return found

    def open(self, previous: ShardSet | None = None) -> ShardSet:
        checkpoint, _ = checkpoints.newest_valid(self.disk, DIRECTORY)
        assert checkpoint is not None
        return ShardSet.open(self.disk, DIRECTORY, checkpoint, previous, hash_key=self.hash_key)

    def model_hash(self) -> str:
        states = []
        for name, number in self.names.items():
            state = CollectionState()
            for _, _, doc in self.live.get(number, {}).values():
                state.add(hash_document(doc))
            states.append((name, state))
        return state_hash(states)

    def check(self, shards: ShardSet) -> None:
        """Everything readable through the set is what the model says."""
        assert shards.seq == self.seq
        assert shards.checkpoint.state_hash == self.model_hash()
        assert {n: e.id for n, e in shards.checkpoint.collections.items()} == self.names
        named = np.array([CATALOG, *self.names.values()], np.uint32)
        for shard in shards.shards:
            assert shard.files.live == live_bytes(shard, named)
        for number in [CATALOG, *self.names.values()]:
            rows = self.live.get(number, {})
            assert shards.count(number) == len(rows)
            scanned = [row for batch in shards.scan(number) for row in batch]
            assert scanned == sorted((seq, row, key, doc) for key, (seq, row, doc) in rows.items())
            for key, (seq, row, doc) in rows.items():
                found = shards.find_now(number, key)
                assert (found.seq, found.row, found.doc) == (seq, row, doc)
                assert shards.find(number, key) == found
                assert shards.find_location(number, key) is not None
            assert shards.find_now(number, canonical("never written")) is MISSING
            assert shards.find(number, canonical("never written")) is MISSING

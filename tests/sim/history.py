"""What was ever written to any commit log in a run: the tree of commits, and the content after each of them.

The disks tell it every append to a commit log segment, on every node and in every life. A commit is known by its chain, which
names one state of the world (INV-6); its parent is the chain before it. So whatever a node shows at some chain can be
compared with the fold of the commits that lead there, and every acknowledged request can be looked for in the history that
survived. The engine is not asked: frames are read from the bytes it wrote.

The digest of a content is a sum over its documents, so that it needs no order: (count, sum of 64-bit hashes).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import msgpack

from storage.commit.codec import (
    CATALOG,
    HEAD_BYTES,
    Op,
    Record,
    check_body,
    decode_body,
    decode_head,
    first_chain,
)
from storage.commit.segment import HEADER_BYTES, decode_header
from storage.errors import DamagedRecord
from tests.sim.disk import Inode

HASHES_KEPT = 2**14  # of documents: a run asks for each many times, as it is written, seen, folded and replaced
Content = dict[int, dict[bytes, bytes]]  # collection id -> canonical key -> document; the catalog is collection 0


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit as it was first written. origin: the node that wrote it first."""

    chain: int
    parent: int
    seq: int
    epoch: int
    records: tuple[Record, ...]
    origin: str
    at_s: float

    @property
    def requests(self) -> list[bytes]:
        return [record.id for record in self.records if record.op == Op.REQUEST]

    @property
    def begins_reign(self) -> bool:
        return bool(self.records) and self.records[0].op == Op.REIGN


@dataclass(frozen=True, slots=True)
class Digest:
    count: int = 0
    total: int = 0

    def changed(self, count: int, total: int) -> Digest:
        return Digest(self.count + count, (self.total + total) % 2**64)


@lru_cache(HASHES_KEPT)
def item_hash(collection: int, key: bytes, doc: bytes) -> int:
    prefix = collection.to_bytes(4, "little") + len(key).to_bytes(2, "little")
    return int.from_bytes(hashlib.blake2b(prefix + key + doc, digest_size=8).digest(), "little")


def digest_of(items: Iterable[tuple[int, bytes, bytes]]) -> Digest:
    """items: (collection id, key, document) of everything that is there, catalog entries left out."""
    count = total = 0
    for collection, key, doc in items:
        count += 1
        total += item_hash(collection, key, doc)
    return Digest(count, total % 2**64)


@dataclass(slots=True)
class _Reading:
    """How far one segment file has been read."""

    offset: int = 0
    chain: int = 0
    uuid: bytes = b""


class CommitTree:
    """All commits of all databases of a run, by chain."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.commits: dict[int, Commit] = {}
        self.roots: set[int] = set()
        self.conflicts: list[str] = []
        self._now = now
        self._readings: dict[tuple[str, int], _Reading] = {}

    def listen_to(self, node: str) -> Callable[[str, Inode], None]:
        """The callback for the disk of a node."""

        def on_append(path: str, inode: Inode) -> None:
            if path.endswith(".log") and "/commit/" in path:
                self._read(node, path, inode)

        return on_append

    def begins(self, uuid: bytes) -> None:
        """A database was created: its empty state is one that there was, though no commit may ever follow it."""
        self.roots.add(first_chain(uuid))

    def _read(self, node: str, path: str, inode: Inode) -> None:
        reading = self._readings.setdefault((node, inode.number), _Reading())
        data, written = inode.data, inode.written
        if reading.offset == 0:
            if written < HEADER_BYTES:
                return
            header = decode_header(bytes(data[:HEADER_BYTES]), path)
            reading.offset, reading.chain, reading.uuid = HEADER_BYTES, header.chain_before, header.uuid
            if header.first_seq == 1:
                self.begins(header.uuid)
        while written - reading.offset >= HEAD_BYTES:
            head = decode_head(bytes(data[reading.offset : reading.offset + HEAD_BYTES]))
            end = reading.offset + head.frame_len
            if end > len(data):
                return
            body = bytes(data[reading.offset + HEAD_BYTES : end])
            try:
                check_body(head, body)
            except DamagedRecord as error:
                if end > written:  # cut short; were only zeros cut off, reserved space behind it has made it whole
                    return
                self.conflicts.append(f"{node} wrote a damaged frame into {path}: {error}")
                return
            records = tuple(decode_body(head.record_count, body))
            self._add(Commit(head.chain, reading.chain, head.seq, head.epoch, records, node, self._now()))
            reading.offset, reading.chain = end, head.chain

    def _add(self, commit: Commit) -> None:
        known = self.commits.get(commit.chain)
        if known is None:
            self.commits[commit.chain] = commit
            if commit.parent not in self.commits and commit.parent not in self.roots:
                self.conflicts.append(f"commit {commit.seq} on {commit.origin} follows a chain nobody ever wrote (INV-6)")
        elif (known.seq, known.epoch, known.parent) != (commit.seq, commit.epoch, commit.parent):
            self.conflicts.append(
                f"one chain names two commits: {known.epoch, known.seq} and {commit.epoch, commit.seq} on {commit.origin}"
            )

    def path_to(self, chain: int) -> list[Commit]:
        """The commits from the first to the one with this chain; KeyError if nobody ever wrote it."""
        path = []
        while chain not in self.roots:
            commit = self.commits[chain]
            path.append(commit)
            chain = commit.parent
        path.reverse()
        return path

    def seq_of(self, chain: int) -> int | None:
        commit = self.commits.get(chain)
        return commit.seq if commit is not None else 0 if chain in self.roots else None

    def walk(self) -> Iterator[tuple[int, Fold]]:
        """(chain, the fold there) for every commit that can be reached, each once; the fold is valid until the next step.

        Along each branch to its end; where branches part, the fold is copied, so that a run full of promotions costs no more than its commits.
        """
        children: dict[int, list[Commit]] = defaultdict(list)
        for commit in self.commits.values():
            children[commit.parent].append(commit)
        for root in sorted(self.roots):
            fold = Fold()
            yield root, fold
            waiting = [(commit, fold.copy()) for commit in children.get(root, ())]
            while waiting:
                commit, fold = waiting.pop()
                while True:
                    fold.apply(commit)
                    yield commit.chain, fold
                    following = children.get(commit.chain, ())
                    if not following:
                        break
                    waiting += [(other, fold.copy()) for other in following[1:]]
                    commit = following[0]


@dataclass(slots=True)
class Fold:
    """The content after a run of commits, with its digest kept up."""

    content: Content = field(default_factory=lambda: {CATALOG: {}})
    digest: Digest = field(default_factory=Digest)

    def copy(self) -> Fold:
        return Fold({number: dict(documents) for number, documents in self.content.items()}, self.digest)

    def apply(self, commit: Commit) -> None:
        for record in commit.records:
            if record.op == Op.PUT:
                if record.collection == CATALOG and self._is_changed_entry(record):
                    self.content[CATALOG][record.id] = record.doc
                    continue
                self._remove(record.collection, record.id)
                self.content.setdefault(record.collection, {})[record.id] = record.doc
                self._count(record.collection, record.id, record.doc, 1)
            elif record.op == Op.DELETE:
                self._remove(record.collection, record.id)

    def _is_changed_entry(self, record: Record) -> bool:
        """Whether a catalog document only says more of a collection that is there."""
        held = self.content[CATALOG].get(record.id)
        return held is not None and msgpack.unpackb(held)["id"] == msgpack.unpackb(record.doc)["id"]

    def _remove(self, collection: int, key: bytes) -> None:
        doc = self.content.get(collection, {}).pop(key, None)
        if doc is None:
            return
        self._count(collection, key, doc, -1)
        if collection == CATALOG:  # a dropped collection takes its documents along
            number = msgpack.unpackb(doc)["id"]
            for gone_key, gone in self.content.pop(number, {}).items():
                self._count(number, gone_key, gone, -1)

    def _count(self, collection: int, key: bytes, doc: bytes, sign: int) -> None:
        if collection != CATALOG:
            self.digest = self.digest.changed(sign, sign * item_hash(collection, key, doc))

    def ids(self) -> dict[str, int]:
        """Collection ids by name, as the catalog documents say."""
        entries = [msgpack.unpackb(doc) for doc in self.content[CATALOG].values()]
        return {entry["_id"]: entry["id"] for entry in entries}

"""What a range of commits comes to: the last write to every key as columns, and the rare records one by one. Pure.

    Frames ── tables ──> Records ── PUT, DELETE ── hash ── sort ──> Rows: the last write to each key, in order of writing
                                 └─ catalog, REIGN, the newest REQUESTs ──> plain values

No object is made for a document: a row says where in the run's bytes its id and document stand. Keys are compared only
where hashes are equal, and by columns there too; only a true collision of hashes (and the injected ones of the tests) takes
keys one by one. Costs: about 0.3 µs a record, hashing left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain as chained
from itertools import islice
from typing import NamedTuple

import numpy as np

from ..commit.codec import CATALOG, DELETE, PUT, REIGN, REQUEST
from ..commit.columns import Frames, Records, records_of
from ..errors import DamagedRecord
from ..position import History, Reign
from ..values.keys import hash64, hash_keys
from ..versions.statehash import catalog_entry
from .checkpoint import (
    REQUEST_ANSWER_BYTES_MAX,
    REQUEST_ANSWERS_BYTES_MAX,
    REQUESTS_MAX,
    Checkpoint,
    RequestKept,
)

HashKey = Callable[[int, bytes], int]

_WORD = 8  # bytes of keys compared at once


class Rows(NamedTuple):
    """Writes as columns over `blob`: the key stands at `at`, the document right behind it."""

    blob: bytes
    hash: np.ndarray  # u64
    op: np.ndarray  # u8
    collection: np.ndarray  # u32
    at: np.ndarray  # u64
    key_len: np.ndarray  # u32
    doc_len: np.ndarray  # u32
    seq: np.ndarray  # u64
    row: np.ndarray  # u32
    time_us: np.ndarray  # u64

    def take(self, which: np.ndarray) -> Rows:
        """Some of the rows, by ascending indices."""
        if len(which) == len(self.hash):
            return self
        return Rows(self.blob, *(column[which] for column in self[1:]))

    def key(self, number: int) -> bytes:
        start = int(self.at[number])
        return self.blob[start : start + int(self.key_len[number])]

    def doc(self, number: int) -> bytes:
        start = int(self.at[number]) + int(self.key_len[number])
        return self.blob[start : start + int(self.doc_len[number])]


@dataclass(frozen=True, slots=True)
class Range:
    """What the commits of a range come to. `rows`: the last write to every key, in the order of (seq, row)."""

    rows: Rows
    history: History
    requests: tuple[RequestKept, ...]  # the newest, the base's included
    next_collection_id: int
    chain: int
    epoch: int
    time_us: int
    last_seq: int


def gather(base: Checkpoint, frames: Frames, hash_key: HashKey = hash64) -> Range:
    """The net effect of commits that follow the base. Raises DamagedRecord when they do not follow without a gap."""
    heads = frames.heads
    follow = heads["seq"] == np.arange(base.seq + 1, base.seq + 1 + len(heads), dtype=np.uint64)
    if not follow.all():
        at = int(np.argmin(follow))
        raise DamagedRecord(f"commit {heads['seq'][at]} stands where {base.seq + 1 + at} should be in the log")
    records = records_of(frames)
    writes = _writes(frames, records, hash_key)
    next_id = base.next_collection_id
    for number in np.flatnonzero((writes.collection == CATALOG) & (writes.op == PUT)).tolist():
        next_id = max(next_id, catalog_entry(writes.doc(number))[1] + 1)
    is_empty = len(heads) == 0
    return Range(
        rows=writes.take(last_writes(writes)),
        history=(*base.history, *_reigns(base, frames, records)),
        requests=_newest_requests(chained(_requests_backwards(frames.data, records), reversed(base.requests))),
        next_collection_id=next_id,
        chain=base.chain if is_empty else int(heads["chain"][-1]),
        epoch=base.epoch if is_empty else int(heads["epoch"][-1]),
        time_us=base.time_us if is_empty else int(heads["time_us"][-1]),
        last_seq=base.seq + len(heads),
    )


def _writes(frames: Frames, records: Records, hash_key: HashKey) -> Rows:
    """Every put and delete of the range."""
    wanted = (records.op == PUT) | (records.op == DELETE)
    if not wanted.all():
        records = Records(*(column[wanted] for column in records))
    at, key_len, collection = records.at, records.key_len, records.collection
    if hash_key is hash64:
        hashes = np.frombuffer(hash_keys(frames.data, at, key_len, collection), np.uint64)
    else:
        hashes = _hashes_by_hand(frames.data, records, hash_key)
    heads = frames.heads
    seq, time_us = heads["seq"][records.commit], heads["time_us"][records.commit]
    return Rows(frames.data, hashes, records.op, collection, at, key_len, records.doc_len, seq, records.row, time_us)


def _hashes_by_hand(data: bytes, records: Records, hash_key: HashKey) -> np.ndarray:
    keys = zip(records.collection.tolist(), records.at.tolist(), records.key_len.tolist())
    return np.array([hash_key(collection, data[at : at + length]) for collection, at, length in keys], np.uint64)


def last_writes(rows: Rows) -> np.ndarray:
    """Which rows (ascending indices) are the last ones of their key; rows stand in order of writing."""
    order = np.argsort(rows.hash, kind="stable")
    hashes = rows.hash[order]
    is_same = hashes[1:] == hashes[:-1]
    keep = np.ones(len(order), bool)
    if not is_same.any():
        return np.flatnonzero(keep)
    earlier, later = order[:-1][is_same], order[1:][is_same]
    is_equal = (rows.collection[earlier] == rows.collection[later]) & (rows.key_len[earlier] == rows.key_len[later])
    of = np.flatnonzero(is_equal)
    one, other = earlier[of], later[of]
    is_equal[of] = equal_bytes(rows.blob, rows.at[one], rows.blob, rows.at[other], rows.key_len[one])
    keep[earlier[is_equal]] = False
    if not is_equal.all():  # two keys of one hash: their rows may alternate
        for hashed in np.unique(hashes[1:][is_same][~is_equal]).tolist():
            group = order[np.searchsorted(hashes, np.uint64(hashed)) : np.searchsorted(hashes, np.uint64(hashed), "right")]
            last = {(int(rows.collection[number]), rows.key(number)): number for number in group.tolist()}
            keep[group] = False
            keep[list(last.values())] = True
    return np.flatnonzero(keep)


def distinct(column: np.ndarray) -> list[int]:
    """The different values. Nearly always there is one, which a comparison sees faster than np.unique."""
    if len(column) and (column == column[0]).all():
        return [int(column[0])]
    return np.unique(column).tolist()


def equal_bytes(one: bytes, at: np.ndarray, other: bytes, other_at: np.ndarray, length: np.ndarray) -> np.ndarray:
    """For each place whether `length` bytes there are the same in both. Compares words of all places at a time."""
    equal = np.ones(len(at), bool)
    at, other_at, length = at.astype(np.int64), other_at.astype(np.int64), length.astype(np.int64)
    for width in (_WORD, 1):  # keys shorter than a word go byte by byte
        kind = f"<u{width}"
        words = np.ndarray((max(0, len(one) - width + 1),), kind, one, 0, (1,))
        other_words = np.ndarray((max(0, len(other) - width + 1),), kind, other, 0, (1,))
        left = np.flatnonzero(length >= _WORD if width == _WORD else (length < _WORD) & (length > 0))
        done = 0
        while len(left):
            place = np.minimum(done, length[left] - width)  # the last word of a key may overlap the one before
            equal[left] &= words[at[left] + place] == other_words[other_at[left] + place]
            done += width
            left = left[equal[left] & (length[left] > done)]
    return equal


def _reigns(base: Checkpoint, frames: Frames, records: Records) -> Iterator[Reign]:
    heads = frames.heads
    for number in np.flatnonzero(records.op == REIGN).tolist():
        commit = int(records.commit[number])
        head = heads[commit]
        at, key_len, doc_len = (int(column[number]) for column in (records.at, records.key_len, records.doc_len))
        reign_id = int.from_bytes(frames.data[at + key_len : at + key_len + doc_len], "little")
        chain_before = int(heads["chain"][commit - 1]) if commit else base.chain
        yield Reign(int(head["epoch"]), reign_id, int(head["seq"]), chain_before)


def _requests_backwards(data: bytes, records: Records) -> Iterator[RequestKept]:
    """The range's requests, newest first; more than are looked at are never made."""
    which = np.flatnonzero(records.op == REQUEST)[: -2 * REQUESTS_MAX - 1 : -1]
    columns = (records.at[which], records.key_len[which], records.doc_len[which])
    for at, key_len, doc_len in zip(*(column.tolist() for column in columns)):
        middle = at + key_len
        yield RequestKept(data[at:middle], data[middle : middle + doc_len])


def _newest_requests(newest_first: Iterator[RequestKept]) -> tuple[RequestKept, ...]:
    """As many of the newest as the bounds allow (INV-8), oldest first; long answers are forgotten, their ids are not."""
    kept: dict[bytes, RequestKept] = {}
    room = REQUEST_ANSWERS_BYTES_MAX
    for request in islice(newest_first, 2 * REQUESTS_MAX):
        if request.id in kept:
            continue
        if len(request.answer) > min(room, REQUEST_ANSWER_BYTES_MAX):
            request = RequestKept(request.id, b"")
        room -= len(request.answer)
        kept[request.id] = request
        if len(kept) == REQUESTS_MAX:
            break
    return tuple(reversed(kept.values()))

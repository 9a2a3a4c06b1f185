"""A run of commits as columns: where every frame and every record stands, without an object for each. Pure.

    data ── frame ─┬─ frame ─┬─ frame ─ ...          Frames: one row a commit, its header's fields and where it begins
                   └─ table ─┴─ id doc id doc ...    Records: one row a record, from all the tables together

Layouts are commit/codec.py's. What is read here has been checked by commit/scan.py; only that tables and bodies agree is
checked here. Costs: about 0.1 µs a record.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import DamagedRecord
from .codec import ENTRY_BYTES, HEAD_BYTES

HEAD_TYPE = np.dtype(
    [
        ("head_crc", "<u4"),
        ("body_crc", "<u4"),
        ("body_len", "<u4"),
        ("record_count", "<u4"),
        ("epoch", "<u4"),
        ("flags", "<u4"),
        ("seq", "<u8"),
        ("synced_seq", "<u8"),
        ("time_us", "<u8"),
        ("chain", "<u8"),
    ]
)
ENTRY_TYPE = np.dtype([("op", "u1"), ("reserved", "u1"), ("id_len", "<u2"), ("collection", "<u4"), ("doc_len", "<u4")])
assert HEAD_TYPE.itemsize == HEAD_BYTES, "the drawing in codec.py says 56"
assert ENTRY_TYPE.itemsize == ENTRY_BYTES, "the drawing in codec.py says 12"


class Frames(NamedTuple):
    """Sound commits one after the other. heads: HEAD_TYPE; at: where each frame begins in data (int64)."""

    data: bytes
    heads: np.ndarray
    at: np.ndarray


class Records(NamedTuple):
    """One row a record, in order of writing. `at`: where its id begins in the data; its document follows the id."""

    op: np.ndarray  # u8
    collection: np.ndarray  # u32
    at: np.ndarray  # u64
    key_len: np.ndarray  # u32
    doc_len: np.ndarray  # u32
    commit: np.ndarray  # int64: which frame
    row: np.ndarray  # u32: index within its commit


def structures_at(data: bytes, kind: np.dtype, at: np.ndarray) -> np.ndarray:
    """A copy of the structures that begin at the given places, at any alignment; each must lie within data."""
    size = kind.itemsize
    every = np.ndarray((max(0, len(data) - size + 1),), f"V{size}", data, 0, (1,))  # copied whole, not field by field
    return every[at].view(kind)


def frames_at(data: bytes, at: list[int]) -> Frames:
    """The frames that begin there."""
    places = np.array(at, np.int64)
    return Frames(data, structures_at(data, HEAD_TYPE, places), places)


def records_of(frames: Frames) -> Records:
    """Every record of the frames. Raises DamagedRecord when a table and its body disagree (a forged crc)."""
    heads = frames.heads
    counts = heads["record_count"].astype(np.int64)
    body_at = frames.at + HEAD_BYTES
    body_end = body_at + heads["body_len"]
    content_at = body_at + counts * ENTRY_BYTES
    if (content_at > body_end).any():
        raise _disagree(heads, content_at > body_end)
    commit = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    row = np.arange(len(commit)) - first[commit]
    entries = structures_at(frames.data, ENTRY_TYPE, body_at[commit] + row * ENTRY_BYTES)
    sizes = entries["id_len"].astype(np.int64) + entries["doc_len"]
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))  # bytes of all records before each
    wrong = content_at + before[first + counts] - before[first] != body_end
    if wrong.any():
        raise _disagree(heads, wrong)
    return Records(
        entries["op"].copy(),
        entries["collection"].copy(),
        ((content_at - before[first])[commit] + before[:-1]).astype(np.uint64),
        entries["id_len"].astype(np.uint32),
        entries["doc_len"].copy(),
        commit,
        row.astype(np.uint32),
    )


def _disagree(heads: np.ndarray, wrong: np.ndarray) -> DamagedRecord:
    seq = int(heads["seq"][np.argmax(wrong)])
    return DamagedRecord(f"body of commit {seq}: its table does not name the bytes that are there", seq=seq)

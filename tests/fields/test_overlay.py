"""Promises of storage/fields/overlay.py that its users cannot see."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import numpy as np
import pytest

from storage import encode_document
from storage.commit.codec import PUT, Record
from storage.commit.memtable import Memtable
from storage.fields import overlay
from storage.fields.overlay import Chunk, Overlay
from storage.fields.values import COLUMN, WORDS
from tests.fields.alike import differences


def test_a_read_that_fails_while_rows_are_taken_in_leaves_them_to_the_next_try() -> None:
    memtable = Memtable(0)
    for seq in (1, 2):
        memtable.put_run([Record(PUT, 7, b"%d" % n, encode_document({"_id": n, "seq": seq})) for n in range(3)], seq, seq)
    held = Overlay(memtable, 7)
    held.take()

    def failing(keys: Sequence[bytes]) -> list[int]:
        raise OSError(errno.EIO, "the device failed a read")

    for _ in range(2):
        with pytest.raises(OSError, match="failed a read"):
            held.absorb(failing, close=False)
    held.absorb(lambda keys: [5] * len(keys), close=False)
    glance = held.glance()
    assert glance.rows == 6, "three documents, each in two versions, once"
    assert (~glance.ended(0, 6, 2)).sum() == 3
    assert len(glance.masked(2)) == 3


def test_many_chunks_become_one_and_who_glanced_keeps_what_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "CHUNK_ROWS_MIN", 4)
    monkeypatch.setattr(overlay, "CHUNK_ROWS_MAX", 8)
    monkeypatch.setattr(overlay, "MERGED_ROWS_MIN", 20)
    memtable = Memtable(0)
    held = Overlay(memtable, 7)

    def write(count: int, seq: int) -> None:
        memtable.put_run([Record(PUT, 7, b"%d %d" % (seq, n), encode_document({"_id": n, "seq": seq})) for n in range(count)], seq, seq)
        held.take()
        held.absorb(lambda keys: [-1] * len(keys), close=False)

    def sizes() -> list[int]:
        return [chunk.rows for chunk in held.glance().chunks]

    for seq in (1, 2):
        write(9, seq)
    assert sizes() == [9, 9] and held.merged() is None, "too few"
    write(9, 3)
    before, merged = held.glance(), held.merged()
    assert merged is not None and (merged.start, merged.stop) == (0, 27)
    write(5, 4)
    held.put(merged)
    assert sizes() == [27, 5]
    assert [chunk.rows for chunk in before.chunks] == [9, 9, 9] and before.rows == 27
    assert merged.keys == [key for chunk in before.chunks for key in chunk.keys]
    assert merged.docs == held.docs[:27] and merged.order.tolist() == held.order.view(27).tolist()
    assert held.merged() is None, "a large one stays"
    for seq in (5, 6, 7):
        write(9, seq)
    assert sizes() == [27, 14, 9, 9]
    merged = held.merged()
    assert merged is not None and (merged.start, merged.stop) == (27, 50)
    held.put(merged)
    assert sizes() == [27, 23, 9]


def test_what_is_made_ready_at_once_is_what_is_made_when_asked_for() -> None:
    docs = [encode_document({"_id": i, "a": i % 3, "b": {"c": "red Green"[: i % 9]}, "t": f"word{i % 4} and more", "x": [i, "x"]}) for i in range(200)]
    fields = {"a": COLUMN, "b.c": COLUMN | WORDS, "t": WORDS, "x": COLUMN, "none": COLUMN}

    def chunk() -> Chunk:
        return Chunk(0, np.arange(200, dtype=np.uint64) << 16, [b""] * 200, docs)

    ready, asked = chunk(), chunk()
    ready.column("a")
    ready.make_ready(fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlay, "extract", None)  # nothing is left to be done
        ready.make_ready(fields)
        made = {path: (ready.column(path) if uses & COLUMN else ready.kinds(path)) for path, uses in fields.items()}
        texts = {path: ready.text(path) for path, uses in fields.items() if uses & WORDS}
    for path, uses in fields.items():
        assert not differences(made[path], asked.column(path) if uses & COLUMN else asked.kinds(path)), path
    for path, text in texts.items():
        assert [bytes(section) for _, section in text.sections()] == [bytes(section) for _, section in asked.text(path).sections()], path

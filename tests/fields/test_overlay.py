"""Promises of storage/fields/overlay.py that its users cannot see."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from storage import encode_document
from storage.commit.codec import PUT, Record
from storage.commit.memtable import Memtable
from storage.fields.overlay import Overlay


def test_a_read_that_fails_while_rows_are_taken_in_leaves_them_to_the_next_try() -> None:
    memtable = Memtable(0)
    for seq in (1, 2):
        memtable.put_run([Record(PUT, 7, b"%d" % n, encode_document({"_id": n, "seq": seq})) for n in range(3)], seq, seq)
    overlay = Overlay(memtable, 7)
    overlay.take()

    def failing(keys: Sequence[bytes]) -> list[int]:
        raise OSError(errno.EIO, "the device failed a read")

    for _ in range(2):
        with pytest.raises(OSError, match="failed a read"):
            overlay.absorb(failing, close=False)
    overlay.absorb(lambda keys: [5] * len(keys), close=False)
    glance = overlay.glance()
    assert glance.rows == 6, "three documents, each in two versions, once"
    assert (~glance.ended(0, 6, 2)).sum() == 3
    assert len(glance.masked(2)) == 3

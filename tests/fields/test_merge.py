"""Merging columns gives what building from the kept documents gives."""

from __future__ import annotations

import datetime
import random

import numpy as np
import pytest
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.fields.build import build_column
from storage.fields.extract import entries_of_documents
from storage.fields.merge import merge_columns
from tests.fields.alike import ARRAYS, FORMS, differences
from tests.fields.worlds import documents


def parts_of(found: list[dict], edges: list[int], keep: np.ndarray | None, path: str):
    return [
        (build_column(entries_of_documents(found[lo:hi], path)), None if keep is None else keep[lo:hi])
        for lo, hi in zip(edges, edges[1:])
    ]


@given(st.lists(documents, max_size=14), st.sampled_from(["a", "a", "a.b", "b", "_id"]), st.booleans(), st.data())
@settings(max_examples=400, deadline=None)
def test_merging_is_building(found: list[dict], path: str, is_all_kept: bool, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(found)), max_size=4)))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found))), bool)
    if is_all_kept:
        keep[:] = True
    merged = merge_columns(parts_of(found, [0, *cuts, len(found)], None if is_all_kept else keep, path))
    built = build_column(entries_of_documents([one for one, is_kept in zip(found, keep) if is_kept], path))
    assert differences(merged, built, ARRAYS + FORMS if is_all_kept else ARRAYS) == []
    if not is_all_kept:  # what a dropped row wrote may still be remembered, and is then marked
        varied = np.zeros(len(merged.numbers), bool) if merged.varied is None else merged.varied
        forms = [np.zeros(len(merged.numbers), bool) if c.doubles is None else c.doubles for c in (merged, built)]
        assert not ((forms[0] != forms[1]) & ~varied).any()


@pytest.mark.parametrize(
    "value",
    [
        lambda i, rng: i,
        lambda i, rng: datetime.datetime(2026, 1, 1) + datetime.timedelta(seconds=i),
        lambda i, rng: rng.randrange(2**63),
        lambda i, rng: rng.random(),
        lambda i, rng: f"author-{rng.randrange(700):08}",
        lambda i, rng: f"{rng.randrange(2**40):012x}",
        lambda i, rng: ObjectId(rng.randbytes(12)),
        lambda i, rng: rng.choice([None, True, 5, "x", [1, 2], "y" * rng.randrange(70)]),
    ],
    ids=["counted", "times", "integers", "doubles", "authors", "keys", "ids", "mixed"],
)
def test_many_rows(value):
    rng = random.Random(7)
    found = [{"_id": 1, "a": value(i, rng)} for i in range(3000)]
    keep = np.array([rng.random() < 0.9 for _ in found])
    for edges in ([0, 1000, 1100, 3000], [0, 3000]):
        for kept in (None, keep):
            merged = merge_columns(parts_of(found, edges, kept, "a"))
            rest = [one for one, is_kept in zip(found, keep) if kept is None or is_kept]
            assert differences(merged, build_column(entries_of_documents(rest, "a"))) == []


def test_merging_nothing():
    empty = build_column(entries_of_documents([], "a"))
    assert differences(merge_columns([(empty, None), (empty, np.empty(0, bool))]), empty) == []
    one = build_column(entries_of_documents([{"a": "x"}], "a"))
    assert differences(merge_columns([(one, np.zeros(1, bool)), (empty, None)]), empty) == []
    assert differences(merge_columns([(empty, None), (one, None)]), one) == []


@pytest.mark.parametrize("values", [[0, 0.0], [0.0, 0], [0, 0, 1.0, 1], [2, 2.0, 2], [-0.0, 0], [-0.0, 0.0]])
def test_numbers_written_in_two_ways_stay_marked(values: list[float]):
    found = [{"_id": 1, "a": value} for value in values]
    for edges in ([0, len(found)], list(range(len(found) + 1))):
        merged = merge_columns(parts_of(found, edges, None, "a"))
        built = build_column(entries_of_documents(found, "a"))
        assert differences(merged, built) == [] and built.varied.any()

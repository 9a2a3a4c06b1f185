"""The row table finds its rows by (seq, row) and merges as if it had been made in one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.fields.rows import NOWHERE, RowTable, merge_tables, row_table
from tests.fields.alike import same_table

places = st.tuples(st.integers(0, 12) | st.sampled_from([2**33, 2**40]), st.integers(0, 20) | st.just(65535))


def table_of(found: list[tuple[int, int]]) -> RowTable:
    seqs, rows = ([place[i] for place in found] for i in (0, 1))
    every = np.arange(len(found))
    return row_table(np.array(seqs, np.uint64), np.array(rows, np.uint64), every, every * 7, every + 1)


@given(st.sets(places, max_size=40).map(sorted), st.lists(places, max_size=20))
@settings(max_examples=300, deadline=None)
def test_rows_are_found_exactly(found: list, asked: list):
    table = table_of(found)
    asked = asked + found
    wanted = [found.index(place) if place in found else NOWHERE for place in asked]
    seqs, rows = np.array([seq for seq, _ in asked], np.uint64), np.array([row for _, row in asked], np.uint16)
    assert table.place_of(seqs, rows).tolist() == wanted
    assert len(table) == len(found) and table.seqs(0, len(found)).tolist() == [seq for seq, _ in found]


@given(st.sets(places, max_size=30).map(sorted), st.data())
@settings(max_examples=200, deadline=None)
def test_merging_is_building(found: list, data):
    whole = table_of(found)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(found)), max_size=3)))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found))), bool)
    edges = [0, *cuts, len(found)]
    parts = [(whole.slice(lo, hi), keep[lo:hi]) for lo, hi in zip(edges, edges[1:])]
    kept = whole.kept(keep)
    expected = row_table(kept.seqs(0, len(kept)), *kept.columns[1:])
    assert same_table(merge_tables(parts), expected)
    assert same_table(merge_tables([(part, None) for part, _ in parts]), whole)

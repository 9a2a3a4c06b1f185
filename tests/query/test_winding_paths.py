"""Promises of storage/query/paths.py about paths of many numbers: bounded time, and the answers of the plain walk."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.fields.extract import entries_of, entries_of_documents, extract
from storage.query import paths
from storage.query.filters import compile_filter
from storage.query.paths import ABSENT, MISSING, NUMBERS_MAX, Path
from storage.query.stage_joins import local_values
from storage.values.documents import encode
from storage.values.order import sort_key
from tests.fields.test_fields_kernel import values_of

LEVELS = 40
SECONDS_MAX = 2.0  # it takes milliseconds; the plain walk would take 2^27 steps

numbers = st.sampled_from(["0", "0", "0", "1", "a"])
windings = st.lists(numbers, min_size=NUMBERS_MAX + 1, max_size=9).map(".".join)
leaves = st.sampled_from([0, 1, None, "a"])
nested = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["0", "0", "1", "a"]), inner, max_size=2)), max_leaves=25
)
documents = st.dictionaries(st.sampled_from(["0", "0", "1", "a"]), nested, max_size=2)


def plainly(path: Path) -> Path:
    """The same path, walked without remembering."""
    plain = Path(".".join(path.parts))
    plain.is_winding = False
    return plain


def reached(document: dict, path: Path) -> list[Any]:
    found: list[Any] = []
    path.any_value(document, lambda value: found.append(value) or False)
    return found


def keys(values: list[Any]) -> set:
    return {"missing" if value is MISSING else sort_key(value) for value in values}


@settings(max_examples=400, deadline=None)
@given(documents, windings, leaves)
def test_a_winding_path_reaches_what_the_plain_walk_reaches(document: dict, text: str, wanted: object):
    path = Path(text)
    plain = plainly(path)
    assert keys(reached(document, path)) == keys(reached(document, plain))

    def test(value: object) -> bool:
        return value is not MISSING and sort_key(value) == sort_key(wanted)

    assert path.reaching(test)(document) == plain.reaching(test)(document)
    assert path.naming(test)(document) == plain.naming(test)(document)
    place = paths.without_place(test)
    assert path.locate(document, place, place) == plain.locate(document, place, place)
    assert keys(local_values(document, path)) == keys(local_values(document, plain))


@settings(max_examples=100, deadline=None)
@given(st.lists(documents, min_size=1, max_size=4), windings)
def test_the_index_takes_what_the_walk_shows(found: list[dict], text: str):
    encoded = [encode({"_id": 1, **document}) for document in found]
    length = np.array([len(one) for one in encoded], np.uint32)
    at = (np.cumsum(length) - length).astype(np.uint64)
    (entries,) = extract(b"".join(encoded), at, length, [text])
    assert values_of(entries) == values_of(entries_of_documents(found, text))


def worst(levels: int) -> dict:
    """Arrays and maps by turns; every array's element is reached by its index and by the key of the map it is."""
    value: Any = 1
    for _ in range(levels):
        value = [{"0": value}]
    return {"0": value}


def test_forty_levels_are_over_in_milliseconds():
    document, text = worst(LEVELS), ".".join("0" * LEVELS)
    path = Path(text)
    began = time.perf_counter()
    reached_values = reached(document, path)
    assert len(reached_values) <= LEVELS * LEVELS
    assert not compile_filter({text: "nowhere"})(document)
    assert compile_filter({text: {"$exists": True}}).position(document) == 0
    assert path.locate(document, lambda _: ABSENT, lambda _: ABSENT) is ABSENT
    assert local_values(document, path)
    assert entries_of(document, path) == (reached_values, False)
    data = encode({"_id": 1, **document})
    (entries,) = extract(data, np.zeros(1, np.uint64), np.array([len(data)], np.uint32), [text])
    assert len(entries.kind) == len(reached_values)
    assert time.perf_counter() - began < SECONDS_MAX

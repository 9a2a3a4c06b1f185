"""A collection cut into parts for the planner: indexed stretches of random documents with random dead rows, and loose rows."""

from __future__ import annotations

import datetime
import uuid

import numpy as np
from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import strategies as st

from storage.fields.column import Column
from storage.fields.dead import Dead
from storage.fields.indexed import index_documents
from storage.fields.text import Text
from storage.fields.values import COLUMN, WORDS
from storage.plan import Scale
from storage.values.documents import decode, encode

PATHS = ("a", "b", "a.b", "c", "a.0", "b.a")


class BuiltPart:
    """A part over a list of documents."""

    def __init__(self, documents: list[bytes], dead: list[bool], indexed: dict[str, int], first: int) -> None:
        self.rows = len(documents)
        self.dead = Dead.of(np.array(dead, bool)) if documents else Dead(None, 0)
        self._documents = documents
        self._first = first
        length = np.array([len(data) for data in documents], np.uint32)
        at = np.cumsum(length, dtype=np.uint64) - length
        self._indexed = index_documents(b"".join(documents), at, length, indexed)
        self.fetched = 0

    def column(self, path: str) -> Column | None:
        found = self._indexed.columns.get(path)
        return None if found is None or found.is_hollow else found

    def kinds(self, path: str) -> Column | None:
        return self._indexed.columns.get(path)

    def text(self, path: str) -> Text | None:
        return self._indexed.texts.get(path)

    def fetch(self, rows: np.ndarray, needles: tuple[bytes, ...] = ()) -> list[tuple[bytes, bytes] | None]:
        self.fetched += len(rows)
        assert not self.dead.test(rows).any(), "a dead row was read"
        documents = [(row, self._documents[row]) for row in rows.tolist()]
        return [(b"%d" % (self._first + row), data) if all(needle in data for needle in needles) else None for row, data in documents]


class World:
    """parts, loose rows, and `live`: (key, document) of all that a scan would see, in natural order."""

    def __init__(self, documents: list[dict], cuts: list[int], dead: list[bool], indexed: list[dict[str, int]], loose: int) -> None:
        stored = [encode(document) for document in documents]
        edges = sorted({0, *(min(cut, len(stored) - loose) for cut in cuts), len(stored) - loose})
        self.parts = [
            BuiltPart(stored[lo:hi], dead[lo:hi], fields, lo) for lo, hi, fields in zip(edges, edges[1:], indexed)
        ]
        end = edges[-1] if len(edges) > 1 else 0
        self.loose = [(number, 0, b"%d" % number, stored[number]) for number in range(end, len(stored))]
        self._shown = f"World({documents!r}, {cuts!r}, {dead!r}, {indexed!r}, {loose!r})"
        self.live = [
            (b"%d" % number, decode(data))
            for number, data in enumerate(stored)
            if number >= end or not dead[number]
        ]

    def __repr__(self) -> str:
        return self._shown


EVERY_SCALAR = [
    None, True, False, 0, 1, 1.0, -1, 2, 2.5, -0.0, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), 1e300, float("inf"),
    float("-inf"), float("nan"), Decimal128("1"), Decimal128("2.5"), Decimal128("NaN"), Decimal128("1E+400"), "", "a", "ab",
    "abc foo", "foo bar", "Foo", "é foo-bar", b"", b"ab", Binary(b"x" * 16, 3), uuid.UUID(int=5), uuid.UUID(int=2**127),
    ObjectId(b"a" * 12), ObjectId(b"b" * 11 + b"\0"), datetime.datetime(2020, 1, 1), datetime.datetime(1960, 1, 1, 1),
    Timestamp(1, 1), Timestamp(1, 2), Regex("foo", ""), Regex("a", "i"), MinKey(), MaxKey(), Code("x"),
]  # fmt: skip
SCALARS = st.sampled_from(EVERY_SCALAR)
USUAL = st.sampled_from([None, 0, 1, 2, 3, 4, 5, "a", "ab", "foo bar", 2.5])
VALUES = st.recursive(
    USUAL | SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=2),
    max_leaves=4,
)
INDEXED = st.dictionaries(st.sampled_from(PATHS), st.sampled_from([COLUMN, WORDS, COLUMN | WORDS])) | st.just(
    dict.fromkeys(PATHS, COLUMN | WORDS)
)
SCALES = st.just(Scale()) | st.builds(
    Scale,
    fetch_rows=st.integers(1, 4),
    window_rows_min=st.integers(1, 4),
    window_rows_max=st.integers(4, 8),
    gathered_always=st.sampled_from([0, 2, 100]),
    gathered_max=st.sampled_from([0, 100]),
    batch_places_min=st.integers(1, 3),
    batch_places_max=st.integers(3, 6),
    tied_rows_max=st.integers(1, 3),
    candidates_at_once=st.sampled_from([0, 100]),
    pattern_values=st.sampled_from([0, 100]),
    many_unsure=st.sampled_from([0, 2, 100]),
    dense_groups=st.sampled_from([0, 100]),
    weighed_by_row=st.sampled_from([0, 100]),
)


@st.composite
def pools(draw: st.DrawFn) -> list[object]:
    """The few values of one world: documents and filters are made of the same ones, so that they meet."""
    return draw(
        st.sampled_from(_MEETING)
        | st.lists(USUAL | SCALARS, min_size=2, max_size=5)
        | st.lists(VALUES, min_size=2, max_size=5)
    )


# Values that are equal, share a type or stand side by side in the order of types although an index keeps them apart.
_MEETING: list[list[object]] = [
    [1, 1.0, Decimal128("1"), 2, Decimal128("2.5"), 2.5],
    [1, 1.0, 0, -0.0, 3],
    [float("nan"), Decimal128("NaN"), None, float("inf"), -1],
    [2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63)],
    [None, [], [None], {}, [[]], 1],
    [1, [1, 2], [2], [1, 1.0], 3],
    [uuid.UUID(int=5), Binary(b"x" * 16, 3), b"ab", uuid.UUID(int=2**127)],
    ["foo", "foo bar", "Foo", "bar", Regex("foo", ""), "o b"],
    [MinKey(), MaxKey(), None, True, False],
    [None, 1, 2, 3],
    [1, 2, 3, 4, 5],
]


@st.composite
def worlds(draw: st.DrawFn, pool: list[object]) -> World:
    value = st.sampled_from(pool)
    nested = value | st.lists(value, max_size=3) | st.builds(lambda inner: {"b": inner}, value)
    field = draw(st.sampled_from([value, nested, nested | st.lists(st.builds(lambda inner: {"b": inner}, value), max_size=2)]))
    shape = st.fixed_dictionaries({}, optional={"a": field, "b": field, "c": value})
    documents = draw(st.lists(shape, min_size=draw(st.sampled_from([0, 10, 25])), max_size=40))
    if draw(st.booleans()):  # a field that ascends with the rows, as times do
        step = draw(st.sampled_from([1, 2, 7]))
        for number, document in enumerate(documents):
            document["c"] = number // step
    documents = [{"_id": number, **document} for number, document in enumerate(documents)]
    loose = draw(st.integers(0, min(4, len(documents))))
    cuts = draw(st.lists(st.integers(0, 40), max_size=2))
    share = draw(st.sampled_from([0, 2, 3, 10]))
    fate = st.integers(0, 11).map(lambda n: n < share)
    dead = draw(st.lists(fate, min_size=len(documents), max_size=len(documents))) if share else [False] * len(documents)
    indexed = draw(st.lists(INDEXED, min_size=3, max_size=3)) if draw(st.booleans()) else [dict.fromkeys(PATHS, COLUMN | WORDS)] * 3
    return World(documents, cuts, dead, indexed, loose)


_PATTERNS = st.sampled_from(["foo", "^a", "bar$", "o b", "x", "", "^foo bar$", "(?i)FOO", "a|b"])


def _is_operator(value: object) -> bool:
    return isinstance(value, dict) and next(iter(value), "").startswith("$")


def conditions(pool: list[object]) -> st.SearchStrategy[dict]:
    """What may stand under a field."""
    plain = [value for value in pool if not isinstance(value, Regex) and not _is_operator(value)] or [1]
    value = st.sampled_from(plain)
    return st.one_of(
        st.builds(lambda op, value: {op: value}, st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), value),
        st.builds(lambda a, b: {"$gte": a, "$lt": b}, value, value),
        st.builds(lambda a, b: {"$gt": a, "$lte": b}, value, value),
        st.builds(lambda op, values: {op: values}, st.sampled_from(["$in", "$nin"]), st.lists(value, max_size=4)),
        st.builds(lambda flag: {"$exists": flag}, st.booleans()),
        st.builds(
            lambda names: {"$type": names},
            st.lists(
                st.sampled_from(["number", "int", "double", "string", "array", "object", "null", "binData", "decimal"]), min_size=1
            ),
        ),
        st.builds(lambda pattern: {"$regex": pattern}, _PATTERNS),
        st.builds(lambda pattern, flags: {"$not": {"$regex": pattern, "$options": flags}}, _PATTERNS, st.sampled_from(["", "i"])),
        st.builds(lambda size: {"$size": size}, st.integers(0, 3)),
        st.just({"$mod": [2, 1]}),
        st.just({"$bitsAnySet": 3}),
        st.builds(lambda a, b: {"$elemMatch": {"$gte": a, "$lte": b}}, value, value),
        st.builds(lambda field, value: {"$elemMatch": {field: value}}, st.sampled_from(["a", "b", "0"]), value),
        st.builds(lambda field, value: {"$elemMatch": {field: {"$gt": value}}}, st.sampled_from(["a", "b"]), value),
        st.builds(lambda values: {"$all": values}, st.lists(value, min_size=1, max_size=2)),
        st.builds(lambda a: {"$not": {"$gte": a}}, value),
    )


def filters(pool: list[object]) -> st.SearchStrategy[dict]:
    tests = st.builds(lambda path, condition: {path: condition}, st.sampled_from(PATHS), conditions(pool))
    return st.just({}) | st.recursive(
        tests,
        lambda inner: st.builds(
            lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)
        ),
        max_leaves=4,
    )


SORTS = st.lists(
    st.tuples(st.sampled_from(("a", "b", "c", "a.b", "a.0")), st.sampled_from([1, -1])),
    min_size=1,
    max_size=3,
    unique_by=lambda field: field[0],
)


@st.composite
def questions(draw: st.DrawFn) -> tuple[World, dict, Scale]:
    """A world, a filter over it, and the sizes at which the planner changes its way."""
    pool = draw(pools())
    return draw(worlds(pool)), draw(filters(pool)), draw(SCALES)

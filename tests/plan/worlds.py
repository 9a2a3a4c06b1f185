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
from storage.values.documents import decode, encode

PATHS = ("a", "b", "a.b", "c", "a.0", "b.a")


class BuiltPart:
    """A part over a list of documents."""

    def __init__(self, documents: list[bytes], dead: list[bool], indexed: dict[str, bool], first: int) -> None:
        self.rows = len(documents)
        self.dead = Dead.of(np.array(dead, bool)) if documents else Dead(None, 0)
        self._documents = documents
        self._first = first
        length = np.array([len(data) for data in documents], np.uint32)
        at = np.cumsum(length, dtype=np.uint64) - length
        self._indexed = index_documents(b"".join(documents), at, length, indexed)
        self.fetched = 0

    def column(self, path: str) -> Column | None:
        return self._indexed.columns.get(path)

    def text(self, path: str) -> Text | None:
        return self._indexed.texts.get(path)

    def fetch(self, rows: np.ndarray) -> list[tuple[bytes, bytes]]:
        self.fetched += len(rows)
        assert not self.dead.test(rows).any(), "a dead row was read"
        return [(b"%d" % (self._first + row), self._documents[row]) for row in rows.tolist()]


class World:
    """parts, loose rows, and `live`: (key, document) of all that a scan would see, in natural order."""

    def __init__(self, documents: list[dict], cuts: list[int], dead: list[bool], indexed: list[dict[str, bool]], loose: int) -> None:
        stored = [encode(document) for document in documents]
        edges = sorted({0, *(min(cut, len(stored) - loose) for cut in cuts), len(stored) - loose})
        self.parts = [
            BuiltPart(stored[lo:hi], dead[lo:hi], fields, lo) for lo, hi, fields in zip(edges, edges[1:], indexed)
        ]
        end = edges[-1] if len(edges) > 1 else 0
        self.loose = [(number, 0, b"%d" % number, stored[number]) for number in range(end, len(stored))]
        self.live = [
            (b"%d" % number, decode(data))
            for number, data in enumerate(stored)
            if number >= end or not dead[number]
        ]


SCALARS = st.sampled_from(
    [
        None, True, False, 0, 1, 1.0, -1, 2, 2.5, -0.0, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), 1e300, float("inf"),
        float("-inf"), float("nan"), Decimal128("1"), Decimal128("2.5"), Decimal128("NaN"), Decimal128("1E+400"), "", "a", "ab",
        "abc foo", "foo bar", "Foo", "é foo-bar", b"", b"ab", Binary(b"x" * 16, 3), uuid.UUID(int=5), uuid.UUID(int=2**127),
        ObjectId(b"a" * 12), ObjectId(b"b" * 11 + b"\0"), datetime.datetime(2020, 1, 1), datetime.datetime(1960, 1, 1, 1),
        Timestamp(1, 1), Timestamp(1, 2), Regex("foo", ""), Regex("a", "i"), MinKey(), MaxKey(), Code("x"),
    ]
)  # fmt: skip
USUAL = st.sampled_from([None, 0, 1, 2, 3, 4, 5, "a", "ab", "foo bar", 2.5])
VALUES = st.recursive(
    USUAL | SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=2),
    max_leaves=4,
)
PLAIN_DOCUMENTS = st.fixed_dictionaries({}, optional={"a": USUAL, "b": USUAL, "c": USUAL})
ANY_DOCUMENTS = st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES, "c": SCALARS})
INDEXED = st.dictionaries(st.sampled_from(PATHS), st.booleans()) | st.just(dict.fromkeys(PATHS, True))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    documents = draw(st.lists(PLAIN_DOCUMENTS, max_size=30) | st.lists(ANY_DOCUMENTS, max_size=30))
    if draw(st.booleans()):  # a field that ascends with the rows, as times do
        for number, document in enumerate(documents):
            document["c"] = number // draw(st.sampled_from([1, 1, 2, 7]))
    documents = [{"_id": number, **document} for number, document in enumerate(documents)]
    loose = draw(st.integers(0, min(4, len(documents))))
    cuts = draw(st.lists(st.integers(0, 30), max_size=3))
    deaths = draw(st.booleans())
    dead = draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))) if deaths else [False] * len(documents)
    indexed = draw(st.lists(INDEXED, min_size=5, max_size=5))
    return World(documents, cuts, dead, indexed, loose)


_PATTERNS = st.sampled_from(["foo", "^a", "bar$", "o b", "x", "", "^foo bar$", "(?i)FOO", "a|b"])
_ARGUMENTS = VALUES.filter(lambda value: not isinstance(value, Regex) and not _is_operator(value))


def _is_operator(value: object) -> bool:
    return isinstance(value, dict) and next(iter(value), "").startswith("$")


_CONDITIONS = st.one_of(
    st.builds(lambda op, value: {op: value}, st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), _ARGUMENTS),
    st.builds(lambda a, b: {"$gte": a, "$lt": b}, _ARGUMENTS, _ARGUMENTS),
    st.builds(lambda op, values: {op: values}, st.sampled_from(["$in", "$nin"]), st.lists(_ARGUMENTS, max_size=4)),
    st.builds(lambda flag: {"$exists": flag}, st.booleans()),
    st.builds(
        lambda names: {"$type": names},
        st.lists(st.sampled_from(["number", "int", "double", "string", "array", "object", "null", "binData", "decimal"]), min_size=1),
    ),
    st.builds(lambda pattern: {"$regex": pattern}, _PATTERNS),
    st.builds(lambda pattern, flags: {"$not": {"$regex": pattern, "$options": flags}}, _PATTERNS, st.sampled_from(["", "i"])),
    st.builds(lambda size: {"$size": size}, st.integers(0, 3)),
    st.just({"$mod": [2, 1]}),
    st.just({"$bitsAnySet": 3}),
    st.builds(lambda a, b: {"$elemMatch": {"$gte": a, "$lte": b}}, USUAL, USUAL),
    st.builds(lambda field, value: {"$elemMatch": {field: value}}, st.sampled_from(["a", "b", "0"]), USUAL),
    st.builds(lambda field, value: {"$elemMatch": {field: {"$gt": value}}}, st.sampled_from(["a", "b"]), USUAL),
    st.builds(lambda values: {"$all": values}, st.lists(USUAL, min_size=1, max_size=2)),
    st.builds(lambda a: {"$not": {"$gte": a}}, USUAL),
)
_TESTS = st.builds(lambda path, condition: {path: condition}, st.sampled_from(PATHS), _CONDITIONS)
FILTERS = st.just({}) | st.recursive(
    _TESTS,
    lambda inner: st.one_of(
        st.builds(
            lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)
        ),
    ),
    max_leaves=4,
)
SORTS = st.lists(
    st.tuples(st.sampled_from(("a", "b", "c", "a.b", "a.0")), st.sampled_from([1, -1])), min_size=1, max_size=3, unique_by=lambda f: f[0]
)

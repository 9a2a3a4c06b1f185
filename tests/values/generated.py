"""Hypothesis strategies for every document type, alone and nested; values are in the form decoding gives them."""

from __future__ import annotations

import datetime
import math

from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import strategies as st

text = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
int64s = st.integers(-(2**63), 2**63 - 1)
edge_ints = st.sampled_from([0, 1, -1, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
doubles = st.floats(width=64)
decimals = st.one_of(
    st.binary(min_size=16, max_size=16).map(Decimal128.from_bid),
    st.builds(lambda i, e: Decimal128(f"{i}E{e}"), st.integers(-(10**33), 10**33), st.integers(-6000, 6000)),
    int64s.map(lambda i: Decimal128(str(i))),
    st.sampled_from(["0", "-0", "1", "1.0", "0.1", "0.5", "1E+40", "Infinity", "-Infinity", "NaN"]).map(Decimal128),
)
numbers = st.one_of(int64s, edge_ints, doubles, decimals, st.integers(-3, 3), st.integers(-3, 3).map(float))
dates = st.one_of(
    st.datetimes().map(lambda d: d.replace(microsecond=d.microsecond // 1000 * 1000)),
    st.sampled_from([2**62, -(2**62), 2**63 - 1, -(2**63)]).map(DatetimeMS),
)
binaries = st.builds(Binary, st.binary(max_size=20), st.integers(1, 255)).filter(
    lambda b: not (b.subtype == 4 and len(b) == 16)
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    text,
    st.binary(max_size=20),
    dates,
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.uuids(),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.builds(Regex, names, st.sets(st.sampled_from("ilmsux")).map(lambda s: "".join(sorted(s)))),
    st.just(MinKey()),
    st.just(MaxKey()),
    binaries,
    names.map(Code),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
ids = st.one_of(scalars.filter(lambda v: not isinstance(v, Regex)), st.dictionaries(names, values, max_size=3))
fields = names.filter(lambda n: not n.startswith("$") and n != "_id")
documents = st.builds(lambda i, rest: {"_id": i, **rest}, ids, st.dictionaries(fields, values, max_size=18))


def same(a: object, b: object) -> bool:
    """Same type and same value, bit for bit: what a lossless round trip must give. Unlike ==, tells 1 from 1.0 and True."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, Decimal128):
        return a.bid == b.bid
    if isinstance(a, Binary):
        return a.subtype == b.subtype and bytes(a) == bytes(b)
    if isinstance(a, datetime.datetime):
        return a == b and a.tzinfo is b.tzinfo is None
    return a == b

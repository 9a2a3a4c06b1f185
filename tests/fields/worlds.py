"""Values of all kinds for the tests of the field index, and a naive index to hold it against."""

from __future__ import annotations

import datetime
import uuid

from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import strategies as st

EDGES = [0, 1, -1, 2**53, 2**53 - 1, 2**53 + 1, 2**53 + 2, -(2**53) - 1, 2**62 + 3, 2**63 - 1, 2**63 - 512, -(2**63), -(2**63) + 1, 10**18 + 7]
DOUBLES = [0.0, -0.0, 1.0, 0.5, float("nan"), float("inf"), float("-inf"), 2.0**53, 2.0**63, -(2.0**63), 1e300, 5e-324, -1.5, 2.0**62]

numbers = st.sampled_from(EDGES) | st.sampled_from(DOUBLES) | st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1) | st.floats()
strings = st.sampled_from(["", "a", "b", "ab", "a\0", "a\0\0", "abcdefgh", "abcdefghi", "abcdefgh\0", "é", "\U0001f600"]) | st.text(max_size=12)
object_ids = st.sampled_from([b"\0" * 12, b"a\0" * 6, b"\xff" * 12, b"\x80" + b"\0" * 11]).map(ObjectId)
uuids = st.sampled_from([b"\0" * 16, b"a\0" * 8, b"\xff" * 16, b"\0" * 8 + b"\x01" + b"\0" * 7]).map(lambda data: uuid.UUID(bytes=data))
dates = st.sampled_from([datetime.datetime(1970, 1, 1), datetime.datetime(2026, 1, 1), datetime.datetime(1, 1, 1), DatetimeMS(2**62), DatetimeMS(-(2**63))])
opaque = st.sampled_from([Decimal128("1"), Decimal128("NaN"), {}, {"x": 1}, b"", b"ab", Binary(b"x", 5), Timestamp(1, 2), Regex("a", "i"), Code("f")])
single = st.sampled_from([None, MinKey(), MaxKey(), float("nan")])
scalars = st.one_of(numbers, strings, object_ids, uuids, st.booleans(), dates, opaque, single)
arrays = st.lists(scalars | st.lists(scalars, max_size=2), max_size=3)
values = st.one_of(scalars, scalars, scalars, arrays, st.dictionaries(st.sampled_from(["b", "0", "1"]), scalars | arrays, max_size=2))
documents = st.dictionaries(
    st.sampled_from(["a", "b"]), st.one_of(values, values, st.lists(st.dictionaries(st.just("b"), values, max_size=1), max_size=3)), max_size=2
).map(lambda fields: {"_id": 1, **fields})

"""Promises of storage/exchange/extjson.py: every known shape, lossless both ways, hostile text refused with a reason."""

from __future__ import annotations

import datetime
import json
import uuid

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadDocument
from storage.exchange.extjson import parse_line, to_json
from storage.values.documents import encode
from storage.values.order import equal
from tests.values.generated import documents, same


def has_shape_names(value: object) -> bool:
    """Maps with "$" keys may look like a type: Extended JSON cannot tell."""
    if isinstance(value, dict):
        return any(key.startswith("$") or has_shape_names(child) for key, child in value.items())
    return isinstance(value, list) and any(map(has_shape_names, value))


plain_documents = documents.filter(lambda d: not has_shape_names(d))


def without_nan_bits(value: object) -> object:
    """Decimal128 keeps payloads of NaN and unused encodings that text does not have."""
    if isinstance(value, Decimal128):
        return parse_line(to_json({"v": value}))["v"]
    if isinstance(value, dict):
        return {key: without_nan_bits(child) for key, child in value.items()}
    return [without_nan_bits(child) for child in value] if isinstance(value, list) else value


@given(plain_documents, st.booleans())
def test_text_read_back_is_the_same_document(doc: dict, canonical: bool) -> None:
    text = to_json(doc, canonical=canonical)
    assert "\n" not in text
    again = parse_line(text)
    assert equal(again, doc)
    assert same(again, without_nan_bits(doc))
    assert same(parse_line(text.encode()), again)


def has_old_uuid(value: object) -> bool:
    """bson.json_util turns every subtype 3 and 4 into a UUID, and fails when it is not 16 bytes."""
    if isinstance(value, dict):
        return any(map(has_old_uuid, value.values()))
    if isinstance(value, list):
        return any(map(has_old_uuid, value))
    return isinstance(value, Binary) and (value.subtype == 3 or (value.subtype == 4 and len(value) != 16))


@given(plain_documents.filter(lambda d: not has_old_uuid(d)))
def test_other_tools_read_what_is_written(doc: dict) -> None:
    """bson.json_util stands for MongoDB's own tools."""
    options = json_util.JSONOptions(
        uuid_representation=4, datetime_conversion=json_util.DatetimeConversion.DATETIME_AUTO, tz_aware=False
    )
    theirs = json_util.loads(to_json(doc, canonical=True), json_options=options)
    assert equal(parse_line(to_json(theirs)), doc)


UTC_MOMENT = datetime.datetime(2009, 4, 1, 7, 0, 0, 57_000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"$oid":"55a0f1d420a4d760b5fbdbd6"}', ObjectId("55a0f1d420a4d760b5fbdbd6")),
        ('{"$date":"2009-04-01T00:00:00.057-0700"}', UTC_MOMENT),
        ('{"$date":"2009-04-01T09:00:00.057+02:00"}', UTC_MOMENT),
        ('{"$date":"2009-04-01T09:00:00.057+02"}', UTC_MOMENT),
        ('{"$date":"2009-04-01T07:00:00.057Z"}', UTC_MOMENT),
        ('{"$date":"2009-04-01T07:00:00.0579999"}', UTC_MOMENT),
        ('{"$date":"2009-04-01T07:00:00Z"}', datetime.datetime(2009, 4, 1, 7)),
        ('{"$date":"2009-04-01T07:00Z"}', datetime.datetime(2009, 4, 1, 7)),
        ('{"$date":"0001-01-01T00:00:00+01:00"}', DatetimeMS(-62_135_596_800_000 - 3_600_000)),
        ('{"$date":1238569200057}', UTC_MOMENT),
        ('{"$date":{"$numberLong":"1238569200057"}}', UTC_MOMENT),
        ('{"$date":{"$numberLong":"-9000000000000000"}}', DatetimeMS(-9_000_000_000_000_000)),
        ('{"$numberLong":"9223372036854775807"}', 2**63 - 1),
        ('{"$numberLong":5}', 5),
        ('{"$numberInt":"-5"}', -5),
        ('{"$numberDouble":"-0.0"}', -0.0),
        ('{"$numberDouble":"NaN"}', float("nan")),
        ('{"$numberDouble":"-Infinity"}', float("-inf")),
        ('{"$numberDecimal":"1.50"}', Decimal128("1.50")),
        ('{"$binary":"aGk=","$type":"00"}', b"hi"),
        ('{"$binary":"aGk=","$type":0}', b"hi"),
        ('{"$binary":"aGk=","$type":"80"}', Binary(b"hi", 128)),
        ('{"$binary":"aGk=","$type":"ffffff80"}', Binary(b"hi", 128)),
        ('{"$binary":{"base64":"aGk=","subType":"5"}}', Binary(b"hi", 5)),
        ('{"$binary":{"base64":"AAAAAAAAAAAAAAAAAAAAAA==","subType":"04"}}', uuid.UUID(int=0)),
        ('{"$uuid":"00000000-0000-0000-0000-000000000001"}', uuid.UUID(int=1)),
        ('{"$timestamp":{"t":4294967295,"i":1}}', Timestamp(2**32 - 1, 1)),
        ('{"$regex":"^a","$options":"im"}', Regex("^a", "im")),
        ('{"$regex":"^a"}', Regex("^a")),
        ('{"$regularExpression":{"pattern":"a","options":"x"}}', Regex("a", "x")),
        ('{"$regex":{"$regularExpression":{"pattern":"a","options":""}}}', {"$regex": Regex("a")}),
        ('{"$regex":"a","$ne":"b"}', {"$regex": "a", "$ne": "b"}),
        ('{"$code":"f()"}', Code("f()")),
        ('{"$symbol":"s"}', "s"),
        ('{"$undefined":true}', None),
        ('{"$minKey":1}', MinKey()),
        ('{"$maxKey":1}', MaxKey()),
        ('{"$ref":"c","$id":{"$oid":"55a0f1d420a4d760b5fbdbd6"}}', {"$ref": "c", "$id": ObjectId("55a0f1d420a4d760b5fbdbd6")}),
        ('{"$dbPointer":{"$ref":"c","$id":1}}', {"$ref": "c", "$id": 1}),
        ('{"$exists":true}', {"$exists": True}),
        ("9223372036854775807", 2**63 - 1),
        ("1.0", 1.0),
        ("1e3", 1000.0),
        ('"\\ud83d\\ude00"', "😀"),
    ],
)
def test_shapes(text: str, value: object) -> None:
    assert same(parse_line(f'{{"v": {text}}}')["v"], value)


@pytest.mark.parametrize("ms", range(1000))
def test_every_millisecond_survives(ms: int) -> None:
    moment = datetime.datetime(2012, 11, 20, 20, 2, 24, ms * 1000)
    assert parse_line(to_json({"t": moment})) == {"t": moment}


@pytest.mark.parametrize(
    ("value", "relaxed", "canonical"),
    [
        (1, 1, {"$numberInt": "1"}),
        (2**31, 2**31, {"$numberLong": "2147483648"}),
        (1.5, 1.5, {"$numberDouble": "1.5"}),
        (float("nan"), {"$numberDouble": "NaN"}, {"$numberDouble": "NaN"}),
        (Int64(5), 5, {"$numberInt": "5"}),
        ((1,), [1], [{"$numberInt": "1"}]),
        (datetime.datetime(2012, 1, 2), {"$date": "2012-01-02T00:00:00Z"}, {"$date": {"$numberLong": "1325462400000"}}),
        (datetime.datetime(1969, 12, 31), {"$date": {"$numberLong": "-86400000"}}, {"$date": {"$numberLong": "-86400000"}}),
        (uuid.UUID(int=0), {"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAA==", "subType": "04"}}, None),
        (b"hi", {"$binary": {"base64": "aGk=", "subType": "00"}}, None),
        (Timestamp(1, 2), {"$timestamp": {"t": 1, "i": 2}}, None),
        (Regex("a", "mi"), {"$regularExpression": {"pattern": "a", "options": "im"}}, None),
        (Decimal128("1E+3"), {"$numberDecimal": "1E+3"}, None),
    ],
)
def test_written_shapes(value: object, relaxed: object, canonical: object) -> None:
    assert json.loads(to_json({"v": value}))["v"] == relaxed
    assert json.loads(to_json({"v": value}, canonical=True))["v"] == (canonical if canonical is not None else relaxed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"a":1}}', "not JSON"),
        ("{'a':1}", "not JSON"),
        ('{"a":"\t"}', "not JSON"),
        ("[1]", "map, not list"),
        ("1", "map, not int"),
        ('{"$oid":"55a0f1d420a4d760b5fbdbd6"}', "map, not ObjectId"),
        ('{"a":NaN}', "NaN"),
        ('{"a":[-Infinity]}', "Infinity"),
        ('{"a":1e999}', "1e999"),
        ('{"a":{"$numberDouble":"1e999"}}', "1e999"),
        ('{"a":9223372036854775808}', "64 bits"),
        ('{"a":' + "9" * 100_000 + "}", "64 bits"),
        ('{"a":{"$numberLong":"' + "9" * 100_000 + '"}}', "64 bits"),
        ('{"a":1,"a":2}', "'a' stands twice"),
        ('{"x":[{"b":1,"b":1}]}', "'b' stands twice"),
        ('{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"\xff"}', "UTF-8: byte 6 is 0xff"),
        ('{"a":' + "[" * 10_000 + "]" * 10_000 + "}", "deeper than 100"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "deeper than 100"),
        ('{"a":' + "[" * 100 + "]" * 100 + "}", "deeper than 100"),
        ('{"a":{"$oid":"55"}}', "oid"),
        ('{"a":{"$oid":"55 55 55 55 55 55 55 5555"}}', "oid"),
        ('{"a":{"$oid":5}}', "oid"),
        ('{"a":{"$oid":"55a0f1d420a4d760b5fbdbd6","b":1}}', "oid"),
        ('{"a":{"$date":"yesterday"}}', "date"),
        ('{"a":{"$date":"2009-13-01T00:00:00Z"}}', "date"),
        ('{"a":{"$date":true}}', "date"),
        ('{"a":{"$date":1.5}}', "date"),
        ('{"a":{"$numberInt":"1_0"}}', "numberInt"),
        ('{"a":{"$numberDouble":"1_0"}}', "numberDouble"),
        ('{"a":{"$numberDecimal":"ten"}}', "numberDecimal"),
        ('{"a":{"$numberDecimal":1}}', "numberDecimal"),
        ('{"a":{"$binary":"a"}}', "binary"),
        ('{"a":{"$binary":"****","$type":"00"}}', "binary"),
        ('{"a":{"$binary":"aGk=","$type":"100"}}', "binary"),
        ('{"a":{"$binary":{"base64":"aGk=","subType":""}}}', "binary"),
        ('{"a":{"$binary":{"base64":"aGk="}}}', "binary"),
        ('{"a":{"$uuid":"x"}}', "uuid"),
        ('{"a":{"$timestamp":5}}', "timestamp"),
        ('{"a":{"$timestamp":{"t":-1,"i":0}}}', "timestamp"),
        ('{"a":{"$regex":"a","$options":"g"}}', "regex"),
        ('{"a":{"$regularExpression":"a"}}', "regularExpression"),
        ('{"a":{"$code":"f","$scope":{}}}', "scope"),
        ('{"a":{"$minKey":2}}', "minKey"),
        ('{"a":{"$dbPointer":1}}', "dbPointer"),
    ],
)
def test_hostile_text_is_refused_with_a_reason(text: str | bytes, expected: str) -> None:
    with pytest.raises(BadDocument, match=expected):
        parse_line(text)


@pytest.mark.parametrize("shape", sorted(json.loads('["$oid","$date","$binary","$uuid","$timestamp","$regex","$code"]')))
@given(junk=st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda s: st.lists(s) | st.dictionaries(st.text(max_size=4), s)))
def test_a_shape_with_any_content_is_read_or_refused(shape: str, junk: object) -> None:
    try:
        found = parse_line(json.dumps({"v": {shape: junk}}))
    except BadDocument as refused:
        assert refused.message
    else:
        assert "v" in found


def test_what_cannot_be_stored_cannot_be_written() -> None:
    for value in ({1}, 2**63, Code("f", {}), object()):
        with pytest.raises(BadDocument):
            to_json({"v": value})
    deep: dict = {}
    for _ in range(10_000):
        deep = {"a": deep}
    with pytest.raises(BadDocument, match="deeper"):
        to_json(deep)


def test_a_read_document_can_be_stored() -> None:
    doc = parse_line('{"a":{"$numberLong":"1"},"_id":{"$oid":"55a0f1d420a4d760b5fbdbd6"}}')
    assert encode(doc)[1:5] == b"\xa3_id"

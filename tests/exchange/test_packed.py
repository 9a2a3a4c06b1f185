"""The native halves of the exchange give what the pure path gives, byte for byte and line for line, or leave it alone."""

from __future__ import annotations

import io
import json
import math
import random
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import msgpack
import msgspec
import pytest
from bson import Decimal128, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import native
from storage.errors import BadDocument
from storage.exchange import BadLine, Export, Format, Packed, Packing, Writer, ZipWriter, packed, to_json
from storage.exchange.encoded import pack_elements, pack_lines, texts
from storage.exchange.formats import COLLECTION_MARK
from storage.exchange.writing import Asked
from storage.values.documents import decode, encode
from tests.values.generated import documents

from .test_jsonl import Cut

ROOT = Path(__file__).resolve().parents[2]
KERNELS = [(native.EXCHANGE, "exchange.c"), (native.PACKING, "packing.c")]
needs_kernel = pytest.mark.skipif(native.EXCHANGE is None or native.PACKING is None, reason="the kernel is not built")
WHEN = "2026-01-15T10:30:00Z"
NEW = ObjectId(b"twelve bytes")
USUAL = (
    '{"_id":%d,"name":"user \\u00e9\\n","tags":["a",{"b":[]}],"score":1.25e2,"big":-9223372036854775808,"at":{"$date":"2024-02-29T10:00:00.5Z"},'
    '"old":{"$date":{"$numberLong":"-1"}},"id":{"$oid":"55a0f1d420a4d760b5fbdbd6"},"data":{"$binary":{"base64":"AAEC/w==","subType":"00"}},'
    '"uuid":{"$binary":{"base64":"AAECAwQFBgcICQoLDA0ODw==","subType":"04"}},"n":{"$numberInt":"7"},"d":{"$numberDouble":"0.1"},"ts":{"$timestamp":{"t":1,"i":2}},'
    '"none":null,"yes":true,"no":false,"empty":{}}'
)


@needs_kernel
def test_they_are_built_from_these_sources():
    for kernel, name in KERNELS:
        source = zlib.crc32((ROOT / "storage" / name).read_bytes())
        assert source == kernel.SOURCE, f"{name} has changed since it was built: python setup.py build_ext --inplace"


# Writing.

ASKED = [
    Asked(format=Format.JSONL, collections=["a"], created_at=WHEN),
    Asked(format=Format.JSONL, collections=["a"], created_at=WHEN, canonical=True),
    Asked(format=Format.JSONL, collections=["a"], created_at=WHEN, database="d"),
    Asked(format=Format.MONGO, collections=["a"], created_at=WHEN, canonical=True),
    Asked(format=Format.ALOS, collections=["a"], created_at=WHEN),
    *(Asked(format=Format.JSON, collections=["a"], created_at=WHEN, database=db, pretty=pretty, canonical=pretty) for db in (None, "d") for pretty in (False, True)),
]


@needs_kernel
@given(st.lists(documents, max_size=4), st.sampled_from(ASKED))
@settings(deadline=None)
def test_encoded_documents_are_written_as_documents_are(docs: list[dict], asked: Asked):
    pure, native_one = Writer(asked), Writer(asked)
    for writer in (pure, native_one):
        writer.begin()
        writer.collection('q"é')
    data = [encode(doc) for doc in docs]
    read = [decode(one) for one in data]
    for part in (slice(0, 1), slice(1, None)):
        assert native_one.packed(data[part]) == pure.documents(read[part])
    assert native_one.end() == pure.end()


@needs_kernel
def test_common_documents_are_taken_and_rare_ones_left():
    data = encode(decode(packed(_read(USUAL % 1))))
    rare = encode({"_id": 1, "price": Decimal128("1.5")})
    text, end = texts([data, data, rare, data], 0, b"", b"\n", b"", False, False, -1)
    assert (text, end) == ((to_json(decode(data)) + "\n").encode() * 2, 2)
    assert texts([rare], 0, b"", b"", b"", False, False, -1) == (b"", 0)
    with pytest.raises(TypeError):
        texts([data, "text"], 0, b"", b"", b"", False, False, -1)


@needs_kernel
@given(documents, st.data())
@settings(deadline=None)
def test_bytes_that_are_no_document_are_left_or_mean_the_same(doc: dict, data: st.DataObject):
    whole = bytearray(encode(doc))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))]) if data.draw(st.booleans()) else bytes(whole)
    text, end = texts([cut], 0, b"", b"", b"", False, data.draw(st.booleans()), -1)
    if end and not _has_key_twice(cut):
        assert json.loads(text) is not None
        assert text in (to_json(decode(cut)).encode(), to_json(decode(cut), canonical=True).encode())


def _has_key_twice(data: bytes) -> bool:
    found = False

    def pairs(given: list) -> dict:
        nonlocal found
        found = found or len({key for key, _ in given}) < len(given)
        return dict(given)

    with suppress(ValueError, TypeError):
        msgpack.unpackb(data, object_pairs_hook=pairs, strict_map_key=False)
    return found


def doubles() -> list[float]:
    rng = random.Random(7)
    found = [rng.random() * 10.0 ** rng.randint(-8, 18) for _ in range(20_000)] + [rng.randint(1, 10**17) / 10 ** rng.randint(0, 20) for _ in range(20_000)]
    found += [struct.unpack("d", rng.randbytes(8))[0] for _ in range(20_000)] + [2.0**50 + n / 4 for n in range(2_000)]
    for start in [10.0**n for n in range(-6, 18)] + [2.0**n for n in range(-16, 54)]:
        for toward in (0.0, math.inf):
            value = start
            for _ in range(20):
                found.append(value)
                value = math.nextafter(value, toward)
    return [value for value in found if math.isfinite(value)] + [0.0, -0.0, 5e-324, 1.7976931348623157e308]


@needs_kernel
def test_doubles_are_the_shortest_text_that_is_read_back():
    values = doubles()
    values += [-value for value in values[:1_000]]
    for start in range(0, len(values), 4_096):
        some = values[start : start + 4_096]
        text, end = texts([msgspec.msgpack.encode({"v": value}) for value in some], 0, b"", b"\n", b"", False, False, -1)
        assert end == len(some)
        assert text.decode().splitlines() == [f'{{"v":{value!r}}}' for value in some]
    data = "".join(f'{{"_id":1,"v":{value!r}}}\n' for value in values).encode()
    line, at, found = 1, 0, []
    while at < len(data):
        docs, _, at, line = pack_lines(data, at, line, 10**6, 10**6, b"", b"", b"", True, None)
        assert docs, data[at : at + 60]
        found += docs
    assert [decode(one)["v"].hex() for one in found] == [value.hex() for value in values]


@needs_kernel
@given(st.lists(documents, max_size=1))
@settings(deadline=None)
def test_an_archive_has_the_same_entries(docs: list[dict]):
    data = [encode(doc) for doc in docs]
    with ZipWriter() as pure, ZipWriter() as native_one:
        assert [*(pure.document("c", decode(one)) for one in data), *pure.end()] == [*(native_one.packed("c", [one]) for one in data), *native_one.end()]


# Reading.


def _read(line: str) -> dict:
    [(_, _, found)] = Export(io.BytesIO(line.encode())).items()
    assert isinstance(found, dict)
    return found


def flat(data: bytes, hint: Format | None, *, keeps_ids: bool, packing: bool, cut: int = 0) -> list:
    """Every document's bytes or reason, with its collection and line; what is packed and what is not told apart by nothing."""
    stream = Cut(data, cut) if cut else io.BytesIO(data)
    found = []
    for name, line, item in Export(stream, hint, packing=Packing(keeps_ids, new_id=lambda: NEW.binary) if packing else None).items():
        if isinstance(item, Packed):
            assert packing and line == item.lines[0] and len(item.lines) == len(item.documents)
            found += [(name, number, one) for number, one in zip(item.lines, item.documents)]
        elif isinstance(item, BadLine):
            found.append((name, line, item))
        else:
            if not keeps_ids:
                item = {"_id": NEW, **{key: value for key, value in item.items() if key != "_id"}}
            document = {"_id": NEW, **item} if "_id" not in item else item
            found.append((name, line, packed(document) or repr(item)))
    return found


def agree(data: bytes, hint: Format | None) -> None:
    for keeps_ids in (True, False):
        pure = flat(data, hint, keeps_ids=keeps_ids, packing=False)
        for cut in (0, 5, 1):
            assert flat(data, hint, keeps_ids=keeps_ids, packing=True, cut=cut) == pure


ODD = [
    "", "  \r", "{}", "[]", "1", "{", '{"_id":1}', '{"a":1,"_id":2,"b":3}', '{"_id":1,"_id":2}', '{"a":{"_id":1}}', '{"a":01}', '{"a":-0}', '{"a":-0.0}', '{"a":1.}', '{"a":.5}',
    '{"a":1e400}', '{"a":1e5}', '{"a":1E-5}', '{"a":9223372036854775807}', '{"a":9223372036854775808}', '{"a":-9223372036854775808}', '{"a":-9223372036854775809}',
    '{"a":123456789012345678901234567890}', '{"a":0.1000000000000000055511151231257827}', '{"a":NaN}', '{"a":Infinity}', '{"a":tru}', '{"a":nul}', '{"a":true}x', '{"a":1}{"b":2}', '{"a":1,}',
    '{"a" : [ 1 , 2 ] , "b" : { } }', '{"a":[1,]}', '{"a":"\t"}', '{"a":"\\u0000"}', '{"\\u0000":1}', '{"a":"\\ud83d\\ude00"}', '{"a":"\\ud83d"}', '{"a":"\\ude00\\ud83d"}', '{"a":"\\uD83Dx"}', '{"a":"\\x"}',
    '{"\\u0061":1,"a":2}', '{"$a":1}', '{"a":{"$a":1}}', '{"a":{"b":1,"$a":1}}', '{"a":{"\\u0024oid":"55a0f1d420a4d760b5fbdbd6"}}', '{"a":{"$oid":"55a0f1d420a4d760b5fbdbd"}}', '{"a":{"$oid":"55a0f1d420a4d760b5fbdbdg"}}',
    '{"a":{"$oid":"55A0F1D420A4D760B5FBDBD6"}}', '{"a":{"$oid":"55a0f1d420a4d760b5fbdbd6","b":1}}', '{"$oid":"55a0f1d420a4d760b5fbdbd6"}', '{"a":{"$date":"2024-02-30T00:00:00Z"}}',
    '{"a":{"$date":"2023-02-29T00:00:00Z"}}', '{"a":{"$date":"1900-02-29T00:00:00Z"}}', '{"a":{"$date":"2000-02-29T23:59:59.123456789Z"}}', '{"a":{"$date":"0000-01-01T00:00:00Z"}}', '{"a":{"$date":"0001-01-01T00:00:00Z"}}',
    '{"a":{"$date":"9999-12-31T23:59:59.999Z"}}', '{"a":{"$date":"1969-12-31T23:59:59.9Z"}}', '{"a":{"$date":"2024-01-01T00:00:60Z"}}', '{"a":{"$date":"2024-01-01T24:00:00Z"}}', '{"a":{"$date":"2024-01-01T00:00:00.Z"}}',
    '{"a":{"$date":"2024-01-01T00:00:00+01:00"}}', '{"a":{"$date":"2024-01-01T00:00:00"}}', '{"a":{"$date":"2024-01-01"}}', '{"a":{"$date":5}}', '{"a":{"$date":5.0}}', '{"a":{"$date":{"$numberLong":"9223372036854775807"}}}',
    '{"a":{"$date":{"$numberLong":"x"}}}', '{"a":{"$numberInt":"99999999999"}}', '{"a":{"$numberLong":"+5"}}', '{"a":{"$numberLong":5}}', '{"a":{"$numberLong":""}}', '{"a":{"$numberDouble":"NaN"}}', '{"a":{"$numberDouble":"5"}}',
    '{"a":{"$numberDouble":"-0"}}', '{"a":{"$numberDouble":"1e999"}}', '{"a":{"$numberDouble":"1x"}}', '{"a":{"$numberDouble":1}}', '{"a":{"$numberDecimal":"1.5"}}', '{"a":{"$binary":{"base64":"AA==","subType":"00"}}}',
    '{"a":{"$binary":{"base64":"AB==","subType":"0"}}}', '{"a":{"$binary":{"base64":"A===","subType":"00"}}}', '{"a":{"$binary":{"base64":"====","subType":"00"}}}', '{"a":{"$binary":{"base64":"AAA","subType":"00"}}}',
    '{"a":{"$binary":{"base64":"","subType":"05"}}}', '{"a":{"$binary":{"base64":"AA==","subType":"80"}}}', '{"a":{"$binary":{"base64":"AAA=","subType":"04"}}}', '{"a":{"$binary":{"base64":"AA-_","subType":"00"}}}',
    '{"a":{"$binary":"AA==","$type":"00"}}', '{"a":{"$binary":{"subType":"00","base64":"AA=="}}}', '{"a":{"$timestamp":{"t":4294967295,"i":0}}}', '{"a":{"$timestamp":{"t":4294967296,"i":0}}}', '{"a":{"$timestamp":{"t":-1,"i":0}}}',
    '{"a":{"$timestamp":{"i":1,"t":2}}}', '{"a":{"$minKey":1}}', '{"a":{"$regex":"^a","$options":"i"}}', '{"a":{"$undefined":true}}', '{"a":{"$symbol":"x"}}', '{"a":"' + "x" * 40 + '\\n' + "é" * 200 + '"}', '{"a":"' + "\\u00e9" * 70000 + '"}',
    '{"a":' + "[" * 99 + "]" * 99 + "}", '{"a":' + "[" * 100 + "]" * 100 + "}", '{"a":' * 100 + "1" + "}" * 100, '{"a":' * 101 + "1" + "}" * 101,
    "{" + ",".join(f'"k{n}":{n}' for n in range(20)) + "}", "{" + ",".join(f'"k{n}":{n}' for n in range(5_000)) + "}", '{"_id":7,"a":[' + ",".join("1" * 70_000) + "]}", USUAL % 5,
    '{"a":1.000000000000000000000000000000000000000000000000000000000000000000000000000000001}', '{"":1,"":2}', '{"":""}', '\ufeff{"a":1}', '{"a":"\x7f\u2028"}', '{"a":1\u00a0}', "{'a':1}", '{"a":0x10}', '{"a":+1}', '{"a":--1}', '{"a":1e}', '{"a":1e+}',
]  # fmt: skip


@needs_kernel
@pytest.mark.parametrize("hint", [Format.JSONL, Format.ALOS])
def test_odd_lines_are_read_alike(hint):
    head, tail = ('{"collection":"c","doc":', "}") if hint is Format.ALOS else ("", "")
    lines = [head + '{"_id":0}' + tail] + [head + line + tail for line in ODD]
    data = "\n".join(lines).encode() + b"\n" + head.encode() + b'{"a":"\xff"}' + tail.encode() + b"\n" + head.encode() + b'{"a":"\xed\xa0\x80 12345678"}' + tail.encode()
    for keeps_ids in (True, False):
        pure = flat(data, hint, keeps_ids=keeps_ids, packing=False)
        assert flat(data, hint, keeps_ids=keeps_ids, packing=True) == pure
        assert flat(data, hint, keeps_ids=keeps_ids, packing=True, cut=4_001) == pure
    assert any(isinstance(found, BadLine) for *_, found in pure) and sum(isinstance(found, bytes) for *_, found in pure) > 50


@needs_kernel
@pytest.mark.parametrize("around", ["[%s]", '{"version":1,"collections":{"c":[%s]}}'])
def test_odd_elements_are_read_alike(around):
    for odd in ODD:
        if len(odd) < 10_000:
            agree((around % f'{{"_id":0}},\n {{"_id":1, "a":[]}} ,{odd}\n,\n{{"_id":2}} , {{"_id":3}},\n{{"_id":4}}').encode(), None)


@needs_kernel
def test_common_lines_and_elements_are_taken():
    lines = "".join(USUAL % number + "\r\n" + " \n" * (number % 3) for number in range(50)).encode()
    docs, numbers, at, line = pack_lines(lines, 0, 1, 10**6, 10**6, b"", b"", b"", True, None)
    assert len(docs) == 50 and at == len(lines) and line == lines.count(b"\n") + 1
    assert docs == [packed(_read(USUAL % number)) for number in range(50)]
    assert [lines.splitlines()[number - 1] for number in numbers] == [(USUAL % number).encode() for number in range(50)]
    assert len(pack_lines(lines, 0, 1, 10**6, 7, b"", b"", b"", True, None)[0]) == 7
    assert pack_lines(lines, 0, 1, 100, 7, b"", b"", b"", True, None) == ([], [], 0, 1)
    elements = b" " + b" ,\n".join((USUAL % number).encode() for number in range(20)) + b"]"
    docs, numbers, at, line = pack_elements(elements, 0, 1, 10**6, 10**6, b"", b"", b"", True, None)
    assert numbers == list(range(1, 20)) and elements[at:].startswith(b"\n" + (USUAL % 19).encode())
    wrong = [lambda: b"short", lambda: "x" * 12]
    for new_id in wrong:
        with pytest.raises(TypeError, match="12 bytes"):
            pack_lines(lines, 0, 1, 10**6, 1, b"", b"", b"", False, new_id)
    with pytest.raises(ZeroDivisionError):
        pack_lines(lines, 0, 1, 10**6, 1, b"", b"", b"", False, lambda: 1 // 0)


sound = documents.filter(lambda doc: COLLECTION_MARK not in doc)


@needs_kernel
@given(st.lists(st.lists(sound, max_size=4), min_size=1, max_size=3), st.sampled_from(ASKED), st.data())
@settings(deadline=None)
def test_what_was_exported_is_read_alike_damaged_or_not(collections: list[list[dict]], asked: Asked, data: st.DataObject):
    writer = Writer(asked)
    text = writer.begin()
    for number, docs in enumerate(collections):
        if number == 0 or asked.database is not None or asked.format is Format.ALOS:
            text += writer.collection(f"c{number}")
        text += writer.packed([encode(doc) for doc in docs])
    whole = bytearray(text + writer.end())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(whole)))
        whole[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from([b"", b"\n", b'"', b"\\", b"{", b"}", b"]", b",", b"$", b"0", b"\xff", b"\xc3", b"e", b" "]))
    agree(bytes(whole), asked.format)


def test_without_the_kernel_nothing_is_taken():
    from storage.exchange.encoded import _pack_nothing, _texts

    assert _texts([b"\x80"], 0, b"", b"", b"", False, False, -1) == (b"", 0)
    assert _pack_nothing(b"{}\n", 0, 1, 10, 10, b"", b"", b"", True, None) == ([], [], 0, 1)
    with pytest.raises(BadDocument):
        Writer(Asked(format=Format.JSONL, collections=["a"], created_at=WHEN)).packed([b"\xc1"])

"""Promises of storage/exchange: whatever is exported comes back the same, whichever format and however the stream is cut."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadDocument, BadRequest
from storage.exchange.formats import Format, detect, format_of
from storage.exchange.jsonl import BadLine
from storage.exchange.reading import Export
from storage.exchange.writing import Asked, Writer
from storage.exchange.zipped import ZipWriter, file_name, named, read_zip
from tests.values.generated import ids, same

from .test_extjson import has_shape_names, plain_documents, without_nan_bits
from .test_jsonl import Cut

documents = plain_documents.map(without_nan_bits)  # Decimal128 has more than its text, and a map may look like a shape of Extended JSON
ids = ids.filter(lambda value: not has_shape_names({"_id": value})).map(without_nan_bits)

WHEN = "2026-01-15T10:30:00Z"
LINES = (Format.ALOS, Format.JSONL, Format.JSON)
collections = st.dictionaries(st.sampled_from(["users", "orders", "a b", 'q"uote', "é"]), st.lists(documents, max_size=4), max_size=3)


def write(asked: Asked, content: dict[str, list[dict]]) -> bytes:
    writer = Writer(asked)
    data = writer.begin()
    for name, docs in content.items():
        data += writer.collection(name)
        for doc in docs:
            data += writer.documents([doc])
    return data + writer.end()


def read(data: bytes, hint: Format | None = None, cut: int = 0) -> tuple[Format, list]:
    export = Export(Cut(data, cut) if cut else io.BytesIO(data), hint)
    return export.format, list(export.items())


def by_collection(items: list) -> dict[str | None, list[dict]]:
    found: dict[str | None, list[dict]] = {}
    for name, line, document in items:
        assert not isinstance(document, BadLine), (line, document)
        found.setdefault(name, []).append(document)
    return found


@given(collections, st.sampled_from(LINES), st.booleans(), st.booleans(), st.sampled_from([0, 1, 7]))
def test_a_database_comes_back(content: dict, kind: Format, pretty: bool, canonical: bool, cut: int) -> None:
    pretty = pretty and kind is Format.JSON
    asked = Asked(
        format=kind, collections=list(content), created_at=WHEN, database="shop", pretty=pretty, canonical=canonical
    )
    data = write(asked, content)
    found, items = read(data, cut=cut)
    assert found is kind
    assert same(by_collection(items), {name: docs for name, docs in content.items() if docs})


@given(st.lists(documents, max_size=4), st.sampled_from([*LINES, Format.MONGO]), st.booleans())
def test_one_collection_comes_back(docs: list, kind: Format, pretty: bool) -> None:
    asked = Asked(format=kind, collections=["users"], created_at=WHEN, pretty=pretty and kind is Format.JSON)
    _, items = read(write(asked, {"users": docs}), hint=kind)
    assert same([document for _, _, document in items], docs)


@given(st.lists(documents, max_size=5, unique_by=lambda doc: file_name(doc["_id"])))
def test_a_zip_archive_comes_back(docs: list) -> None:
    with ZipWriter() as writer:
        data = b"".join([*(writer.document("users", doc) for doc in docs), *writer.end()])
    assert not docs or detect(data) is Format.ZIP
    found = list(read_zip(io.BytesIO(data)))
    assert same([document for _, _, document in found], docs)
    assert {name for name, _, _ in found} <= {"users"}


@given(ids)
def test_a_file_name_gives_its_id_back(value: object) -> None:
    name = file_name(value)
    assert same(named(name), value)
    assert "/" not in name and "\\" not in name and name not in (".", "..")


def test_the_reference_s_own_examples_are_read() -> None:
    alos = (
        b'{"version": 1, "database": "myapp", "created_at": "2026-01-15T10:30:00Z", "collections": ["users", "orders"]}\n'
        b'{"collection": "users", "doc": {"_id": "abc123", "name": "Alice"}}\n'
        b'{"collection": "orders", "doc": {"_id": "ord456", "total": 99.99}}\n'
    )
    export = Export(io.BytesIO(alos))
    assert export.format is Format.ALOS
    assert [item[::2] for item in export.items()] == [
        ("users", {"_id": "abc123", "name": "Alice"}), ("orders", {"_id": "ord456", "total": 99.99})
    ]  # fmt: skip
    assert export.header["collections"] == ["users", "orders"]
    jsonl = b'{"__alos_export":true,"database":"x"}\n{"__collection":"users","_id":1}\n{"_id":2}\n'
    found, items = read(jsonl)
    assert found is Format.JSONL and items[0][::2] == ("users", {"_id": 1})
    assert isinstance(items[1][2], BadLine) and "__collection" in items[1][2].reason
    skv = {"version": "1.0", "created_at": WHEN, "total_records": 2, "records": [
        {"key": "username", "value": "alice", "encoding": "text"}, {"key": "binary_data", "value": "AQID/w==", "encoding": "base64"},
        {"key": "/w==", "value": "YWxpY2U=", "encoding": "base64", "key_encoding": "base64"}, {"key": 1, "value": "x", "encoding": "text"}, {"key": "a", "value": "???", "encoding": "base64"},
    ]}  # fmt: skip
    for text in (json.dumps(skv), json.dumps(skv, indent=4)):
        found, items = read(text.encode(), cut=5)
        assert found is Format.SKV
        assert [item[2] for item in items[:3]] == [
            {"_id": "username", "value": "alice"}, {"_id": "binary_data", "value": b"\x01\x02\x03\xff"}, {"_id": b"\xff", "value": "alice"},
        ]  # fmt: skip
        assert len(items) == 5 and all(isinstance(item[2], BadLine) for item in items[3:])


def test_a_backup_of_skv_is_the_reference_s_bytes() -> None:
    docs = [{"_id": "username", "value": "alice"}, {"_id": b"binary_data", "value": b"\x01\x02\x03\xff"}, {"_id": b"\xff", "value": "x"}]
    data = write(Asked(format=Format.SKV, collections=["kv"], created_at="2024-12-06T12:00:00Z", total=3), {"kv": docs})
    expected = {
        "version": "1.0", "created_at": "2024-12-06T12:00:00Z", "total_records": 3, "records": [
            {"key": "username", "value": "alice", "encoding": "text"},
            {"key": "binary_data", "value": "AQID/w==", "encoding": "base64"},
            {"key": "/w==", "value": "x", "encoding": "text", "key_encoding": "base64"},
        ],
    }  # fmt: skip
    assert data.decode() == json.dumps(expected, indent=4)
    empty = write(Asked(format=Format.SKV, collections=["kv"], created_at=WHEN), {"kv": []})
    assert json.loads(empty)["records"] == [] and read(empty) == (Format.SKV, [])
    with pytest.raises(BadDocument, match="key-value"):
        write(Asked(format=Format.SKV, collections=["kv"], created_at=WHEN), {"kv": [{"_id": 1, "value": "x"}]})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Format.JSONL),
        (b'{"_id": 1, "version": 1, "database": "x"}\n', Format.JSONL),
        (b'{"version": 1, "database": "x", "collections": {"records": []}}', Format.JSON),
        (b'\xef\xbb\xbf {\n "database": "x",\n "collections": {}}', Format.JSON),
        (b'{"a": {"collections": {}}, "version": 1}\n', Format.JSONL),
        (b'{"collections": {"a": 1}}\n', Format.JSONL),
        (b'{"records": [], "note": "a document of its own"}\n', Format.JSONL),
        (b"PK\x05\x06" + bytes(18), Format.ZIP),
        (b'{"version": "', Format.JSONL),
        (b"\xff\xfe{", Format.JSONL),
        (b'{"' + b"{[" * 40_000, Format.JSONL),
    ],
)
def test_detection(data: bytes, expected: Format) -> None:
    assert detect(data) is expected


@pytest.mark.parametrize(
    ("data", "good", "reason"),
    [
        (b'{"database":"x","collections":{"a":[{"_id":1},{bad},{"_id":2}]}}', 2, "not JSON"),
        (b'{"database":"x","collections":{"a":[{"_id":1}', 0, "no closing bracket"),
        (b'{"database":"x","collections":{"a":[{"_id":1}],"b":7}}', 1, "array of documents"),
        (b'{"database":"x","collections":{"a":[{"_id":1}]', 1, "ends inside"),
        (b'{"database":"x","collections":{"a":[{"_id":1}]}} more', 1, "text follows"),
        (b'{"database":"x","collections":{"a":[{"_id":1}],,}}', 1, "a key in quotes"),
        (b'{"version":1,"database":"x"}\n{"collection":"a","doc":{"_id":1}}\n{"collection":7,"doc":{}}\n', 1, "a line of this format"),
        (b'{"version":1,"database":"x"}\n{"collection":"a","doc":{"_id":1}}\n{"collection":"a","doc":{"_id":NaN}}', 1, "NaN"),
    ],
)
def test_bad_documents_are_named_and_the_good_ones_kept(data: bytes, good: int, reason: str) -> None:
    for cut in (0, 1, 5):
        _, items = read(data, cut=cut)
        assert sum(isinstance(item[2], dict) for item in items) == good
        bad = [item[2] for item in items if isinstance(item[2], BadLine)]
        assert bad and reason in bad[0].reason


@given(st.binary(max_size=300), st.sampled_from([b"", b'{"database":"x","collections":{', b'{"version":1,"records":[', b"PK\x03\x04"]))
def test_garbage_ends_in_bad_lines_and_never_in_an_error(tail: bytes, head: bytes) -> None:
    export = Export(io.BytesIO(head + tail))
    if export.format is Format.ZIP:
        with pytest.raises(BadDocument):
            list(read_zip(io.BytesIO(head + tail)))
    else:
        assert all(len(item) == 3 for item in export.items())


@pytest.mark.parametrize("name", ["../../etc/passwd.json", "/etc/x.json", "a\\b.json", "C:/x.json", "a/../b.json", "a/b/c.json", "a/b.txt", "a//b.json"])
def test_zip_entries_that_lead_elsewhere_are_refused(name: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, '{"_id": 1}')
        archive.writestr("users/2.json", '{"_id": 2}')
    found = list(read_zip(buffer))
    assert isinstance(found[0][2], BadLine) and found[1][::2] == ("users", {"_id": 2})


def test_a_zip_bomb_stops_at_the_bound_on_a_document() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("users/1.json", b'{"a":"' + b" " * 3_000_000 + b'"}')
        archive.writestr("users/2.json", '{"b": 1}')
    found = list(read_zip(buffer, line_bytes_max=1_000_000))
    assert isinstance(found[0][2], BadLine) and "longer than" in found[0][2].reason
    assert found[1][2] == {"_id": "2", "b": 1}, "a document without an _id has its file's name"


def test_what_a_format_cannot_say_is_refused_by_name() -> None:
    with pytest.raises(BadRequest, match="no format 'xml'"):
        format_of("xml")
    assert format_of("FormatMongoJL") is Format.MONGO
    for asked, reason in [
        (Asked(format=Format.MONGO, collections=["a", "b"], created_at=WHEN, database="x"), "one collection"),
        (Asked(format=Format.SKV, collections=["a", "b"], created_at=WHEN), "name one"),
        (Asked(format=Format.JSONL, collections=["a"], created_at=WHEN, pretty=True), "pretty"),
        (Asked(format=Format.ZIP, collections=["a"], created_at=WHEN), "zip"),
    ]:
        with pytest.raises(BadRequest, match=reason):
            Writer(asked)
    asked = Asked(format=Format.JSONL, collections=["a"], created_at=WHEN, database="x")
    with pytest.raises(BadDocument, match="choose alos"):
        write(asked, {"a": [{"_id": 1, "__collection": "b"}]})

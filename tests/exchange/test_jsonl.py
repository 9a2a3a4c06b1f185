"""Promises of storage/exchange/jsonl.py: finds documents in lines or an array, however the stream is cut."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.exchange.jsonl import BadLine, read_documents
from storage.values import documents


class Cut(io.RawIOBase):
    """A stream that gives at most n bytes a read, as pipes and sockets do."""

    def __init__(self, data: bytes, n: int) -> None:
        self._inner = io.BytesIO(data)
        self._n = n

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, self._n))


def read(data: bytes, **options: int) -> list:
    """All results, and the promise that they do not depend on how the stream is cut."""
    whole = list(read_documents(io.BytesIO(data), **options))
    for n in (1, 2, 3, 7):
        assert list(read_documents(Cut(data, n), **options)) == whole
    return whole


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b" \n\t\r\n", []),
        (b"\xef\xbb\xbf", []),
        (b'{"a":1}', [(1, {"a": 1})]),
        (b'{"a":1}\n{"b":2}\n', [(1, {"a": 1}), (2, {"b": 2})]),
        (b'\xef\xbb\xbf{"a":1}\r\n\r\n  \n{"b":2}\r\n', [(1, {"a": 1}), (4, {"b": 2})]),
        (b'\n\n{"a":1}', [(3, {"a": 1})]),
        (b'\xef\xbb\xbf\n[{"a":1}]', [(2, {"a": 1})]),
        (b"[]", []),
        (b" [ \n ] \n", []),
        (b'[{"a":1},{"b":[1,{"c":"]"}]}]', [(1, {"a": 1}), (1, {"b": [1, {"c": "]"}]})]),
        (b'[\n  {\n    "a": 1\n  },\n\n  {"b": "\\"],["}\n]\n', [(2, {"a": 1}), (6, {"b": '"],['})]),
        (b'[{"a":"\\\\"},{"b":"\xc3\xa9"}]', [(1, {"a": "\\"}), (1, {"b": "é"})]),
    ],
)
def test_good_streams(data: bytes, expected: list) -> None:
    assert read(data) == expected


def reasons(found: list) -> list[tuple[int, str | dict]]:
    return [(line, one.reason.split(":")[0] if isinstance(one, BadLine) else one) for line, one in found]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a":1}\n{"a":\n{"b":2}', [(1, {"a": 1}), (2, "not JSON"), (3, {"b": 2})]),
        (b'{"a":NaN}\n{"b":2}', [(1, "NaN is not JSON"), (2, {"b": 2})]),
        (b'{"a":"\xff"}\n{"b":2}', [(1, "text must be UTF-8"), (2, {"b": 2})]),
        (b'{"a":1,"a":1}\n5\n[1]\n', [(1, "key 'a' stands twice in one map"), (2, "a document must be a map, not int"), (3, "a document must be a map, not list")]),
        (b"\xff\xfe{\x00}\x00", [(1, "text must be UTF-8")]),
        (b'{"a":' + b"[" * 10_000 + b'\n{"b":2}', [(1, "maps and arrays nest deeper than 100"), (2, {"b": 2})]),
        (b'[{"a":},\n5,\n{"b":2}]', [(1, "not JSON"), (2, "a document must be a map, not int"), (3, {"b": 2})]),
        (b'[{"a":1} {"b":2},{"c":3}]', [(1, "not JSON"), (1, {"c": 3})]),
        (b'[{"a":1},\n]', [(1, {"a": 1}), (2, "an element is missing at a comma")]),
        (b'[,{"a":1}]', [(1, "an element is missing at a comma"), (1, {"a": 1})]),
        (b'[{"a":1}', [(1, "the array has no closing bracket")]),
        (b'[{"a":1},\n{"b', [(1, {"a": 1}), (2, "the array has no closing bracket")]),
        (b'[{"a":"\\', [(1, "the array has no closing bracket")]),
        (b'[{"a":1}]\n\n{"b":2}', [(1, {"a": 1}), (3, "text follows the array's closing bracket")]),
        (b"[" + b"[" * 10_000 + b"]" * 10_000 + b',{"b":2}]', [(1, "maps and arrays nest deeper than 100"), (1, {"b": 2})]),
    ],
)
def test_bad_documents_are_reported_with_their_line_and_good_ones_kept(data: bytes, expected: list) -> None:
    found = read(data)
    assert reasons(found) == expected
    assert all(line == one.line for line, one in found if isinstance(one, BadLine))


@pytest.mark.parametrize("shape", ["lines", "array"])
def test_a_document_over_the_limit_is_skipped_not_held(shape: str) -> None:
    texts = [b'{"a":1}', b'{"a":"' + b"x" * 200 + b'"}', b'{"b":2}']
    data = b"\n".join(texts) if shape == "lines" else b"[" + b",\n".join(texts) + b"]"
    assert reasons(read(data, line_bytes_max=100)) == [
        (1, {"a": 1}),
        (2, "longer than 100 bytes, the limit of one document's text"),
        (3, {"b": 2}),
    ]


class Endless(io.RawIOBase):
    """A line, or an array element, of the given size that exists only a chunk at a time."""

    def __init__(self, head: bytes, size: int, tail: bytes) -> None:
        self._head, self._left, self._tail = head, size, tail
        self.most_asked = 0

    def read(self, size: int = -1) -> bytes:
        self.most_asked = max(self.most_asked, size)
        if self._head:
            head, self._head = self._head, b""
            return head
        if self._left:
            piece = min(size, self._left)
            self._left -= piece
            return b"x" * piece
        tail, self._tail = self._tail, b""
        return tail


@pytest.mark.parametrize(("head", "tail"), [(b'{"a":"', b'"}\n{"b":2}'), (b'[{"a":"', b'"},\n{"b":2}]')])
def test_a_hundred_megabytes_in_one_document_are_passed_by(head: bytes, tail: bytes) -> None:
    stream = Endless(head, 100 * 2**20, tail)
    found = list(read_documents(stream))
    assert reasons(found) == [(1, f"longer than {64 * 2**20} bytes, the limit of one document's text"), (2, {"b": 2})]
    assert stream.most_asked <= 256 * 2**10


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text('ab"\\[]{},\n\t é', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"[]{},\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text('k"[]{},', max_size=3), json_values, max_size=3), max_size=5), st.integers(1, 9), st.sampled_from([None, 1]))
def test_lines_and_arrays_give_the_same_documents_however_cut(docs: list[dict], n: int, indent: int | None) -> None:
    lines = b"".join(json.dumps(doc).encode() + b"\n" for doc in docs)
    array = json.dumps(docs, indent=indent).encode()
    assert [doc for _, doc in read_documents(Cut(lines, n))] == docs
    assert [doc for _, doc in read_documents(Cut(array, n))] == docs


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_give_documents_or_bad_lines(data: bytes, is_array: bool) -> None:
    for line, found in read(b"[" + data if is_array else data):
        assert line >= 1
        assert isinstance(found, dict | BadLine)


def exports() -> list[Path]:
    root = Path(os.environ.get("TWINLOG_SHARED") or Path(__file__).parents[2].parent / "shared")
    return sorted((root / "data" / "mongoexport").glob("*.json"))


EXPORTS = exports()


@pytest.mark.skipif(not EXPORTS, reason="no sample exports: set TWINLOG_SHARED to the folder that holds data/mongoexport")
@pytest.mark.parametrize("path", EXPORTS, ids=lambda path: path.stem)
def test_real_exports_are_read_without_a_bad_line_and_can_be_stored(path: Path) -> None:
    with path.open("rb") as stream:
        count = store_all(stream)
    assert count == sum(1 for line in path.read_bytes().splitlines() if line.strip())


def store_all(stream: BinaryIO) -> int:
    count = 0
    for line, doc in read_documents(stream):
        assert isinstance(doc, dict), (line, doc)
        data = documents.encode({"_id": line, **doc})
        documents.validate(data)
        assert documents.decode(data) == {"_id": line, **doc}
        count += 1
    return count

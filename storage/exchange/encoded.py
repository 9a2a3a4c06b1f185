"""Where documents go to text and back without becoming dicts: what storage/exchange.c and packing.c do, and the loops around it. Pure.

    texts           encoded documents ──> text         of the first ones that are of a common shape
    pack_lines      lines ──> encoded documents        the same
    pack_elements   elements of a JSON array ──> encoded documents

Each says where it stopped, and the pure path does that one, right or wrong; so every error, and every rare type, is made in one place (extjson.py). The pure
twins stop at once. Knows neither formats nor streams: writing.py and jsonl.py do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from .. import native
from ..errors import BadDocument, DocumentTooLarge
from ..values.documents import encode

ROWS_MAX = 4_096  # lines taken in one go: some milliseconds


def _texts(
    documents: Sequence[bytes], first: int, before: bytes, after: bytes, tabooed: bytes, is_cut: bool, canonical: bool, indent: int  # noqa: FBT001
) -> tuple[bytes, int]:
    """(text of the documents from the first on, each with what stands before and after it; the index of the first that is not in it). Of more than
    4,096 documents only so many are in it.

    tabooed: a document with this key is not taken. is_cut: without the opening bracket, which stands in `before` already; a document
    without a field is not taken then. indent: the column of the document's own level; below 0 it stands on one line."""
    return b"", first


def _pack_nothing(
    data: bytes, at: int, line: int, limit: int, rows: int, head: bytes, tail: bytes, tabooed: bytes, keeps_ids: bool, new_id: Callable[[], bytes]  # noqa: FBT001
) -> tuple[list[bytes], list[int], int, int]:
    """(documents, the line of each, and then what comes next: where in the data, on which line).

    data[at] begins a line, numbered `line`, or an element. limit: bytes of one that is taken; rows: how many are taken at most. head and tail
    stand around every document. tabooed: no document may have this key, and each begins behind its opening bracket, which is in head (b"": neither).
    new_id: gives the 12 bytes of an ObjectId, for a document that keeps no `_id` or has none."""
    return [], [], at, line


texts = native.choose("texts", _texts)
pack_lines = native.choose("pack_lines", _pack_nothing)
pack_elements = native.choose("pack_elements", _pack_nothing)


@dataclass(frozen=True, slots=True)
class Packed:
    """Documents as they are stored, `_id` first; lines[i] is where documents[i] stood."""

    documents: list[bytes]
    lines: list[int]


NOTHING = Packed([], [])


def new_id() -> bytes:
    return ObjectId().binary


@dataclass(slots=True)
class Packing:
    """How lines become documents. Not open: whoever reads has first to see a line read by the pure path. head and tail stand around those
    that can be taken, as they stood around the one before."""

    keeps_ids: bool
    is_open: bool = False
    head: bytes = b""
    tail: bytes = b""
    tabooed: bytes = b""
    new_id: Callable[[], bytes] = new_id  # the 12 bytes of an ObjectId

    def lines(self, data: bytes, at: int, line: int, limit: int) -> tuple[Packed, int, int]:
        """(what was taken, where the next line begins, its number)."""
        if not self.is_open:
            return NOTHING, at, line
        documents, lines, at, line = pack_lines(data, at, line, limit, ROWS_MAX, self.head, self.tail, self.tabooed, self.keeps_ids, self.new_id)
        return Packed(documents, lines), at, line

    def elements(self, data: bytes, at: int, line: int, limit: int) -> tuple[Packed, int, int]:
        if not self.is_open or self.head:
            return NOTHING, at, line
        documents, lines, at, line = pack_elements(data, at, line, limit, ROWS_MAX, b"", b"", b"", self.keeps_ids, self.new_id)
        return Packed(documents, lines), at, line


def packed(document: dict[str, Any]) -> bytes | None:
    """The bytes of a document that was read by the pure path and has its `_id`; None when it cannot be stored."""
    try:
        return encode(document)
    except (BadDocument, DocumentTooLarge):
        return None

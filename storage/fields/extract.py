"""Extraction: the entries of given paths in stored documents. Pure, with a native twin for usual documents.

A usual document has no array on the way to the value and none as the value: then the path has exactly one entry. The native twin
walks the MessagePack bytes once for all paths and points into them; what it meets an array in it hands back, and what is handed
back is decoded and walked with query/paths.py, which knows all the rules.

Costs for six paths of a document of 200 bytes: 0.3 µs natively, 6 µs without, 10 µs for one handed back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ..query.paths import MISSING, Path
from ..values.documents import decode
from .entries import Entries, Gathered, entries_of_values

_THROUGH_ARRAY: Final = object()


def extract(blob: bytes | memoryview, at: np.ndarray, length: np.ndarray, paths: Sequence[str]) -> list[Entries]:
    """The entries of each path in the documents blob[at:at + length] (at u64, length u32). Raises ValueError for what is no
    document."""
    parsed = [Path(path) for path in paths]
    return _extract(blob, at, length, parsed)


def entries_of_documents(documents: Sequence[dict[str, Any]], path: str) -> Entries:
    """The entries of one path in decoded documents."""
    parsed = Path(path)
    found = [entries_of(document, parsed) for document in documents]
    return entries_of_values([values for values, _ in found], [row for row, (_, plain) in enumerate(found) if not plain])


def entries_of(document: dict[str, Any], path: Path) -> tuple[list[Any], bool]:
    """What the path reaches in a document, in the order in which a filter sees it, and whether that is one plain value."""
    value = _plain_value(document, path.parts)
    if value is not _THROUGH_ARRAY:
        return [value], True
    values: list[Any] = []

    def note(value: Any) -> bool:
        values.append(value)
        return False

    path.any_value(document, note)
    return values, False


def _plain_value(value: Any, parts: tuple[str, ...]) -> Any:
    for part in parts:
        if type(value) is not dict:
            return MISSING
        value = value.get(part, MISSING)
        if type(value) is list:
            return _THROUGH_ARRAY
    return value


def _extract_pure(blob: bytes | memoryview, at: np.ndarray, length: np.ndarray, paths: list[Path]) -> list[Entries]:
    gathered = [Gathered(len(blob)) for _ in paths]
    view = memoryview(blob)
    for row, (start, size) in enumerate(zip(at.tolist(), length.tolist())):
        document = decode(view[start : start + size])
        for path, found in zip(paths, gathered):
            values, is_plain = entries_of(document, path)
            found.add(row, values, through_array=not is_plain)
    return [found.entries(len(at), blob) for found in gathered]


_extract = _extract_pure

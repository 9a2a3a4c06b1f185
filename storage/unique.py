"""Unique indexes: which entries a document has in one. Pure; what a commit does to them is entries.py.

The entries of an index are documents of a collection of their own, hidden from users, so that they are logged, shipped, sealed,
recovered and rewound like all others, and looked up by key as an `_id` is:

    {"_id": the indexed values, canonical (values/keys.py), one behind the other; "k": the canonical key of the document}
             more than KEY_INLINE_BYTES of them stand as 0xff and their BLAKE2b-256

An entry is put or deleted in the commit of its document. Rules, MongoDB's: a missing field is null; sparse: a document without
any of the fields has no entry; an array has an entry for each element, an empty one a value of its own, two arrays in one
compound index are refused; entries of one document never collide with each other.

Cost: about 3 µs a document and index of one plain field, and one look-up for every entry that is new.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from bson import ObjectId

from .declared import IndexSpec
from .errors import BadDocument, DuplicateKey
from .query.filters import compile_filter
from .values.documents import encode_value
from .values.keys import canonical, canonical_part

KEY_INLINE_BYTES = 256
ENTRIES_MAX = 1_000  # of one document in all unique indexes of its collection
VALUE_SHOWN_MAX = 200  # characters of a duplicate value in a message
KEY_VALUE_BYTES_MAX = 4_096  # a longer one is left out of the error's fields
KEY_TAG: Final = canonical(b"")  # in front of the bytes of a binary value in its canonical key
_LONG = b"\xff"
_PARALLEL_ARRAYS = 171
_MISSING: Final = object()


class _EmptyArray:
    """What an empty array counts as: no null, and no value that a document can hold."""


_EMPTY_ARRAY: Final = _EmptyArray()
_EMPTY_ARRAY_PART = b"\x06"

Parts = tuple[str, ...]
Values = tuple[Any, ...]
Entries = Mapping[bytes, Values]  # by canonical key in the collection of entries


class UniqueIndex:
    """The entries of documents in one unique index."""

    def __init__(self, spec: IndexSpec) -> None:
        self.spec = spec
        self.number = spec.number
        self._paths: list[Parts] = [tuple(field.split(".")) for field, _ in spec.keys]
        self._single = self._paths[0][0] if len(self._paths) == 1 == len(self._paths[0]) else None

    @cached_property
    def _partial(self) -> Callable[[dict], bool] | None:
        return None if self.spec.partial is None else compile_filter(self.spec.partial)

    def entries(self, document: dict) -> Entries:
        """Raises BadDocument for a document that the index cannot take."""
        if self._partial is not None and not self._partial(document):
            return {}
        if self._single is not None:
            value = document.get(self._single, _MISSING)
            if value is _MISSING:
                return {} if self.spec.is_sparse else {entry_key((None,)): (None,)}
            if type(value) is not list:
                return {entry_key((value,)): (value,)}
        found: dict[bytes, Values] = {}
        self._collect(document, list(self._paths), [None] * len(self._paths), 0, found)
        return found

    def _collect(self, inside: dict, left: list[Parts | None], fixed: list[Any], missing: int, found: dict[bytes, Values]) -> None:
        """left: what is still to go of each path below `inside`; None where `fixed` holds its value."""
        array: list | None = None
        through: list[int] = []
        left, fixed = list(left), list(fixed)
        for number, parts in enumerate(left):
            if parts is None:
                continue
            value, rest = _walk(inside, parts)
            if type(value) is list:
                if array is not None and value is not array:
                    raise BadDocument(
                        f"index {self.spec.name!r}: two of its fields hold arrays in one document; leave one of them a single value",
                        code=_PARALLEL_ARRAYS,
                    )
                array = value
                through.append(number)
                left[number] = rest
                continue
            missing += value is _MISSING
            fixed[number] = None if value is _MISSING else value
            left[number] = None
        if self.spec.is_sparse and missing == len(left):
            return
        if array is None:
            found[entry_key(fixed)] = tuple(fixed)
            if len(found) > ENTRIES_MAX:
                raise _too_many(self.spec.name)
            return
        for element in array or [_EMPTY_ARRAY]:
            for number in through:
                if not left[number]:
                    fixed[number] = element
            below = [None if parts == () else parts for parts in left]
            self._collect(element if type(element) is dict else {}, below, fixed, missing, found)

    def error(self, where: str, values: Values) -> DuplicateKey:
        """where: database.collection."""
        names = [field for field, _ in self.spec.keys]
        plain = [None if value is _EMPTY_ARRAY else value for value in values]
        key_value = encode_value(dict(zip(names, plain)))
        fields = {"key_value": key_value} if len(key_value) <= KEY_VALUE_BYTES_MAX else {}
        return DuplicateKey(
            duplicate_message(where, self.spec.name, zip(names, plain)),
            collection=where,
            index=self.spec.name,
            key_pattern=encode_value(dict(self.spec.keys)),
            **fields,
        )


def _walk(value: Any, parts: Parts) -> tuple[Any, Parts]:
    """(what the path reaches, what is left of it): stops at an array; _MISSING where nothing is."""
    for number, part in enumerate(parts):
        if type(value) is not dict:
            return _MISSING, ()
        value = value.get(part, _MISSING)
        if type(value) is list:
            return value, parts[number + 1 :]
    return value, ()


def entry_key(values: Sequence[Any]) -> bytes:
    """The canonical key of an entry, that of a binary value."""
    whole = b"".join([_EMPTY_ARRAY_PART if value is _EMPTY_ARRAY else canonical_part(value) for value in values])
    if len(whole) > KEY_INLINE_BYTES:
        whole = _LONG + hashlib.blake2b(whole, digest_size=32).digest()
    return KEY_TAG + whole


def duplicate_message(where: str, index: str, values: Iterable[tuple[str, Any]]) -> str:
    """In the shape that programs cut index and value out of."""
    pairs = ", ".join(f"{name}: {_shown(value)}" for name, value in values)
    return f"E11000 duplicate key error collection: {where} index: {index} dup key: {{ {pairs} }}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, (bool, str)):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, ObjectId):
        text = f"ObjectId('{value}')"
    elif isinstance(value, datetime.datetime):
        text = f"{value.isoformat()}Z"
    else:
        text = repr(value)
    return text if len(text) <= VALUE_SHOWN_MAX else f"{text[:VALUE_SHOWN_MAX]}..."


def _too_many(index: str) -> BadDocument:
    return BadDocument(f"index {index!r}: the document has more than {ENTRIES_MAX} entries in unique indexes; shorten its arrays")


def entries_of(indexes: Sequence[UniqueIndex], document: dict) -> list[Entries]:
    """Of every index. Raises BadDocument."""
    found = [index.entries(document) for index in indexes]
    if sum(map(len, found)) > ENTRIES_MAX:
        raise _too_many(indexes[0].spec.name)
    return found

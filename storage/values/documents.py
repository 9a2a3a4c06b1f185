"""Documents: Python values to MessagePack bytes and back, and the check of bytes that come from a client. Pure.

A stored document is one MessagePack map: `_id` first, text keys, each key once, MessagePack's own types plus those of
extensions.py. Its bytes are kept as the client sent them, so `validate` checks without rebuilding; only a missing or
misplaced `_id` (`normalise`) makes new bytes, and even then every other byte stays.

    map header │ a3 "_id" │ id value │ key │ value │ key │ value │ ...

Cost: a flat document of 200 bytes is checked in about 2 µs: one C decode, then a few operations over the whole map.
Containers, more than 15 fields and suspicious keys or integers take a second look at every value (about 6 µs in all for
a few nested ones). Only an encoder that writes numbers wider than needed, or a key that stands twice, takes a second
decode that sees every pair of every map.

Knows the rules of one document; knows no collection, no uniqueness of `_id`, no index.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from itertools import chain
from typing import Any, NoReturn

import msgpack
import msgspec
from bson import ObjectId

from .. import native
from ..errors import BadDocument, DocumentTooLarge
from .extensions import INT64_MAX, INT64_MIN, build, refusal, simpler
from .keys import canonical, canonical_object_id

DOCUMENT_BYTES_MAX = 16 * 2**20
DEPTH_MAX = 100  # maps and arrays inside each other, the document itself counted
_ID_KEY = b"\xa3_id"
_FIXMAP_FIELDS_MAX = 15
_MAP_16 = 0xDE
_UINT_64 = 0xCF
_WALK_BYTES_MAX = 16_384  # measured: the walk by levels only pays for documents beyond this


_Extension = msgspec.msgpack.Ext


class _Refused:
    """Stands in a decoded document where something may not be stored; the walk over it knows the path."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _checked_extension(code: int, data: bytes | memoryview) -> object:
    """Only looked at, not built: building a datetime or an ObjectId costs more than the whole check."""
    if code == 2 and len(data) == 12:
        return _Extension(2, data)
    reason = refusal(code, data)
    return _Extension(code, data) if reason is None else _Refused(reason)


def _checked_map(pairs: list[tuple[Any, Any]]) -> object:
    for key, _ in pairs:
        if type(key) is not str:
            return _Refused(f"keys must be text, not {type(key).__name__}")
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))
    return _Refused(f"key {twice!r} stands twice")


_decode_map = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=build).decode
_decode_any = msgspec.msgpack.Decoder(ext_hook=build).decode
_decode_map_checked = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=_checked_extension).decode
_decode_any_checked = msgspec.msgpack.Decoder(ext_hook=_checked_extension).decode
_encode_checked = msgspec.msgpack.Encoder().encode
_SOUND = frozenset((str, float, bool, type(None), bytes, _Extension))  # as decoded by the checking decoders
_PLAIN_TYPES = frozenset((str, float, bool, type(None), bytes, ObjectId, datetime.datetime, uuid.UUID))
_CONTAINERS = frozenset((dict, list))
_all_known = (_SOUND | _CONTAINERS | {int}).issuperset
_all_decoded_flat = (_SOUND | {int}).issuperset
_all_made_plain = frozenset((int, str, float, bool, type(None))).issuperset
_all_given_flat = (_PLAIN_TYPES | {int}).issuperset


def encode(doc: Mapping[str, Any]) -> bytes:
    """The bytes of a document, `_id` moved first. Raises BadDocument (also when `_id` is missing), DocumentTooLarge."""
    if not isinstance(doc, Mapping):
        raise BadDocument(f"a document must be a map, not {type(doc).__name__}")
    if "_id" not in doc:
        raise BadDocument("the document has no _id: add one before it is encoded")
    if type(doc) is not dict or next(iter(doc)) != "_id":
        doc = {"_id": doc["_id"], **{key: value for key, value in doc.items() if key != "_id"}}
    data = _pack(doc)
    if len(data) > DOCUMENT_BYTES_MAX:
        raise _too_large(len(data))
    if not (_all_given_flat(map(type, doc.values())) and _has_plain_keys(data, doc)):
        _check_every_value(data, _decoded_for_check(data), is_document=True)
    return data


def decode(data: bytes) -> dict[str, Any]:
    """The document of stored bytes. Raises BadDocument when they are not a document's."""
    try:
        return _decode_map(data)
    except (ValueError, RecursionError) as cause:
        raise _unreadable(cause) from None


def decode_all(documents: Iterable[bytes], into: MutableSequence[dict[str, Any]]) -> None:
    """decode() of each, appended; those before a bad one are in when it raises."""
    try:
        into.extend(map(_decode_map, documents))
    except (ValueError, RecursionError) as cause:
        raise _unreadable(cause) from None


def encode_made(documents: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """The bytes of documents that were made of values that are stored, under sound names: plain ones at a tenth of encode()'s cost; one without
    `_id` is a bare map. Raises as encode() does."""
    return [
        _encode_checked(document)
        if _all_made_plain(map(type, document.values()))
        else encode(document)
        if "_id" in document
        else encode_value(document)
        for document in documents
    ]


def encode_value(value: object) -> bytes:
    """The bytes of one bare value. Raises BadDocument."""
    data = _pack(value)
    if type(value) not in _PLAIN_TYPES and not (type(value) is int and value <= INT64_MAX):
        _check_every_value(data, _decoded_for_check(data), is_document=False)
    return data


def decode_value(data: bytes) -> Any:
    """One bare value from bytes that may come from anybody. Raises BadDocument."""
    try:
        value = _decode_any(data)
    except (ValueError, TypeError, RecursionError) as cause:
        raise _unreadable(cause) from None
    if type(value) not in _PLAIN_TYPES or (type(value) is datetime.datetime and value.tzinfo is not None):
        _check_every_value(data, _decoded_for_check(data), is_document=False)
    return value


def validate(data: bytes) -> tuple[object, bytes]:
    """Check bytes that came from a client: (value of `_id`, its canonical key). Raises BadDocument, DocumentTooLarge."""
    if len(data) > DOCUMENT_BYTES_MAX:
        raise _too_large(len(data))
    try:
        doc = _decode_map_checked(data)
    except (ValueError, RecursionError) as cause:
        raise _unreadable(cause) from None
    if not (_all_decoded_flat(map(type, doc.values())) and _has_plain_keys(data, doc)):
        _check_every_value(data, doc, is_document=True)
    if next(iter(doc), None) != "_id":
        raise BadDocument("_id must be the document's first key")
    value = doc["_id"]
    kind = type(value)
    if kind is _Extension:
        payload = value.data
        if value.code == 2:
            return ObjectId(bytes(payload)), canonical_object_id(payload)
        value = build(value.code, payload)
    elif kind is dict or kind is list:
        value = decode(data)["_id"]
    return value, canonical(value)


Prepared = tuple[bytes, bytes, bytes]  # canonical key, the bytes of `_id` as encode_value writes them, the document


def _prepare(docs: Sequence[bytes]) -> list[Prepared | None]:
    """What an insert needs of each document that is seen to be sound as it stands. Raises nothing for any bytes.

    None means: look closer. Mostly the document is wrong, and has_id_first, normalise and validate give the exact error; but
    a rare right one may get None too.
    """
    found: list[Prepared | None] = []
    for doc in docs:
        try:
            value, key = validate(doc)
            found.append((key, encode_value(value), doc))
        except (BadDocument, DocumentTooLarge):
            found.append(None)
    return found


prepare = native.choose("prepare", _prepare)


def has_id_first(data: bytes) -> bool:
    """Whether the bytes begin as a stored document does; false means `normalise` first. Reads the first bytes only."""
    if not data:
        return False
    start = 1 if data[0] & 0xF0 == 0x80 else 3 if data[0] == _MAP_16 else 5
    return data.startswith(_ID_KEY, start)


def normalise(data: bytes, new_id: Callable[[], ObjectId]) -> bytes:
    """The same document with `_id` first, made by new_id when there is none. Raises BadDocument.

    Only cuts and joins bytes: the result still has to be validated.
    """
    if len(data) > DOCUMENT_BYTES_MAX:
        raise _too_large(len(data))
    if has_id_first(data):
        return data
    reader = msgpack.Unpacker(None, max_buffer_size=max(len(data), 1), strict_map_key=False)
    try:
        reader.feed(data)
        count = reader.read_map_header()
        body = reader.tell()
        for _ in range(count):
            key_at = reader.tell()
            key = reader.unpack()
            reader.skip()
            if key == "_id":
                end = reader.tell()
                return b"".join((data[:body], data[key_at:end], data[body:key_at], data[end:]))
    except (ValueError, TypeError, RecursionError, msgpack.OutOfData) as cause:
        raise _unreadable(cause) from None
    header = msgpack.Packer().pack_map_header(count + 1)
    return b"".join((header, _ID_KEY, _pack(new_id()), data[body:]))


def _pack(value: object) -> bytes:
    try:
        return msgpack.packb(value, strict_types=True, default=simpler)
    except (BadDocument, ValueError, TypeError, OverflowError, RecursionError) as cause:
        if not isinstance(cause, (BadDocument, UnicodeError, TypeError, OverflowError)):
            _refuse_depth(value)  # the packer takes 10 ms to find that out, and is not asked again
        _refuse_with_path(value, (), cause)


def _refuse_depth(value: object) -> None:
    """Raise BadDocument when maps and arrays nest too deep."""
    waiting: list[tuple[object, int, tuple[str, ...]]] = [(value, 0, ())]
    while waiting:
        inner, depth, start = waiting.pop()
        if isinstance(inner, Mapping):
            children: Iterable[tuple[Any, Any]] = inner.items()
        elif isinstance(inner, (list, tuple)):
            children = enumerate(inner)
        else:
            continue
        if depth >= DEPTH_MAX:
            raise _too_deep(start) from None
        waiting += [(child, depth + 1, start if depth > 3 else (*start, str(name))) for name, child in children]


def _refuse_with_path(value: object, path: tuple[str, ...], cause: Exception) -> NoReturn:
    """Find the deepest value that cannot be packed and name it. Costs time, but only on a refusal."""
    if len(path) >= DEPTH_MAX:
        raise _too_deep(path)
    if isinstance(value, Mapping):
        children = list(value.items())
    elif isinstance(value, (list, tuple)):
        children = [(str(position), child) for position, child in enumerate(value)]
    else:
        children = []
    for key, child in children:
        for part, inside in ((key, (*path, repr(key))), (child, (*path, str(key)))):
            try:
                msgpack.packb(part, strict_types=True, default=simpler)
            except (BadDocument, ValueError, TypeError, OverflowError, RecursionError) as found:
                _refuse_with_path(part, inside, found)
    raise BadDocument(f"{_where(path)}{_reason(cause, value)}", path=".".join(path)) from None


def _reason(cause: Exception, value: object) -> str:
    if isinstance(cause, BadDocument):
        return cause.message
    if isinstance(cause, OverflowError):
        return "integers must fit 64 bits with sign: store larger ones as Decimal128 or text"
    if isinstance(cause, UnicodeError):
        return "text must be valid Unicode, without lone surrogates"
    return f"{type(value).__name__} cannot be stored: {cause}"


def _has_plain_keys(data: bytes, doc: Mapping[str, Any]) -> bool:
    """True only for a flat map that needs no closer look: no odd key, no key twice, no integer over 63 bits."""
    if len(doc) > _FIXMAP_FIELDS_MAX or data[0] != 0x80 | len(doc):
        return False
    try:
        keys = "".join(doc)
    except TypeError:  # a key that is no text
        return False
    if "$" in keys or "\0" in keys:
        return False
    return _UINT_64 not in data or all(type(v) is not int or v <= INT64_MAX for v in doc.values())


def _decoded_for_check(data: bytes) -> object:
    try:
        return _decode_any_checked(data)
    except (ValueError, TypeError, RecursionError) as cause:
        raise _unreadable(cause) from None


def _check_every_value(data: bytes, value: object, *, is_document: bool) -> None:
    """value: what the checking decoder made of data.

    Encoding it again in C proves that no key stood twice, unless the sender wrote numbers wider than needed: only then,
    or when something is wrong, does Python see every pair.
    """
    if is_document and type(value) is dict:
        for key in value:
            if type(key) is str and key.startswith("$"):
                raise BadDocument(f"key {key!r}: a document's own keys must not begin with '$'", path=key)
    if not _is_written_once(data, value):
        try:
            value = msgpack.unpackb(
                data, object_pairs_hook=_checked_map, ext_hook=_checked_extension, strict_map_key=False
            )
        except (ValueError, TypeError, RecursionError) as cause:
            raise _unreadable(cause) from None
    if len(data) < _WALK_BYTES_MAX or not _all_levels_sound(value):
        _walk(value, [])


def _is_written_once(data: bytes, value: object) -> bool:
    try:
        return _encode_checked(value) == data
    except (TypeError, ValueError, RecursionError):  # something in it is no document type
        return False


def _all_levels_sound(value: object) -> bool:
    """Whether _walk would find nothing, level by level and mostly in C: for large documents a fifth of its time."""
    level = [value]
    for _ in range(DEPTH_MAX + 1):  # the first level is only the value itself
        kinds = set(map(type, level))
        if not _all_known(kinds):
            return False
        if int in kinds and any(v > INT64_MAX for v in level if type(v) is int):
            return False
        if kinds.isdisjoint(_CONTAINERS):
            return True
        maps = [v for v in level if type(v) is dict]
        try:
            if "\0" in "".join(chain.from_iterable(maps)):
                return False
        except TypeError:  # a key that is no text
            return False
        inside = [v.values() for v in maps]
        inside += [v for v in level if type(v) is list]
        level = list(chain.from_iterable(inside))
        if not level:
            return True
    return kinds.isdisjoint(_CONTAINERS)


def _walk(value: object, path: list[str]) -> None:
    """Raise BadDocument for the first thing that may not be stored, with its path."""
    kind = type(value)
    if kind in _SOUND:
        return
    if kind is int:
        if not INT64_MIN <= value <= INT64_MAX:
            raise BadDocument(
                f"{_where(path)}integers must fit 64 bits with sign: store larger ones as Decimal128 or text",
                path=".".join(path),
            )
        return
    if kind is not dict and kind is not list:
        reason = value.reason if kind is _Refused else "MessagePack's own timestamp is no document type: use extension 1"
        raise BadDocument(f"{_where(path)}{reason}", path=".".join(path))
    if len(path) >= DEPTH_MAX:
        raise _too_deep(path)
    for name, child in value.items() if kind is dict else enumerate(value):
        if kind is dict and type(name) is not str:
            raise BadDocument(f"{_where(path)}keys must be text, not {type(name).__name__}", path=".".join(path))
        if kind is dict and "\0" in name:
            raise BadDocument(f"{_where(path)}key {name!r} must not hold NUL", path=".".join(path))
        if type(child) not in _SOUND:
            path.append(str(name))
            _walk(child, path)
            path.pop()


def _where(path: Sequence[str]) -> str:
    return f"field {'.'.join(path)!r}: " if path else ""


def _too_deep(path: Sequence[str]) -> BadDocument:
    start = ".".join(path[:4])
    return BadDocument(f"field {start!r}...: maps and arrays nest deeper than {DEPTH_MAX}", path=start)


def _too_large(size: int) -> DocumentTooLarge:
    return DocumentTooLarge(f"the document has {size} bytes, the limit is {DOCUMENT_BYTES_MAX}", size=size)


def _unreadable(cause: Exception) -> BadDocument:
    if isinstance(cause, (RecursionError, msgpack.StackError)):
        return BadDocument(f"maps and arrays nest deeper than {DEPTH_MAX}")
    if isinstance(cause, UnicodeDecodeError):
        return BadDocument(f"text must be UTF-8: {cause.reason} ({cause.object[cause.start]:#04x})")
    if isinstance(cause, msgspec.ValidationError):
        return BadDocument(f"a document must be a map with text keys: {cause}")
    return BadDocument(f"not MessagePack: {cause or type(cause).__name__}")

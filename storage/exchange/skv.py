"""SKV's backup: key-value records as one JSON object, byte for byte as the reference writes it. Pure.

    {
        "version": "1.0",
        "created_at": "2024-12-06T12:00:00Z",
        "total_records": 2,
        "records": [
            {
                "key": "username",
                "value": "alice",
                "encoding": "text"
            }
        ]
    }

A key or a value that is no UTF-8 makes both of the record base64. Four blanks a level. Records are documents {"_id": key, "value":
value}; keys and values are text or bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from ..errors import BadDocument

VERSION = "1.0"


def begin(created_at: str, total: int) -> str:
    """Everything before the first record."""
    return (
        f'{{\n    "version": {json.dumps(VERSION)},\n    "created_at": {json.dumps(created_at)},\n'
        f'    "total_records": {total},\n    "records": ['
    )


def record(document: Mapping[str, Any], *, is_first: bool) -> str:
    """One record with what stands before it. Raises BadDocument for a document that is no key and value."""
    if document.keys() != {"_id", "value"} or not all(type(part) in (str, bytes) for part in document.values()):
        raise BadDocument(
            f"the document {document.get('_id')!r} is no key-value record: SKV's format takes {{_id: text or bytes, value: text or bytes}}; "
            "choose another format"
        )
    key, value = _as_text(document["_id"]), _as_text(document["value"])
    encoding = "text" if isinstance(key, str) and isinstance(value, str) else "base64"
    if encoding == "base64":
        key, value = (base64.b64encode(part.encode() if isinstance(part, str) else part).decode() for part in (key, value))
    parts = [f'            "{name}": {_text(part)}' for name, part in (("key", key), ("value", value), ("encoding", encoding))]
    return ("" if is_first else ",") + "\n        {\n" + ",\n".join(parts) + "\n        }"


def end(*, is_empty: bool) -> str:
    """Everything after the last record."""
    return "]\n}" if is_empty else "\n    ]\n}"


def _text(value: str) -> str:
    """A string as the reference's writer has it: <, > and & as escapes, other characters as they are."""
    written = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return written


def document_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The document of one record as read. Raises BadDocument."""
    key, value, encoding = found.get("key"), found.get("value"), found.get("encoding", "text")
    if not isinstance(key, str) or not isinstance(value, str) or encoding not in ("text", "base64"):
        raise BadDocument('a record has "key" and "value", both text, and "encoding", which is "text" or "base64"')
    if encoding == "text":
        return {"_id": key, "value": value}
    try:
        return {"_id": _plain(key), "value": _plain(value)}
    except (binascii.Error, ValueError):
        raise BadDocument(f"the record {key[:40]!r} says base64 and is not") from None


def _plain(text: str) -> bytes | str:
    return _as_text(base64.b64decode(text, validate=True))


def _as_text(value: bytes | str) -> bytes | str:
    """Bytes that are UTF-8 are text: SKV knows no difference."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value

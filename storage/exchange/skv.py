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

encoding is the value's: base64 where it is no UTF-8. A key stands as it is; one that is no UTF-8, for which the reference has no way, stands in base64 and the
record has one more line, "key_encoding": "base64", which the reference's reader passes over. Four blanks a level. Records are documents {"_id": key,
"value": value}; keys and values are text or bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from ..errors import BadDocument

VERSION = "1.0"
TEXT, BASE64 = "text", "base64"


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
    key, value = as_text(document["_id"]), as_text(document["value"])
    lines = [("key", _in_json(key)), ("value", _in_json(value)), ("encoding", TEXT if isinstance(value, str) else BASE64)]
    if isinstance(key, bytes):
        lines.append(("key_encoding", BASE64))
    parts = [f'            "{name}": {_text(part)}' for name, part in lines]
    return ("" if is_first else ",") + "\n        {\n" + ",\n".join(parts) + "\n        }"


def _in_json(part: bytes | str) -> str:
    return part if isinstance(part, str) else base64.b64encode(part).decode()


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
    key, value = found.get("key"), found.get("value")
    encodings = found.get("key_encoding", TEXT), found.get("encoding", TEXT)
    if not isinstance(key, str) or not isinstance(value, str) or any(encoding not in (TEXT, BASE64) for encoding in encodings):
        raise BadDocument('a record has "key" and "value", both text, and "encoding", which is "text" or "base64"')
    try:
        plain = [part if encoding == TEXT else _plain(part) for part, encoding in zip((key, value), encodings)]
    except (binascii.Error, ValueError):
        raise BadDocument(f"the record {key[:40]!r} says base64 and is not") from None
    return {"_id": plain[0], "value": plain[1]}


def _plain(text: str) -> bytes | str:
    return as_text(base64.b64decode(text, validate=True))


def as_text(value: bytes | str) -> bytes | str:
    """Bytes that are UTF-8 are text: SKV knows no difference."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value

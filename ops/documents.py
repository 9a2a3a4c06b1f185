"""Documents and values as the command line writes them: Extended JSON in, Python values out. Pure.

Knows storage's parser of Extended JSON; turns its errors into a Refusal that names the argument.
"""

from __future__ import annotations

import json
from typing import Any

from .exit_codes import ExitCode
from .refusal import Refusal

OBJECT_ID_DIGITS = 24


def document(text: str, what: str) -> dict[str, Any]:
    """One document; `what` names the argument in the refusal."""
    from storage import TwinlogError, parse_json_line  # late: --help must not pay for it

    try:
        return parse_json_line(text)
    except TwinlogError as error:
        raise Refusal(f"{what}: {error.message}", ExitCode.USAGE) from error


def identifiers(text: str) -> list[Any]:
    """The `_id`s that the text can mean, likeliest first.

    Extended JSON if it parses ('5', '"5"', '{"$oid": "..."}'), else the text itself; 24 hex digits are an ObjectId
    first.
    """
    from bson import ObjectId

    found: list[Any] = []
    if len(text) == OBJECT_ID_DIGITS and ObjectId.is_valid(text):
        found.append(ObjectId(text))
    if looks_like_json(text):
        found.append(document(f'{{"_id": {text}}}', "ID")["_id"])
    if not found or text not in found:
        found.append(text)
    return found


def looks_like_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def sort_fields(text: str) -> list[tuple[str, int]]:
    """'-age,name' or 'age:-1,name:1' as [('age', -1), ('name', 1)]."""
    fields = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, direction = part.rpartition(":")
        if not colon:
            fields.append((part.lstrip("-+"), -1 if part.startswith("-") else 1))
        elif direction in ("1", "-1"):
            fields.append((name, int(direction)))
        else:
            raise Refusal(f"--sort {part!r}: write -field or field:-1 for descending, field or field:1 for ascending",
                          ExitCode.USAGE)
    return fields

"""docs/wire.md tells of every request: its role, its fields in order, and which of them may be left out."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec

from node.service import LEAST_ROLE
from node.wire import AnyRequest, Request

PAGE = Path(__file__).parents[2] / "docs" / "wire.md"


def _rows() -> dict[str, tuple[str, list[str], list[str]]]:
    """By request: role, fields that must be there, fields that may."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) == 6 and re.fullmatch(r"`[a-z]+`", cells[1]):
            required, _, optional = re.sub(r"\([^)]*\)|: \[\[.*\]", "", cells[3]).partition("\\|")
            found[cells[1].strip("`")] = (cells[2], *(_names(part) for part in (required, optional)))
    return found


def _names(cell: str) -> list[str]:
    return [name.strip().replace("write id", "request") for name in cell.split(",") if name.strip()]


def _fields(kind: type[Request]) -> tuple[list[str], list[str]]:
    fields = msgspec.structs.fields(kind)[1:]
    return [field.name for field in fields if field.required], [field.name for field in fields if not field.required]


def test_the_page_has_every_request_as_it_is():
    rows = _rows()
    kinds = {kind.__struct_config__.tag: kind for kind in typing.get_args(AnyRequest)}
    assert rows.keys() == kinds.keys()
    for tag, (role, required, optional) in rows.items():
        assert (required, optional) == _fields(kinds[tag]), tag
        assert role.split(";")[0] == LEAST_ROLE[kinds[tag]].name.lower(), tag

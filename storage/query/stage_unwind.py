"""$unwind: one document for each element of an array. Pure.

A scalar counts as an array of itself. The path goes through maps only. What is null, missing or empty gives no document, or with
preserveNullAndEmptyArrays one without the array.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import BadQuery
from .expressions import path_parts
from .paths import MISSING
from .pipeline import BATCH_DOCUMENTS, Context, Item, Rows
from .type_names import type_name


class Unwind:
    """A compiled $unwind."""

    is_repeatable = True

    def __init__(self, spec: Any) -> None:
        """Raises BadQuery."""
        self.spec = spec
        keeps, index = False, None
        path = spec
        if isinstance(spec, Mapping):
            path, keeps, index = _arguments(spec)
        elif not isinstance(spec, str):
            raise BadQuery(f"$unwind takes a path or a map with path, not {type_name(spec)}", code=15981)
        if not path:
            raise BadQuery("$unwind needs a path", code=28812)
        if not path.startswith("$"):
            raise BadQuery(f"$unwind: the path {path!r:.60} must begin with '$'", code=28818)
        self._path = path_parts(path[1:])
        self._keeps_all = keeps
        self._index = None if index is None else path_parts(index)

    def run(self, items: Iterator[Item], context: Context) -> Iterator[Item]:
        for item in items:
            if type(item) is Rows:
                yield item
                continue
            made: list[dict] = []
            for document in item:
                for one in self._unwound(document):
                    made.append(one)
                    if len(made) == BATCH_DOCUMENTS:
                        yield made
                        made = []
            yield made

    def _unwound(self, document: dict) -> Iterator[dict]:
        value: Any = document
        for part in self._path:
            value = value.get(part, MISSING) if type(value) is dict else MISSING
        if type(value) is list and value:
            for number, element in enumerate(value):
                yield self._indexed(_with(document, self._path, element), number)
        elif value is None or value is MISSING or type(value) is list:
            if self._keeps_all:
                yield self._indexed(document if type(value) is not list else _with(document, self._path, MISSING), None)
        else:
            yield self._indexed(document, None)

    def _indexed(self, document: dict, number: int | None) -> dict:
        return document if self._index is None else _with(document, self._index, number)


def _arguments(spec: Mapping[str, Any]) -> tuple[str, bool, str | None]:
    for name in spec:
        if name not in ("path", "preserveNullAndEmptyArrays", "includeArrayIndex"):
            raise BadQuery(f"$unwind has no argument {name!r}", code=28811)
    path, keeps, index = spec.get("path", ""), spec.get("preserveNullAndEmptyArrays", False), spec.get("includeArrayIndex")
    if not isinstance(path, str):
        raise BadQuery(f"$unwind: path must be text, not {type_name(path)}", code=28808)
    if not isinstance(keeps, bool):
        raise BadQuery(f"$unwind: preserveNullAndEmptyArrays must be true or false, not {type_name(keeps)}", code=28809)
    if index is not None:
        if not isinstance(index, str) or not index:
            raise BadQuery("$unwind: includeArrayIndex must be a field's name", code=28810)
        if index.startswith("$"):
            raise BadQuery(f"$unwind: includeArrayIndex {index!r:.60} must not begin with '$'", code=28822)
    return path, keeps, index


def _with(document: dict, path: tuple[str, ...], value: Any) -> dict:
    """The document with a value at a path through maps; MISSING takes it away. Other parts are shared."""
    made = dict(document)
    if len(path) > 1:
        inner = made.get(path[0])
        made[path[0]] = _with(inner if type(inner) is dict else {}, path[1:], value)
    elif value is MISSING:
        made.pop(path[0], None)
    else:
        made[path[0]] = value
    return made

"""Declared indexes: their names and options as PyMongo has them, and the plans that create, drop and list them. Pure.

Every field is indexed by itself without being declared. What declaring adds is a rule (unique) or a life time (expireAfterSeconds);
any other index is kept in the list and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from node.wire import CreateIndexes, DropIndex, ListIndexes

from . import answers
from .call import Call
from .exchange import Kind
from .options import Hint, key_list
from .scope import Scope
from .values import read_value, value_bytes

ALL = "*"


class IndexModel:
    """One index for create_indexes(). options: unique, sparse, expireAfterSeconds, partialFilterExpression, name."""

    def __init__(self, keys: Hint, **options: Any) -> None:
        self.keys = index_keys(keys)
        self.options = dict(options)
        self.options.setdefault("name", index_name(self.keys))

    @property
    def document(self) -> dict[str, Any]:
        """The index as MongoDB describes it."""
        return {"key": dict(self.keys), **self.options}

    def __repr__(self) -> str:
        return f"IndexModel({self.keys!r}, {', '.join(f'{name}={value!r}' for name, value in self.options.items())})"


def index_keys(keys: Hint) -> list[tuple[str, Any]]:
    """PyMongo's ways to name the keys of an index as one list of (field, kind). Raises TypeError, ValueError."""
    if not isinstance(keys, (str, Sequence, Mapping)):
        raise TypeError(f"the keys of an index are a field, a list of (field, direction) or a mapping, not {type(keys).__name__}")
    pairs = key_list(keys, what="index")
    if not pairs:
        raise ValueError("an index needs at least one key")
    return pairs


def index_name(keys: Iterable[tuple[str, Any]]) -> str:
    return "_".join(f"{field}_{kind}" for field, kind in keys)


def create_indexes(scope: Scope, db: str, collection: str, indexes: Iterable[IndexModel]) -> Call[list[str]]:
    """Sending it again does no harm: an index that is there already is fine."""
    rows = []
    for index in indexes:
        if not isinstance(index, IndexModel):
            raise TypeError(f"create_indexes takes a list of IndexModel, not {type(index).__name__}")
        rows.append([value_bytes([list(pair) for pair in index.keys]), value_bytes(index.options)])
    if not rows:
        raise ValueError("create_indexes needs at least one IndexModel")
    request = CreateIndexes(0, db, collection, rows, scope.write_id())
    return Call(Kind.WRITE, scope, db, request, lambda reply: answers.read(answers.INDEX_NAMES, reply).names)


def drop_index(scope: Scope, db: str, collection: str, index_or_name: Hint) -> Call[None]:
    name = index_or_name if isinstance(index_or_name, str) else index_name(index_keys(index_or_name))
    return Call(Kind.WRITE, scope, db, DropIndex(0, db, collection, name, scope.write_id()), lambda reply: None)


def list_indexes(scope: Scope, db: str, collection: str) -> Call[list[dict[str, Any]]]:
    request = ListIndexes(0, db, collection, scope.least_position(db))
    return Call(Kind.READ, scope, db, request, lambda reply: read_value(answers.read(answers.INDEXES, reply).indexes))


def information(indexes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """index_information()'s shape: by name, the keys as a list of pairs."""
    return {
        index["name"]: {
            **{name: value for name, value in index.items() if name not in ("name", "ns")},
            "key": list(index["key"].items()),
        }
        for index in indexes
    }

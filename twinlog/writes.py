"""The writes that bulk_write takes, with PyMongo's names. Pure values; verbs.py turns them into requests."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class InsertOne:
    """Insert the document; an `_id` is added to it when it has none."""

    document: MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReplaceOne:
    """Put replacement in the place of the first document that matches; with upsert, insert it when none does."""

    filter: Mapping[str, Any]
    replacement: Mapping[str, Any]
    upsert: bool = False


@dataclass(frozen=True, slots=True)
class UpdateOne:
    """Change the first document that matches (of the sort), by operators or a pipeline; with upsert, insert it when none does."""

    filter: Mapping[str, Any]
    update: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    upsert: bool = False
    array_filters: Sequence[Mapping[str, Any]] | None = None
    sort: Any = None


@dataclass(frozen=True, slots=True)
class UpdateMany:
    """Change every document that matches."""

    filter: Mapping[str, Any]
    update: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    upsert: bool = False
    array_filters: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class DeleteOne:
    """Delete the first document that matches."""

    filter: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteMany:
    """Delete every document that matches."""

    filter: Mapping[str, Any]


Write = InsertOne | ReplaceOne | UpdateOne | UpdateMany | DeleteOne | DeleteMany

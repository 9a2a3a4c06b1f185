"""What writes return: PyMongo's result classes, plus `position`. Pure.

`position` is the database's (epoch, seq) that the answer carried: a read with min_position at least this sees the write.
`acknowledged` is always True, because an unacknowledged write has no answer to build a result from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

Position = tuple[int, int]


class InsertOneResult(msgspec.Struct, frozen=True):
    inserted_id: Any
    position: Position
    acknowledged: bool = True


class InsertManyResult(msgspec.Struct, frozen=True):
    """inserted_ids: the `_id`s in the order of the documents."""

    inserted_ids: list[Any]
    position: Position
    acknowledged: bool = True


class UpdateResult(msgspec.Struct, frozen=True):
    """Of replace_one. upserted_id is None when an existing document matched."""

    matched_count: int
    modified_count: int
    upserted_id: Any
    position: Position
    acknowledged: bool = True

    @property
    def did_upsert(self) -> bool:
        return self.matched_count == 0 and self.upserted_id is not None

    @property
    def raw_result(self) -> dict[str, Any]:
        return {"n": self.matched_count, "nModified": self.modified_count, "upserted": self.upserted_id}


class DeleteResult(msgspec.Struct, frozen=True):
    deleted_count: int
    position: Position
    acknowledged: bool = True

    @property
    def raw_result(self) -> dict[str, Any]:
        return {"n": self.deleted_count}


@dataclass(frozen=True, slots=True)
class BulkWriteResult:
    """bulk_api_result: nInserted, nMatched, nModified, nRemoved, nUpserted, upserted, writeErrors."""

    bulk_api_result: Mapping[str, Any] = field(repr=False)
    position: Position
    acknowledged: bool = True

    @property
    def inserted_count(self) -> int:
        return self.bulk_api_result["nInserted"]

    @property
    def matched_count(self) -> int:
        return self.bulk_api_result["nMatched"]

    @property
    def modified_count(self) -> int:
        return self.bulk_api_result["nModified"]

    @property
    def deleted_count(self) -> int:
        return self.bulk_api_result["nRemoved"]

    @property
    def upserted_count(self) -> int:
        return self.bulk_api_result["nUpserted"]

    @property
    def upserted_ids(self) -> dict[int, Any]:
        """The `_id`s that upserts made, by the index of the write."""
        return {entry["index"]: entry["_id"] for entry in self.bulk_api_result["upserted"]}

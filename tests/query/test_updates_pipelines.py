"""Promises of storage/query/updates.py for updates that are pipelines. The stages themselves are tested in test_stages.py."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from bson import Timestamp

from storage.errors import BadQuery, ImmutableField
from storage.query.updates import compile_update

pytest.importorskip("storage.query.stages", reason="pipelines are not there")

NOW, STAMP = datetime.datetime(2024, 1, 1), Timestamp(1, 1)


def updated(document: dict, stages: list, variables: dict[str, Any] | None = None) -> dict:
    update = compile_update(stages, names=variables or ())
    assert not update.needs_position
    return update.apply(document, position=None, is_insert=False, now=NOW, now_timestamp=STAMP, variables=variables)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([{"$set": {"b": "$a"}}], {"_id": 1, "a": 5, "b": 5}),
        ([{"$addFields": {"b": {"$add": ["$a", 1]}}}, {"$unset": "a"}], {"_id": 1, "b": 6}),
        ([{"$set": {"at": "$$NOW"}}], {"_id": 1, "a": 5, "at": NOW}),
        ([{"$project": {"a": 1}}], {"_id": 1, "a": 5}),
        ([{"$unset": "_id"}], {"_id": 1, "a": 5}),
        ([{"$replaceWith": {"x": "$a"}}], {"_id": 1, "x": 5}),
        ([{"$replaceRoot": {"newRoot": {"x": 1, "_id": 1}}}], {"_id": 1, "x": 1}),
    ],
)
def test_a_pipeline_makes_the_new_document_and_keeps_its_id(stages: list, expected: dict) -> None:
    document = {"_id": 1, "a": 5}
    assert updated(document, stages) == expected
    assert document == {"_id": 1, "a": 5}


def test_variables_of_the_caller_are_seen() -> None:
    assert updated({"_id": 1}, [{"$set": {"a": "$$mine"}}], {"mine": 7}) == {"_id": 1, "a": 7}


@pytest.mark.parametrize("stages", [[{"$set": {"_id": 2}}], [{"$replaceWith": {"_id": "$a"}}]])
def test_a_pipeline_cannot_change_the_id(stages: list) -> None:
    with pytest.raises(ImmutableField):
        updated({"_id": 1, "a": 5}, stages)


@pytest.mark.parametrize("stages", [[{"$match": {}}], [{"$group": {"_id": 1}}], [{"$out": "x"}], [5], [{}]])
def test_only_stages_that_keep_one_document_one_are_taken(stages: list) -> None:
    with pytest.raises(BadQuery):
        compile_update(stages)

"""Promises of storage/query/tree.py: what a planner reads out of a filter."""

from __future__ import annotations

import pytest
from bson import Regex
from hypothesis import given
from hypothesis import strategies as st

from storage.query import tree as trees
from storage.query.filters import compile_filter
from storage.query.tree import ALWAYS, NEVER, And, Elements, Node, Nor, Not, Or, Whole, fields_of

Condition = trees.Test


def shown(node: Node) -> object:
    """A tree as plain values, to compare."""
    if isinstance(node, Condition):
        argument = node.argument.pattern if node.op == "$regex" else node.argument
        return (node.path, node.op, argument) if node.parts is None else (node.path, node.op, argument, shown(node.parts))
    if isinstance(node, Not):
        return ["not", shown(node.part)]
    if isinstance(node, (And, Or, Nor)):
        return [type(node).__name__.lower(), *map(shown, node.parts)]
    return node


@pytest.mark.parametrize(
    ("spec", "tree"),
    [
        ({}, ALWAYS),
        ({"a": 1}, ("a", "$eq", 1)),
        ({"a": None}, ("a", "$eq", None)),
        ({"a.b": {"$gt": 1, "$lt": 5}}, ["and", ("a.b", "$gt", 1), ("a.b", "$lt", 5)]),
        ({"a": 1, "$and": [{"b": 2}, {"c": 3}]}, ["and", ("a", "$eq", 1), ("b", "$eq", 2), ("c", "$eq", 3)]),
        ({"a": {"$ne": 1}}, ["not", ("a", "$eq", 1)]),
        ({"a": {"$not": {"$ne": 1}}}, ("a", "$eq", 1)),
        ({"a": {"$nin": [1, 2]}}, ["not", ("a", "$in", (1, 2))]),
        ({"a": {"$exists": True}}, ("a", "$exists", True)),
        ({"a": {"$exists": False}}, ["not", ("a", "$exists", True)]),
        ({"a": {"$all": [1, 2]}}, ["and", ("a", "$eq", 1), ("a", "$eq", 2)]),
        ({"a": {"$all": []}}, NEVER),
        ({"a": {"$not": {"$all": []}}}, ALWAYS),
        ({"a": {"$in": []}}, ("a", "$in", ())),
        ({"a": {"$in": [1, Regex("x")]}}, ["or", ("a", "$in", (1,)), ("a", "$regex", "x")]),
        ({"a": Regex("x")}, ("a", "$regex", "x")),
        ({"a": {"$type": "number"}}, ("a", "$type", frozenset(("int", "long", "double", "decimal")))),
        ({"a": {"$mod": [4.5, 1]}}, ("a", "$mod", (4, 1))),
        ({"a": {"$size": 2.0}}, ("a", "$size", 2)),
        ({"a": {"$bitsAnySet": [0, 3]}}, ("a", "$bitsAnySet", 9)),
        ({"a": {"$elemMatch": {"b": 1}}}, ("a", "$elemMatch", Elements.DOCUMENTS, ("b", "$eq", 1))),
        ({"a": {"$elemMatch": {"$gt": 1}}}, ("a", "$elemMatch", Elements.VALUES, (None, "$gt", 1))),
        ({"$or": [{"a": 1}, {"a": {"$in": [2, 3]}}, {"b": 1}, {"$or": [{"a": 4}]}]}, ["or", ("a", "$in", (1, 2, 3, 4)), ("b", "$eq", 1)]),
        ({"$or": [{"a": 1}]}, ("a", "$eq", 1)),
        ({"$nor": [{"a": 1}]}, ["not", ("a", "$eq", 1)]),
        ({"$nor": [{"a": 1}, {"b": 1}]}, ["nor", ("a", "$eq", 1), ("b", "$eq", 1)]),
        ({"$or": [{"a": 1}, {}]}, ALWAYS),
        ({"$and": [{"a": 1}, {"$alwaysFalse": 1}]}, NEVER),
        ({"$comment": "x"}, ALWAYS),
    ],
)
def test_the_tree_of_a_filter(spec: dict, tree: object) -> None:
    assert shown(compile_filter(spec).tree) == tree


@given(st.recursive(st.sampled_from([{"a": 1}, {"b.c": {"$gt": 1}}, {"d": {"$exists": False}}, {}]),
                    lambda inner: st.builds(lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)), max_leaves=6))  # fmt: skip
def test_a_tree_is_in_its_simplest_form(spec: dict) -> None:
    def check(node: Node) -> None:
        assert isinstance(node, (And, Or, Nor, Not, Condition, Whole)) or node in (ALWAYS, NEVER)
        if isinstance(node, Not):
            assert not isinstance(node.part, Not) and node.part not in (ALWAYS, NEVER)
            check(node.part)
        if isinstance(node, (And, Or, Nor)):
            assert len(node.parts) > 1
            for part in node.parts:
                assert type(part) is not type(node) or isinstance(node, Nor)
                assert part not in (ALWAYS, NEVER)
                check(part)

    tree = compile_filter(spec).tree
    check(tree)
    assert fields_of(tree) <= {"a", "b", "d"}

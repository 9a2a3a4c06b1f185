"""A filter's tree to what runs: a predicate over documents, and where in an array the match was. Pure.

    tree ── compile_predicate ──> document -> bool
         ── compile_position ───> document -> place | None

The place is what `$` stands for in an update or a projection, by MongoDB's rule: conditions are taken in the filter's
order, each takes the first value that passes, and the last one that went through an array decides; of arrays inside
each other the outermost one. Conditions within `$or`, `$nor` and `$not` say nothing.

Costs: nothing is looked up by name while documents are matched; the closures are made once. An Or of many branches
that pin the same path costs one look-up for each value there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..values.order import NULL_KEY, sort_key
from .paths import ABSENT, MISSING, Locator, Path, Test, parsed_path, without_place
from .tree import ALWAYS, And, Elements, Node, Nor, Not, Or, Whole
from .tree import Test as Condition
from .value_tests import key_of, make_test

Predicate = Callable[[Any], bool]
Position = Callable[[dict], "int | None"]
BRANCHES_MANY = 16  # of an Or, from which on they are looked up by value
NAMED_ONLY = frozenset(("$size", "$elemMatch"))  # these see the array itself, not its elements


def compile_predicate(node: Node) -> Predicate:
    """What the tree asks of a document. Raises BadQuery for values that are none."""
    if isinstance(node, Condition):
        test = _value_test(node)
        if node.path is None:
            return test
        path = parsed_path(node.path)
        return path.naming(test) if node.op in NAMED_ONLY else path.reaching(test)
    if isinstance(node, And):
        return _every([compile_predicate(part) for part in node.parts])
    if isinstance(node, Or):
        return _any_part(node.parts)
    if isinstance(node, Nor):
        return _negated(_any_part(node.parts))
    if isinstance(node, Not):
        return _negated(compile_predicate(node.part))
    if isinstance(node, Whole):
        return node.predicate
    return _always if node is ALWAYS else _never


def _value_test(node: Condition) -> Test:
    if node.op != "$elemMatch":
        return make_test(node.op, node.argument)
    element = _element_test(node)
    return lambda value: type(value) is list and any(map(element, value))


def _element_test(node: Condition) -> Test:
    """What an element must be for an `$elemMatch`."""
    assert node.parts is not None, "an $elemMatch has parts"
    inner = compile_predicate(node.parts)
    if node.argument is Elements.VALUES:
        return inner

    def matches(element: Any) -> bool:
        kind = type(element)
        if kind is dict:
            return inner(element)
        # MongoDB reads an array inside the array as a document whose fields are "0", "1", ...
        return kind is list and inner({str(place): value for place, value in enumerate(element)})

    return matches


def _every(parts: list[Predicate]) -> Predicate:
    if len(parts) == 2:
        first, second = parts
        return lambda document: first(document) and second(document)

    def matches(document: Any) -> bool:
        for part in parts:  # noqa: SIM110 - a loop costs half of all() with a generator
            if not part(document):
                return False
        return True

    return matches


def _some(parts: list[Predicate]) -> Predicate:
    def matches(document: Any) -> bool:
        for part in parts:  # noqa: SIM110
            if part(document):
                return True
        return False

    return matches


def _any_part(parts: Sequence[Node]) -> Predicate:
    """Or. Many branches that each pin one path to a value are found by the value; only those found are evaluated."""
    path = _common_path(parts) if len(parts) >= BRANCHES_MANY else None
    if path is None:
        return _some([compile_predicate(part) for part in parts])
    table: dict[Any, list[Node]] = {}
    others = []
    for part in parts:
        pinned = _pinned(part, path)
        if pinned is None:
            others.append(compile_predicate(part))
        else:
            table.setdefault(key_of(pinned.argument), []).append(part)
    found = _by_value(table, parsed_path(path))
    return _some([found, *others]) if others else found


def _by_value(table: Mapping[Any, list[Node]], path: Path) -> Predicate:
    compiled: dict[Any, Predicate] = {}  # branches are compiled when their value is first met

    def matches(document: dict) -> bool:
        def test(value: Any) -> bool:
            key = NULL_KEY if value is MISSING else sort_key(value)
            if key not in table:
                return False
            if key not in compiled:
                compiled[key] = _some([compile_predicate(part) for part in table[key]])
            return compiled[key](document)

        return path.any_value(document, test)

    return matches


def _common_path(parts: Sequence[Node]) -> str | None:
    """The path that at least half of the branches pin to a value."""
    counts = Counter(
        path for part in parts for path in {inner.path for inner in _conjuncts(part) if inner.op == "$eq" and inner.path is not None}
    )
    (path, count), *_ = counts.most_common(1) or [(None, 0)]
    return path if 2 * count >= len(parts) else None


def _pinned(part: Node, path: str) -> Condition | None:
    return next((inner for inner in _conjuncts(part) if inner.op == "$eq" and inner.path == path), None)


def _conjuncts(part: Node) -> list[Condition]:
    inner = part.parts if isinstance(part, And) else (part,)
    return [node for node in inner if isinstance(node, Condition)]


def _negated(predicate: Predicate) -> Predicate:
    return lambda document: not predicate(document)


def _always(document: Any) -> bool:
    return True


def _never(document: Any) -> bool:
    return False


def compile_position(node: Node) -> Position:
    """Where the match of a document was; the document must match. None when no condition went through an array."""
    if isinstance(node, And):
        parts = [compile_position(part) for part in node.parts]

        def last(document: dict) -> int | None:
            found = None
            for part in parts:
                place = part(document)
                found = found if place is None else place
            return found

        return last
    if isinstance(node, Condition) and node.path is not None:
        return _located(node, parsed_path(node.path))
    return _nowhere


def _located(node: Condition, path: Path) -> Position:
    if node.op == "$elemMatch":
        element = _element_test(node)

        def leaf(array: Any) -> Any:
            return _first(element, array) if type(array) is list else ABSENT

        test: Locator = leaf
    elif node.op in NAMED_ONLY:
        test = leaf = without_place(_value_test(node))
    else:
        passes = _value_test(node)
        test = without_place(passes)

        def leaf(array: Any) -> Any:
            found = _first(passes, array)
            return test(array) if found is ABSENT else found

    def locate(document: dict) -> int | None:
        found = path.locate(document, test, leaf)
        return None if found is ABSENT else found

    return locate


def _first(test: Test, array: list) -> Any:
    for place, element in enumerate(array):
        if test(element):
            return place
    return ABSENT


def _nowhere(document: dict) -> None:
    return None

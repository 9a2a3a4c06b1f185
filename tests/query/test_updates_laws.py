"""Laws of storage/query/updates.py for all documents: nothing given is changed, order does not matter, twice is once."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from bson import Decimal128, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery, TwinlogError
from storage.query.arithmetic import add, as_decimal, is_number, multiply, whole_number
from storage.query.updates import compile_update
from storage.values.documents import decode, encode
from storage.values.order import equal, sort_key
from tests.values.generated import decimals, doubles, int64s, numbers, same, values

NOW, STAMP = datetime.datetime(2024, 1, 1), Timestamp(1, 1)
names = st.sampled_from(["a", "b", "c", "0", "1"])
small = st.one_of(st.sampled_from([0, 1, 1.0, -1, 2**63 - 1, "x", None, True, Decimal128("1")]), values)
trees = st.recursive(
    small, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
documents = st.dictionaries(names, trees, max_size=4).map(lambda fields: {"_id": 1, **fields})
parts = st.sampled_from(["a", "b", "c", "0", "1", "2", "10", "$", "$[]", "$[x]"])
paths = st.builds(lambda first, rest: ".".join([first, *rest]), names, st.lists(parts, max_size=3))
fixed_paths = paths.filter(lambda path: "$" not in path)
several = st.lists(small, max_size=3)
moves = st.sampled_from([1, -1])
arguments = {
    "$set": small,
    "$unset": st.just(""),
    "$inc": numbers,
    "$mul": numbers,
    "$min": small,
    "$max": small,
    "$bit": st.dictionaries(st.sampled_from(["and", "or", "xor"]), int64s, min_size=1),
    "$push": small | st.fixed_dictionaries({"$each": several}, optional={"$slice": st.integers(-3, 3), "$sort": moves}),
    "$addToSet": small | st.fixed_dictionaries({"$each": several}),
    "$pull": st.sampled_from([0, 1, "x", {"$gt": 0}, {"a": 1}, {"$in": [1, None]}]),
    "$pullAll": several,
    "$pop": moves,
    "$rename": fixed_paths,
    "$currentDate": st.just(True),
    "$setOnInsert": small,
}
actions = st.sampled_from(sorted(arguments)).flatmap(lambda op: st.tuples(st.just(op), paths, arguments[op]))


def spec_of(chosen: list[tuple[str, str, Any]]) -> dict:
    spec: dict[str, dict] = {}
    for operator, path, argument in chosen:
        spec.setdefault(operator, {})[path] = argument
    return spec


def outcome(spec: dict, document: dict, *, is_insert: bool = False) -> dict | int:
    """The document after the update, or the code of the refusal."""
    uses_filter = any("$[x]" in path for fields in spec.values() for path in fields)
    try:
        update = compile_update(spec, [{"x": {"$gte": 0}}] if uses_filter else None)
        return update.apply(document, position=1, is_insert=is_insert, now=NOW, now_timestamp=STAMP)
    except TwinlogError as refused:
        return refused.code


def alike(left: dict | int, right: dict | int) -> bool:
    return same(left, right)


@given(documents, st.lists(actions, min_size=1, max_size=4), st.booleans())
def test_apply_never_changes_what_it_is_given_and_gives_a_document(document: dict, chosen: list, is_insert: bool) -> None:
    before = encode(document)
    found = outcome(spec_of(chosen), document, is_insert=is_insert)
    assert encode(document) == before
    if isinstance(found, dict):
        assert same(decode(encode(found)), found)
        assert found["_id"] == 1


@given(documents, st.lists(actions, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_operators_and_paths_does_not_matter(document: dict, chosen: list, rng: Any) -> None:
    spec = spec_of(chosen)
    shuffled = list(chosen)
    rng.shuffle(shuffled)
    other = {op: {path: spec[op][path] for path in fields} for op, fields in spec_of(shuffled).items()}
    first, second = outcome(spec, document), outcome(other, document)
    # Of several reasons to refuse, the first one met is told.
    assert alike(first, second) or (isinstance(first, int) and isinstance(second, int))


REPEATABLE = ("$set", "$unset", "$addToSet", "$min", "$max", "$pullAll", "$pull", "$currentDate", "$setOnInsert")


@given(documents, st.lists(actions.filter(lambda action: action[0] in REPEATABLE), min_size=1, max_size=3))
def test_what_is_repeatable_is_done_once(document: dict, chosen: list) -> None:
    # A filter on elements may choose others after the first time.
    spec = spec_of([action for action in chosen if "$[x]" not in action[1]] or [("$set", "a", 1)])
    once = outcome(spec, document)
    if isinstance(once, dict):
        assert alike(outcome(spec, once), once)


@given(fixed_paths, fixed_paths)
def test_two_paths_conflict_exactly_when_one_begins_with_the_other(first: str, second: str) -> None:
    one, other = first.split("."), second.split(".")
    shorter = min(len(one), len(other))
    expected = one[:shorter] == other[:shorter]
    for spec in ({"$set": {first: 1}, "$unset": {second: 1}}, {"$unset": {second: 1}, "$set": {first: 1}}):
        if expected:
            with pytest.raises(BadQuery) as caught:
                compile_update(spec)
            assert caught.value.code == 40
        else:
            assert compile_update(spec).needs_position is False


@given(documents, fixed_paths, small)
def test_what_was_set_is_there_and_goes_away_again(document: dict, path: str, value: Any) -> None:
    found = outcome({"$set": {path: value}}, document)
    if not isinstance(found, dict):
        return
    reached: Any = found
    for part in path.split("."):
        reached = reached[int(part)] if isinstance(reached, list) else reached[part]
    assert equal(reached, value)
    without = outcome({"$unset": {path: ""}}, found)
    assert isinstance(without, dict)
    assert alike(outcome({"$unset": {path: ""}}, without), without)


@given(st.dictionaries(st.sampled_from(["10", "9", "2", "a", "A", "Z1", "é", " ", "01", "-1"]), int64s, max_size=8))
def test_new_fields_come_in_the_order_of_names_and_numbers(fields: dict) -> None:
    found = outcome({"$set": {f"n.{name}": value for name, value in fields.items()}}, {"_id": 1})
    expected_order = [" ", "-1", "2", "9", "10", "01", "A", "Z1", "a", "é"]
    order = [name for name in expected_order if name in fields]
    assert found == ({"_id": 1, "n": fields} if fields else {"_id": 1})
    assert list(found.get("n", {})) == order


@given(documents, names, small, small)
def test_min_and_max_take_one_of_the_two(document: dict, name: str, low: Any, high: Any) -> None:
    document[name] = low
    smaller, larger = outcome({"$min": {name: high}}, document), outcome({"$max": {name: high}}, document)
    assert sorted([sort_key(smaller[name]), sort_key(larger[name])]) == sorted([sort_key(low), sort_key(high)])


@given(numbers, numbers)
def test_arithmetic_keeps_its_type_rules(left: Any, right: Any) -> None:
    for compute in (add, multiply):
        try:
            found = compute(left, right)
        except OverflowError:
            assert type(left) is type(right) is int
            continue
        kinds = {type(left), type(right)}
        assert type(found) is (Decimal128 if Decimal128 in kinds else float if float in kinds else int)
        assert same(found, compute(right, left)) or not equal(found, found) or equal(found, compute(right, left))


@given(decimals | doubles | int64s)
def test_every_number_is_a_decimal_and_maybe_whole(number: Any) -> None:
    assert is_number(number)
    exact = whole_number(number)
    assert exact is None or equal(exact, number)
    assert as_decimal(number).is_nan() == (sort_key(number) == sort_key(float("nan")))

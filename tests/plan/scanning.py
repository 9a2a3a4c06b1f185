"""Answers without an index: what a scan of the live documents comes to, and answers in a form that can be compared."""

from __future__ import annotations

from storage.plan.choosing import values_at
from storage.query.accumulators import compile_accumulator
from storage.query.expression_operands import Scope
from storage.query.expressions import compile_expression
from storage.query.paths import MISSING, Path
from storage.values.order import sort_key


def keys(batches) -> list[bytes]:
    return [found.key for batch in batches for found in batch]


def first(rows: list, wanted: int) -> list:
    return rows[:wanted] if wanted else rows


def last(steps):
    return list(steps)[-1]


SCOPE = Scope(lambda spec, scope: compile_expression(spec))


def naive_groups(documents: list[dict], spec: dict) -> list[dict]:
    """By the accumulators themselves."""
    key = compile_expression(spec["_id"])
    folds = [(name, compile_accumulator(*next(iter(part.items())), SCOPE)) for name, part in spec.items() if name != "_id"]
    groups: dict = {}
    for document in documents:
        value = key(document, {})
        value = None if value is MISSING else value
        _, states = groups.setdefault(sort_key(value), (value, [accumulation.begin() for _, accumulation in folds]))
        for state, (_, accumulation) in zip(states, folds):
            state.add(accumulation.operand(document, {}))
    return [
        {"_id": value, **{name: state.value() for (name, _), state in zip(folds, states)}} for value, states in groups.values()
    ]


def spelled(value: object) -> object:
    """Values in a form that tells types apart and holds NaN equal to itself."""
    if isinstance(value, dict):
        return [(key, spelled(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [spelled(inner) for inner in value]
    return (type(value).__name__, str(value))


def naive_distinct(documents: list[dict], path: str) -> list:
    """In the order of values, each as the first document has it."""
    found: dict = {}
    for document in documents:
        for value in values_at(document, Path(path)):
            found.setdefault(sort_key(value), value)
    return [value for _, value in sorted(found.items(), key=lambda item: item[0])]

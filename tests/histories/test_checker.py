"""The checker finds every anomaly in a history that has it, and none in what snapshot isolation allows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.histories.checker import check
from tests.histories.history import INITIAL, Anomaly, Outcome, Read, Transaction, Write

R, W, T = Read, Write, Transaction


def anomalies(*history: Transaction) -> set[Anomaly]:
    return {finding.anomaly for finding in check(history)}


PLANTED = {
    "garbage": (Anomaly.GARBAGE, [T([R("x", 9)])]),
    "dirty": (Anomaly.DIRTY, [T([W("x", 1)], Outcome.ABORTED), T([R("x", 1)])]),
    "intermediate": (Anomaly.INTERMEDIATE, [T([W("x", 1), W("x", 2)]), T([R("x", 1)])]),
    "own write": (Anomaly.INTERNAL, [T([W("x", 1), R("x", INITIAL)])]),
    "two values": (Anomaly.INTERNAL, [T([W("x", 1)]), T([R("x", INITIAL), R("x", 1)])]),
    "lost update": (Anomaly.LOST_UPDATE, [T([R("x", INITIAL), W("x", 1)]), T([R("x", INITIAL), W("x", 2)])]),
    "lost update by positions": (
        Anomaly.LOST_UPDATE,
        [T([W("x", 1)], snapshot=0, commit=1), T([W("x", 2)], snapshot=0, commit=2)],
    ),
    "circular": (Anomaly.CIRCULAR, [T([W("x", 1), R("y", 1)]), T([W("y", 1), R("x", 1)])]),
    "circular by session": (Anomaly.CIRCULAR, [T([R("x", 1)], session="a"), T([W("x", 1)], session="a")]),
    "read skew": (
        Anomaly.READ_SKEW,
        [T([R("x", INITIAL), W("x", 1), R("y", INITIAL), W("y", 1)]), T([R("x", INITIAL), R("y", 1)])],
    ),
    "stale session": (
        Anomaly.READ_SKEW,
        [T([R("x", INITIAL), W("x", 1)], session="a"), T([R("x", INITIAL)], session="a")],
    ),
    "long fork": (
        Anomaly.LONG_FORK,
        [
            T([R("x", INITIAL), W("x", 1)]),
            T([R("y", INITIAL), W("y", 1)]),
            T([R("x", 1), R("y", INITIAL)]),
            T([R("x", INITIAL), R("y", 1)]),
        ],
    ),
    "not at its snapshot": (
        Anomaly.NOT_AT_SNAPSHOT,
        [T([W("x", 1)], snapshot=0, commit=1), T([R("x", INITIAL)], snapshot=1)],
    ),
    "ahead of its snapshot": (
        Anomaly.NOT_AT_SNAPSHOT,
        [T([W("x", 1)], snapshot=0, commit=5), T([R("x", 1)], snapshot=4)],
    ),
    "unknown, seen, and lost": (
        Anomaly.LOST_UPDATE,
        [T([R("x", INITIAL), W("x", 1)], Outcome.UNKNOWN), T([R("x", INITIAL), W("x", 2)]), T([R("x", 1)])],
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_planted_anomaly_is_found_by_its_name(name: str) -> None:
    anomaly, history = PLANTED[name]
    assert anomalies(*history) == {anomaly}


ALLOWED = {
    "write skew": [T([R("x", INITIAL), R("y", INITIAL), W("x", 1)]), T([R("x", INITIAL), R("y", INITIAL), W("y", 1)])],
    "own writes": [T([W("x", 1), R("x", 1), W("x", 2), R("x", 2)]), T([R("x", 2)])],
    "unknown, not seen": [T([R("x", INITIAL), W("x", 1)], Outcome.UNKNOWN), T([R("x", INITIAL), W("x", 2)])],
    "unknown, seen": [T([R("x", INITIAL), W("x", 1)], Outcome.UNKNOWN), T([R("x", 1), W("x", 2)])],
    "an aborted one saw old things": [T([R("x", INITIAL), W("x", 1)]), T([R("x", INITIAL), W("x", 2)], Outcome.ABORTED)],
    "a snapshot in the past": [
        T([R("x", INITIAL), W("x", 1)], session="a", snapshot=0, commit=1),
        T([R("x", INITIAL), R("y", INITIAL)], session="b", snapshot=0),
    ],
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_snapshot_isolation_allows_is_no_finding(name: str) -> None:
    assert check(ALLOWED[name]) == []


def generated(seed: int, size: int) -> list[Transaction]:
    """Transactions of a perfect database."""
    rng = random.Random(seed)
    states: list[dict] = [{}]
    last: dict[int, int] = {}
    history: list[Transaction] = []
    value = 0
    for _ in range(size):
        snapshot = rng.randrange(max(0, len(states) - 5), len(states))
        operations: list[Read | Write] = []
        own: dict[int, int] = {}
        for _ in range(rng.randrange(1, 6)):
            key = rng.randrange(5)
            operations.append(Read(key, own.get(key, states[snapshot].get(key))))
            if rng.random() < 0.5:
                value += 1
                own[key] = value
                operations.append(Write(key, value))
        if any(last.get(key, 0) > snapshot for key in own) or rng.random() < 0.1:
            history.append(Transaction(operations, Outcome.ABORTED, snapshot=snapshot))
            continue
        commit = None
        if own:
            commit = len(states)
            states.append({**states[-1], **own})
            last.update(dict.fromkeys(own, commit))
        outcome = Outcome.UNKNOWN if rng.random() < 0.1 else Outcome.COMMITTED
        history.append(Transaction(operations, outcome, snapshot=snapshot, commit=commit))
    return history


def without_positions(history: list[Transaction]) -> list[Transaction]:
    return [replace(transaction, snapshot=None, commit=None) for transaction in history]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_a_perfect_database_is_never_accused(seed: int) -> None:
    history = generated(seed, 60)
    assert check(history) == []
    assert check(without_positions(history)) == []


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_a_read_of_another_version_never_passes_unseen_where_positions_are_known(seed: int) -> None:
    history = generated(seed, 60)
    rng = random.Random(seed)
    values = {key: [w.value for t in history if t.outcome is Outcome.COMMITTED for w in t.operations if isinstance(w, Write) and w.key == key] for key in range(5)}
    places = [place for place, t in enumerate(history) if t.outcome is Outcome.COMMITTED and isinstance(t.operations[0], Read)]
    place = rng.choice(places)
    first = history[place].operations[0]
    others = [value for value in values[first.key] if value != first.value]
    if others:
        history[place].operations[0] = Read(first.key, rng.choice(others))
        assert check(history) != []

"""What a seed leaves out: faults, kinds of requests. Pure but for the random it is given.

A run that does a little of everything does nothing to excess, and two faults that mask each other are in every run. So each seed draws
which kinds it has at all, and how often each (swarm testing).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

PRESENT = 0.6  # chance of each kind
RATES = (0.3, 1.0, 1.0, 3.0)  # what the usual weight is multiplied with

REQUESTS = {
    "insert": 6.0,
    "replace": 4.0,
    "update": 4.0,
    "delete": 2.0,
    "drop": 0.15,
    "index": 0.3,
    "drop index": 0.15,
    "transaction": 3.0,
}


@dataclass(frozen=True, slots=True)
class Workload:
    """What clients do. requests: weights by kind; twice: share of requests that are sent again after their answer."""

    requests: Mapping[str, float]
    twice: float
    index_kinds: tuple[str, ...]
    queries: float  # share of a reader's looks that are queries by index

    def __str__(self) -> str:
        return f"{shown(self.requests)} twice={self.twice} indexes={'+'.join(self.index_kinds) or 'none'} queries={self.queries}"


def draw_workload(rng: random.Random) -> Workload:
    """Inserts are always there: what else should the rest be about."""
    kinds = draw_kinds(rng, REQUESTS, always=("insert",))
    indexes = tuple(kind for kind in ("unique", "sparse", "ttl") if rng.random() < 0.5)
    return Workload(kinds, rng.choice([0.0, 0.0, 0.1, 0.5]), indexes, rng.choice([0.0, 0.3, 0.6]))


def draw_kinds(rng: random.Random, usual: Mapping[str, float], *, always: tuple[str, ...] = ()) -> dict[str, float]:
    """Each kind present or not, and its weight."""
    drawn = {}
    for kind, weight in usual.items():
        present, rate = rng.random() < PRESENT, rng.choice(RATES)
        if present or kind in always:
            drawn[kind] = round(weight * rate, 3)
    return drawn


def shown(weights: Mapping[str, float]) -> str:
    return " ".join(f"{kind.replace(' ', '-')}:{weight:g}" for kind, weight in weights.items()) or "none"

"""Facts of drills that never took place, built so that a test can spoil exactly one thing in them.

A whole drill: one writer writes once a tenth of a second from 0.0; at 2.0 the primary a is killed, at 2.5 b is promoted (epoch 2), at 3.0 it
acknowledges, at 5.0 a is started again, at 6.0 writing ends. Everything acknowledged is there, once, on both.
"""

from __future__ import annotations

from dataclasses import replace

from ops.drills.records import Copy, Event, Facts, Outcome, Proof, Read, Sight, Sighting, Write
from ops.drills.scenarios import Act

ZERO = 100.0  # the clock when writing began
KILLED, PROMOTED, ACCEPTED, STARTED, ENDED = ZERO + 2.0, ZERO + 2.5, ZERO + 3.0, ZERO + 5.0, ZERO + 6.0
HASH = (70, "00c4a1", "5eed")


def write(number: int, sent: float, outcome: Outcome = Outcome.ACKNOWLEDGED, *, epoch: int = 1, error: str = "", writer: int = 0) -> Write:
    position = (epoch, number + 1) if outcome is Outcome.ACKNOWLEDGED else None
    return Write(writer, number, sent, sent + 0.01, outcome, error, position)


def whole_writes() -> list[Write]:
    writes = [write(number, ZERO + number / 10) for number in range(20)]
    writes += [write(20, KILLED + 0.001, Outcome.UNKNOWN, error="AutoReconnect")]
    return writes + [write(21 + number, ACCEPTED - 0.01 + number / 10, epoch=2) for number in range(30)]


def copies_of(writes: list[Write]) -> tuple[Copy, ...]:
    documents = {one.name: 1 for one in writes if one.outcome is Outcome.ACKNOWLEDGED}
    return Copy("a", "standby", dict(documents)), Copy("b", "primary", dict(documents))


def whole() -> Facts:
    writes = whole_writes()
    return Facts(
        nodes=("a", "b"),
        writes=tuple(writes),
        reads=(Read(ZERO + 1, ZERO + 1.01, Sight.FOUND), Read(KILLED + 0.1, KILLED + 0.2, Sight.FAILED), Read(ACCEPTED, ACCEPTED + 0.1, Sight.FOUND)),
        events=(
            Event(Act.KILL, KILLED, KILLED + 0.05, "kill a", "a"),
            Event(Act.UNTIL, KILLED + 0.05, KILLED + 0.3, "detected"),
            Event(Act.PROMOTE, PROMOTED, PROMOTED + 0.1, "promote b", "b"),
            Event(Act.START, STARTED, STARTED + 0.01, "start a", "a"),
        ),
        sightings=(
            Sighting(ZERO, "a", True, "primary", 1, {"b": True}),
            Sighting(ZERO, "b", True, "standby", 1, {"a": True}),
            Sighting(KILLED + 0.1, "a", False),
            Sighting(KILLED + 0.25, "b", True, "standby", 1, {"a": False}),
        ),
        writing_began=ZERO,
        writing_ended=ENDED,
        copies=copies_of(writes),
        proof=Proof(HASH[0], True, {"a": HASH, "b": HASH}),
        salvaged={"a": (), "b": ()},
    )


def with_documents(facts: Facts, **changes: dict[str, int | None]) -> Facts:
    """Documents of nodes changed: name -> how often applied, None to take it away."""
    copies = []
    for copy in facts.copies:
        documents = {**copy.documents, **changes.get(copy.node, {})}
        copies.append(replace(copy, documents={name: times for name, times in documents.items() if times is not None}))
    return replace(facts, copies=tuple(copies))

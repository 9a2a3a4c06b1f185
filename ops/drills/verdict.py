"""What a drill's facts mean: what was lost, what came twice, how long nobody was served, whether the copies are equal. Pure.

A loss is an acknowledged write that is not in the surviving history, which is what the last primary holds. All that was not acknowledged may be
there or not. What could not be found out is None or a problem, never a zero: a drill that saw nothing has not passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .records import PLANTED, Copy, Event, Facts, Outcome, Sight, Sighting, Write
from .scenarios import FAULTS, ORDERS, RELIEFS, Act

PRIMARY_ROLE = "primary"
DISK_FULL = "disk-full"
NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Takeover:
    """One order (promotion, switchover) and what followed. Seconds; None when it did not happen."""

    node: str
    ordered_at: float
    command_s: float  # until the order was answered
    first_accepted_s: float | None  # until a write was acknowledged in the new epoch
    recovered_s: float | None  # the same, from the fault before it
    forced: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """lost is None when nobody could be asked what survived. Names are those of writes."""

    outcomes: Mapping[str, int]
    errors: Mapping[str, int]
    lost: tuple[Write, ...] | None
    lost_seconds: float | None
    came_twice: tuple[str, ...] | None
    unconfirmed_lost: tuple[str, ...] | None
    refused_kept: tuple[str, ...] | None
    late: tuple[str, ...]  # acknowledged by an old primary although sent after a newer one had acknowledged
    detected_s: tuple[float, ...]
    takeovers: tuple[Takeover, ...]
    resumed_s: float | None  # without a takeover: from the last relief to the first acknowledged write
    longest_gap_s: float | None
    longest_gap_at: float | None
    reads: Mapping[str, int]  # while something was broken
    salvaged: int
    equal: bool | None
    problems: tuple[str, ...] = field(default=())

    def measures(self) -> dict[str, float | None]:
        """What limits can be set on, by name; None: could not be measured."""
        return {
            "lost_writes": _count(self.lost),
            "lost_seconds": self.lost_seconds,
            "came_twice": _count(self.came_twice),
            "unconfirmed_lost": _count(self.unconfirmed_lost),
            "refused_kept": _count(self.refused_kept),
            "late_acknowledgements": len(self.late),
            "detected_s": max(self.detected_s, default=None),
            "command_s": max((one.command_s for one in self.takeovers), default=None),
            "first_accepted_s": _worst([one.first_accepted_s for one in self.takeovers]),
            "recovered_s": _worst([one.recovered_s for one in self.takeovers]),
            "resumed_s": self.resumed_s,
            "longest_gap_s": self.longest_gap_s,
            "acknowledged": self.outcomes.get(Outcome.ACKNOWLEDGED.value, 0),
            "reads_found": self.reads.get(Sight.FOUND.value, 0),
            "reads_stale": self.reads.get(Sight.STALE.value, 0),
            "reads_missing": self.reads.get(Sight.MISSING.value, 0),
            "salvaged_files": self.salvaged,
        }


MEASURES = (
    "lost_writes", "lost_seconds", "came_twice", "unconfirmed_lost", "refused_kept", "late_acknowledgements", "detected_s", "command_s",
    "first_accepted_s", "recovered_s", "resumed_s", "longest_gap_s", "acknowledged", "reads_found", "reads_stale",
    "reads_missing", "salvaged_files",
)  # fmt: skip


def judge(facts: Facts) -> Verdict:
    """The whole verdict. Raises nothing: what is missing becomes a problem in it."""
    acknowledged = sorted((write for write in facts.writes if write.outcome is Outcome.ACKNOWLEDGED), key=lambda write: write.ended)
    survivor = surviving(facts.copies)
    held = None if survivor is None else survivor.documents
    lost = None if held is None else tuple(write for write in acknowledged if not held.get(write.name))
    gap = longest_gap([write.ended for write in acknowledged], facts.writing_ended)
    takeovers = tuple(_takeover(event, facts.events, acknowledged) for event in facts.events if event.act in ORDERS)
    return Verdict(
        outcomes=Counter(write.outcome.value for write in facts.writes),
        errors=Counter(write.error for write in facts.writes if write.error),
        lost=lost,
        lost_seconds=None if lost is None else seconds_lost(lost, facts.events),
        came_twice=None if held is None else tuple(sorted(name for name, times in held.items() if times > 1)),
        unconfirmed_lost=_names(facts.writes, Outcome.UNCONFIRMED, held, kept=False),
        refused_kept=_names(facts.writes, Outcome.REFUSED, held, kept=True),
        late=late(acknowledged),
        detected_s=tuple(found for event in facts.events if (found := detected_s(event, facts.sightings)) is not None),
        takeovers=takeovers,
        resumed_s=None if takeovers else _resumed_s(facts.events, acknowledged),
        longest_gap_s=None if gap is None else gap[0],
        longest_gap_at=None if gap is None else gap[1],
        reads=_reads_while_broken(facts),
        salvaged=sum(len(files) for files in facts.salvaged.values()),
        equal=equal(facts),
        problems=(*facts.problems, *_problems(facts, acknowledged, survivor, takeovers)),
    )


def surviving(copies: Iterable[Copy]) -> Copy | None:
    """The copy of the one primary; None when there is none, or more than one."""
    primaries = [copy for copy in copies if copy.role == PRIMARY_ROLE]
    return primaries[0] if len(primaries) == 1 else None


def seconds_lost(lost: Sequence[Write], events: Iterable[Event]) -> float:
    """From the first lost acknowledgement to the fault, or to the last lost one where that came later."""
    if not lost:
        return 0.0
    first = min(write.ended for write in lost)
    faults = [event.began for event in events if event.act in FAULTS | ORDERS and event.began >= first]
    return max([write.ended for write in lost] + faults[:1]) - first


def longest_gap(times: Sequence[float], ended: float) -> tuple[float, float] | None:
    """The longest time without an acknowledgement and when it began; the end of writing ends the last one."""
    if not times:
        return None
    began = list(times)
    return max(((after - before, before) for before, after in zip(began, [*began[1:], max(ended, began[-1])])), key=lambda gap: gap[0])


def late(acknowledged: Sequence[Write]) -> tuple[str, ...]:
    """Those that an older epoch took although they were sent when a newer one had already acknowledged. In the order of their answers."""
    since: dict[int, float] = {}
    for write in acknowledged:
        if write.position is not None:
            since.setdefault(write.position[0], write.ended)
    return tuple(
        write.name
        for write in acknowledged
        if write.position is not None and any(epoch > write.position[0] and write.sent > at for epoch, at in since.items())
    )


def detected_s(fault: Event, sightings: Sequence[Sighting]) -> float | None:
    """How long after a fault a node first said so that could still be asked; None if none did, or if it had been said before."""
    if fault.act not in FAULTS:
        return None
    before: dict[str, Sighting] = {}
    for sighting in sightings:
        if sighting.at <= fault.began:
            before[sighting.node] = sighting
    if any(tells(fault, sighting) for sighting in before.values()):
        return None
    return next((sighting.at - fault.began for sighting in sightings if sighting.at > fault.began and tells(fault, sighting)), None)


def tells(fault: Event, sighting: Sighting) -> bool:
    """Whether a node's status shows this fault."""
    if not sighting.reachable:
        return False
    if fault.act is Act.FILL:
        return sighting.node == fault.node and DISK_FULL in sighting.alarms
    if fault.act in (Act.CUT, Act.MUTE):
        return False in sighting.links.values()
    return sighting.node != fault.node and sighting.links.get(fault.node) is False


def equal(facts: Facts) -> bool | None:
    """Whether every node answered the same chain and hash at one MARK and has the same documents; None when that was not compared."""
    if facts.proof is None or set(facts.proof.answers) != set(facts.nodes) or {copy.node for copy in facts.copies} != set(facts.nodes):
        return None
    if len(facts.nodes) < 2:
        return None
    hashes = set(facts.proof.answers.values())
    first = facts.copies[0].documents
    return facts.proof.equal is True and len(hashes) == 1 and all(copy.documents == first for copy in facts.copies)


def newest_epoch(acknowledged: Iterable[Write], until: float) -> int:
    """The highest epoch that had acknowledged a write by then; 0 before the first."""
    return max((write.position[0] for write in acknowledged if write.position is not None and write.ended <= until), default=0)


def _takeover(order: Event, events: Sequence[Event], acknowledged: Sequence[Write]) -> Takeover:
    epoch = newest_epoch(acknowledged, order.began)
    accepted = next((write.ended for write in acknowledged
                     if write.position is not None and write.position[0] > epoch and write.ended >= order.began), None)
    orders_before = [event.began for event in events if event.act in ORDERS and event.began < order.began]
    faults = [event.began for event in events if event.act in FAULTS and max(orders_before, default=0.0) <= event.began <= order.began]
    return Takeover(
        node=order.node,
        ordered_at=order.began,
        command_s=order.ended - order.began,
        first_accepted_s=None if accepted is None else accepted - order.began,
        recovered_s=None if accepted is None or not faults else accepted - faults[0],
        forced=order.forced,
    )


def _resumed_s(events: Sequence[Event], acknowledged: Sequence[Write]) -> float | None:
    reliefs = [event.began for event in events if event.act in RELIEFS]
    return next((write.ended - reliefs[-1] for write in acknowledged if write.ended >= reliefs[-1]), None) if reliefs else None


def _names(writes: Iterable[Write], outcome: Outcome, held: Mapping[str, int] | None, *, kept: bool) -> tuple[str, ...] | None:
    """Writes with this outcome that survived, or that did not."""
    if held is None:
        return None
    return tuple(write.name for write in writes if write.outcome is outcome and bool(held.get(write.name)) is kept)


def _reads_while_broken(facts: Facts) -> Counter[str]:
    faults = [event.began for event in facts.events if event.act in FAULTS]
    reliefs = [event.began for event in facts.events if event.act in RELIEFS]
    if not faults:
        return Counter(read.sight.value for read in facts.reads)
    until = max(reliefs, default=facts.writing_ended)
    return Counter(read.sight.value for read in facts.reads if faults[0] <= read.began and read.ended <= until)


def _problems(facts: Facts, acknowledged: Sequence[Write], survivor: Copy | None, takeovers: Sequence[Takeover]) -> list[str]:
    """What makes this drill worth nothing, or shows something that must never be."""
    found = []
    primaries = sorted(copy.node for copy in facts.copies if copy.role == PRIMARY_ROLE)
    if survivor is None:
        found.append(f"{' and '.join(primaries) or 'no node'} {'are' if len(primaries) > 1 else 'is'} primary at the end: what survived is not known")
    silent = sorted(set(facts.nodes) - {copy.node for copy in facts.copies})
    if silent:
        found.append(f"the documents of {', '.join(silent)} could not be read")
    if facts.proof is None:
        found.append("the state hashes of all copies were not compared")
    if survivor is not None and PLANTED in survivor.documents:
        found.append("the write that the drill planted and deleted is there: its deletion was lost, or this drill cannot see a loss")
    known = {write.name for write in facts.writes} | {PLANTED}
    strange = sorted({name for copy in facts.copies for name in copy.documents} - known)
    if strange:
        found.append(f"{len(strange)} documents that no writer wrote: {', '.join(strange[:NAMES_SHOWN])}")
    deeds = [event for event in facts.events if event.act in FAULTS | ORDERS | RELIEFS]
    if not deeds:
        found.append("nothing was done to the cluster")
    elif not any(write.ended < deeds[0].began for write in acknowledged):
        found.append("no write was acknowledged before the first fault: nothing could have been lost")
    elif not any(write.sent > deeds[-1].began for write in acknowledged):
        found.append("no write was acknowledged after the last step: the cluster is not shown to have recovered")
    found += [f"no write was acknowledged after {one.node} was made primary" for one in takeovers if one.first_accepted_s is None]
    return found


def _count(names: Sequence[object] | None) -> int | None:
    return None if names is None else len(names)


def _worst(times: Sequence[float | None]) -> float | None:
    """The longest; None when there is none, or when one never came."""
    known = [time for time in times if time is not None]
    return max(known) if known and len(known) == len(times) else None

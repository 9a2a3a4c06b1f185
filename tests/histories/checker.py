"""The checker: is a history one that snapshot isolation allows? Pure; looks at nothing but the history.

    reads ──> who wrote it             wr   writer ──> reader
    a read of a key before its write   ww   writer of the version ──> writer of the next        (with commit positions: all of them)
    both                               rw   reader of a version ──> writer of the next
    sessions                           so   one transaction ──> the next of its session

Snapshot isolation is: no cycle in which no rw follows another rw (Cerone and Gotsman, "Analysing Snapshot Isolation", 2016). To look for one
each transaction is two nodes, reached by rw or not, and rw leads only out of the one that was not: a cycle of that graph is one that is not
allowed. Strongly connected components by Tarjan's algorithm; one shortest cycle of each is shown. No finding is a false alarm: an order of
versions is only taken where the history proves it. Cost: about 10 µs an operation.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from .history import INITIAL, Anomaly, Finding, Key, Outcome, Transaction, Value, Write

SO, WW, WR, RW = "so", "ww", "wr", "rw"
Version = tuple[Key, Value]


@dataclass
class _Digest:
    """What transactions did to each other. Places are those of the history."""

    history: Sequence[Transaction]
    writer: dict[Version, int] = field(default_factory=dict)
    is_final: dict[Version, bool] = field(default_factory=dict)
    counts: list[bool] = field(default_factory=list)  # whether it committed, as far as anybody can know
    external: list[dict[Key, Value]] = field(default_factory=list)  # first reads, before any own write
    final: list[dict[Key, Value]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, anomaly: Anomaly, places: Sequence[int], what: str) -> None:
        self.findings.append(Finding(anomaly, tuple(places), what))


def check(history: Sequence[Transaction]) -> list[Finding]:
    """Everything that snapshot isolation does not allow; nothing: the history is sound."""
    digest = _digested(history)
    _check_reads(digest)
    following = _following(digest)
    _check_positions(digest)
    _check_cycles(digest, _edges(digest, following))
    return digest.findings


def _digested(history: Sequence[Transaction]) -> _Digest:
    digest = _Digest(history)
    for place, transaction in enumerate(history):
        first: dict[Key, Value] = {}
        own: dict[Key, Value] = {}
        seen: dict[Key, Value] = {}
        for operation in transaction.operations:
            key, value = operation
            if isinstance(operation, Write):
                assert (key, value) not in digest.writer and value is not INITIAL, f"{key!r} = {value!r} was written twice"
                if key in own:
                    digest.is_final[key, own[key]] = False
                digest.writer[key, value] = place
                digest.is_final[key, value] = True
                own[key] = seen[key] = value
            elif key in seen:
                if seen[key] != value and transaction.outcome is not Outcome.ABORTED:
                    digest.add(Anomaly.INTERNAL, [place], f"{key!r} was read as {value!r} after {seen[key]!r}")
            else:
                first[key] = seen[key] = value
        digest.external.append(first)
        digest.final.append(own)
    digest.counts = [transaction.outcome is Outcome.COMMITTED for transaction in history]
    seen = {version for reads in digest.external for version in reads.items()}
    for place, transaction in enumerate(history):
        if transaction.outcome is Outcome.UNKNOWN:
            digest.counts[place] = not seen.isdisjoint(digest.final[place].items())
    return digest


def _check_reads(digest: _Digest) -> None:
    for place, transaction in enumerate(digest.history):
        if transaction.outcome is Outcome.ABORTED:
            continue  # what an aborted transaction saw was of its snapshot too, but nobody was promised it
        for key, value in digest.external[place].items():
            if value is INITIAL:
                continue
            writer = digest.writer.get((key, value))
            if writer is None:
                digest.add(Anomaly.GARBAGE, [place], f"{key!r} was read as {value!r}")
            elif digest.history[writer].outcome is Outcome.ABORTED:
                digest.add(Anomaly.DIRTY, [writer, place], f"{key!r} was read as {value!r}")
            elif writer != place and not digest.is_final[key, value]:
                digest.add(Anomaly.INTERMEDIATE, [writer, place], f"{key!r} was read as {value!r}")


def _following(digest: _Digest) -> dict[Version, list[int]]:
    """By version: who is known to have put the next one. One that put it over what it had read did: otherwise it would have
    lost an update."""
    following: dict[Version, list[int]] = defaultdict(list)
    for place, counts in enumerate(digest.counts):
        if counts:
            for key in digest.final[place]:
                if key in digest.external[place]:
                    following[key, digest.external[place][key]].append(place)
    for (key, value), places in following.items():
        if len(places) > 1:
            digest.add(Anomaly.LOST_UPDATE, places, f"{key!r} was {value!r} for each of them, and each wrote it")
    for key, versions in _ordered_by_position(digest).items():
        before: Value = INITIAL
        for _, value, place in versions:
            if place not in following[key, before]:
                following[key, before].append(place)
            before = value
    return following


def _ordered_by_position(digest: _Digest) -> dict[Key, list[tuple[int, Value, int]]]:
    """(commit, value, place) of all versions of each key whose writers' positions are all known, in order."""
    found: dict[Key, list[tuple[int, Value, int]]] = defaultdict(list)
    unknown: set[Key] = set()
    for place, transaction in enumerate(digest.history):
        if transaction.outcome is Outcome.ABORTED:
            continue
        if transaction.commit is None:
            unknown.update(digest.final[place])
            continue
        for key, value in digest.final[place].items():
            found[key].append((transaction.commit, value, place))
    for key in unknown:
        found.pop(key, None)
    for versions in found.values():
        versions.sort(key=lambda version: version[0])
    return found


def _check_positions(digest: _Digest) -> None:
    """With positions: every read is the last version at its snapshot, and nobody wrote between snapshot and commit."""
    ordered = _ordered_by_position(digest)
    commits = {key: [version[0] for version in versions] for key, versions in ordered.items()}
    written = {key for final in digest.final for key in final}
    for place, transaction in enumerate(digest.history):
        if transaction.snapshot is None or transaction.outcome is Outcome.ABORTED:
            continue
        for key, value in digest.external[place].items():
            if key in written and key not in ordered:
                continue
            at = bisect_right(commits.get(key, ()), transaction.snapshot)
            expected = ordered[key][at - 1][1] if at else INITIAL
            if value != expected:
                digest.add(
                    Anomaly.NOT_AT_SNAPSHOT, [place], f"{key!r} was read as {value!r} at {transaction.snapshot}, where it was {expected!r}"
                )
        if transaction.commit is None:
            continue
        for key in digest.final[place]:
            if key not in ordered:
                continue
            at = bisect_right(commits[key], transaction.snapshot)
            if ordered[key][at][2] != place:
                digest.add(
                    Anomaly.LOST_UPDATE,
                    [ordered[key][at][2], place],
                    f"{key!r} was written at {commits[key][at]}, between snapshot {transaction.snapshot} and commit {transaction.commit}",
                )


Edges = list[dict[int, str]]  # by place: to whom, and why


def _edges(digest: _Digest, following: dict[Version, list[int]]) -> tuple[Edges, Edges]:
    """(dependencies, anti-dependencies)."""
    depends: Edges = [{} for _ in digest.history]
    anti: Edges = [{} for _ in digest.history]
    last_of: dict[object, int] = {}
    for place, transaction in enumerate(digest.history):
        if not digest.counts[place]:
            continue
        if transaction.session is not None:
            before = last_of.get(transaction.session)
            if before is not None:
                depends[before].setdefault(place, SO)
            last_of[transaction.session] = place
        for key, value in digest.external[place].items():
            writer = digest.writer.get((key, value))
            if writer is not None and writer != place and digest.counts[writer]:
                depends[writer][place] = WR
            for follower in following.get((key, value), ()):
                if follower != place:
                    anti[place][follower] = RW
    for version, followers in following.items():
        writer = digest.writer.get(version)
        if writer is not None and digest.counts[writer]:
            for follower in followers:
                if follower != writer:
                    depends[writer][follower] = WW
    return depends, anti


def _check_cycles(digest: _Digest, edges: tuple[Edges, Edges]) -> None:
    depends, anti = edges
    successors: list[list[int]] = []  # node 2t: t reached by an anti-dependency; 2t + 1: reached otherwise
    for place in range(len(digest.history)):
        plain = [2 * other + 1 for other in depends[place]]
        successors.append(plain)
        successors.append([*plain, *(2 * other for other in anti[place])])
    for component in _components(successors):
        cycle = _cycle(successors, component)
        kinds = [
            RW if not node % 2 else depends[before // 2][node // 2] for before, node in zip([cycle[-1], *cycle[:-1]], cycle)
        ]
        places = [node // 2 for node in cycle]
        antis = kinds.count(RW)
        anomaly = (Anomaly.CIRCULAR, Anomaly.READ_SKEW)[antis] if antis < 2 else Anomaly.LONG_FORK
        shown = " ".join(f"-{kind}-> {place}" for kind, place in zip([*kinds[1:], kinds[0]], [*places[1:], places[0]]))
        digest.add(anomaly, places, f"{places[0]} {shown}")


def _components(successors: Sequence[Sequence[int]]) -> list[list[int]]:
    """Strongly connected components of more than one node. Tarjan, without recursion."""
    index = [-1] * len(successors)
    low = [0] * len(successors)
    on_stack = bytearray(len(successors))
    stack: list[int] = []
    found: list[list[int]] = []
    number = 0
    for root in range(len(successors)):
        if index[root] >= 0:
            continue
        work = [(root, iter(successors[root]))]
        index[root] = low[root] = number
        number += 1
        stack.append(root)
        on_stack[root] = 1
        while work:
            node, left = work[-1]
            for other in left:
                if index[other] < 0:
                    index[other] = low[other] = number
                    number += 1
                    stack.append(other)
                    on_stack[other] = 1
                    work.append((other, iter(successors[other])))
                    break
                if on_stack[other]:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack[member] = 0
                        component.append(member)
                        if member == node:
                            break
                    if len(component) > 1:
                        found.append(component)
    return found


def _cycle(successors: Sequence[Sequence[int]], component: Sequence[int]) -> list[int]:
    """A shortest cycle through one of its nodes."""
    members = frozenset(component)
    best: list[int] = []
    for start in sorted(component)[:64]:
        came: dict[int, int] = {start: -1}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            if start in successors[node]:
                path = []
                while node >= 0:
                    path.append(node)
                    node = came[node]
                if not best or len(path) < len(best):
                    best = path[::-1]
                break
            for other in successors[node]:
                if other in members and other not in came:
                    came[other] = node
                    queue.append(other)
    return best

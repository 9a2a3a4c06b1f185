"""What clients and readers saw during a run: plain values, judged afterwards by checkers.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.sim.history import Digest


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A node told a client that this request is done. request: found in the commit it made."""

    request: bytes
    node: str
    at_s: float
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The whole content of one read view."""

    node: str
    opening: int  # another one when the database was opened again (a restart, a rewind, a seed)
    at_s: float
    epoch: int
    seq: int
    chain: int
    digest: Digest
    collections: tuple[tuple[str, int], ...]
    final: bool = False


@dataclass(frozen=True, slots=True)
class Got:
    """One look-up by id at a known chain; document None: not there."""

    node: str
    chain: int
    collection: str
    key: bytes
    document: bytes | None


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to {n: {$gte: low, $lt: high}} at a known chain: the documents, sorted."""

    node: str
    chain: int
    collection: str
    low: int
    high: int
    documents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Transacted:
    """One transaction. chain: what was visible when it began; outcome: committed, aborted (nothing may be there), or unknown.

    reads: (collection, key, document) before it wrote that key itself; writes: (collection, key)."""

    request: bytes
    node: str
    at_s: float
    chain: int
    reads: tuple[tuple[str, bytes, bytes | None], ...]
    writes: tuple[tuple[str, bytes], ...]
    outcome: str


@dataclass(frozen=True, slots=True)
class Hashed:
    """A state hash that a node gave for one state. how: mark, view or checkpoint."""

    node: str
    how: str
    seq: int
    chain: int
    state_hash: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """A node became primary by order. chain: of what it had then; reached: other nodes it or the operator had asked."""

    node: str
    at_s: float
    epoch: int
    chain: int
    safe: bool  # enough standbys were reached that every acknowledged commit was among them


@dataclass(slots=True)
class Observations:
    """Everything of one run, in the order it was seen."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    hashed: list[Hashed] = field(default_factory=list)
    promotions: list[Promotion] = field(default_factory=list)
    twins: list[Promotion] = field(default_factory=list)  # nodes that an old role.json made primaries, beside another one of that epoch
    alarms: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)  # of storage.check
    transacted: list[Transacted] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)  # damage that the engine has told of
    found: list[Found] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)  # exceptions that ended a living process
    contradicted: dict[int, float] = field(default_factory=dict)  # epochs that two nodes may lead by an operator's mistake, since when
    rivals: list[str] = field(default_factory=list)  # two nodes that took writes in one epoch at one moment
    _opened: list[object] = field(default_factory=list)

    def opening_of(self, database: object) -> int:
        """A number for each opened database object, so that a reopened one is told from its forerunner."""
        for number, known in enumerate(self._opened):
            if known is database:
                return number
        self._opened.append(database)
        return len(self._opened) - 1

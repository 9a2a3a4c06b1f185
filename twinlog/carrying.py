"""What to do with an exchange until it is finished: which node, again or give up, how long to wait. Pure.

`carry` is a generator of steps. The transport takes each step (an Attempt at one node, or a Pause), and sends back what
became of it: None when the connection did its part, or the ConnectionFailure that ended it. So the blocking and the trio
transport move bytes and decide nothing.

Bounds (INV-8): after a failure a call goes on for retry_s, in at most ATTEMPTS_MAX attempts, unless something was answered
meanwhile; between rounds over the nodes it waits PAUSE_FIRST_S doubling up to PAUSE_MOST_S, each shortened by up to half at random so that many
clients do not come back in step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from node.wire import Failure, Reply

from .errors import (
    AutoReconnect,
    ConnectionFailure,
    NetworkTimeout,
    Overloaded,
    ServerSelectionTimeoutError,
    TwinlogError,
    WaitQueueTimeoutError,
    from_failure,
)
from .exchange import Exchange, Kind
from .nodes import PRIMARY, Nodes
from .url import ReadFrom

ATTEMPTS_MAX = 200
PAUSE_FIRST_S = 0.05
PAUSE_MOST_S = 2.0
RETRY_AFTER_MOST_S = 5.0  # of what a node that refuses for now may ask for


@dataclass(frozen=True, slots=True)
class Attempt:
    """Put the exchange on a connection to the node, until it is paused or the connection ends."""

    node: str


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


class Refused(ConnectionFailure):
    """Internal to the transports: the node will not have this client (key, version, login). Never retried."""

    def __init__(self, cause: TwinlogError) -> None:
        super().__init__(cause.message, cause.code, cause.details)
        self.cause = cause


Step = Attempt | Pause
Outcome = ConnectionFailure | None


class Patience:
    """How much longer a call goes on trying. jitter() gives a byte of entropy, 0 to 255."""

    def __init__(self, retry_s: float, clock: Callable[[], float], jitter: Callable[[], int]) -> None:
        self._retry_s = retry_s
        self._clock = clock
        self._jitter = jitter
        self._until: float | None = None
        self._next_s = PAUSE_FIRST_S
        self._attempts = 0

    def renew(self) -> None:
        """Something was answered: a failure after it is a new one."""
        self._until = None
        self._next_s = PAUSE_FIRST_S
        self._attempts = 0

    def failed(self) -> None:
        """Count a failed attempt; the first one starts the time."""
        self._attempts += 1
        if self._until is None:
            self._until = self._clock() + self._retry_s

    def pause(self, at_least_s: float) -> Pause | None:
        """How long to wait before the next round, or None when the patience is used up."""
        assert self._until is not None, "a pause follows a failure"
        left = self._until - self._clock()
        if left <= 0 or self._attempts >= ATTEMPTS_MAX:
            return None
        share = self._jitter() / 512
        seconds = self._next_s * (1 - share)
        self._next_s = min(self._next_s * 2, PAUSE_MOST_S)
        return Pause(min(max(seconds, at_least_s * (1 + share)), left))  # those refused together do not come back together


@dataclass(frozen=True, slots=True)
class Made:
    """An attempt that was made before the carrying began: the node, and what became of it."""

    node: str
    outcome: Outcome


def carry(
    exchange: Exchange, nodes: Nodes, patience: Patience, made: Made | None = None
) -> Generator[Step, Outcome, None]:
    """The steps until exchange.finished. Raises the TwinlogError that the caller should see."""
    tried: set[str] = set()
    last: TwinlogError | None = None
    at_least_s = 0.0
    while not exchange.finished:
        node = nodes.choose(exchange, tried) if made is None else made.node
        if node is None:
            if last is None:
                last = _no_candidate(exchange, nodes)
                patience.failed()
            pause = patience.pause(at_least_s)
            if pause is None:
                raise last
            yield pause
            tried.clear()
            at_least_s = 0.0
            continue
        answered = len(exchange.answers)
        tried.add(node)
        if made is None:
            outcome = yield Attempt(node)
        else:
            outcome, made = made.outcome, None
        if len(exchange.answers) > answered:
            patience.renew()
            tried.clear()
        if outcome is None:
            refusal = exchange.take_refusal()
            if refusal is None:
                if exchange.finished and exchange.proves_primary and nodes.primary != node and isinstance(exchange.answers[-1], Reply):
                    nodes.learn_role(node, PRIMARY)
                continue  # finished, or the node turned out not to fit
            last = _learn(nodes, node, refusal)
            if exchange.kind is Kind.COURTESY or (exchange.kind is Kind.INSIDE and refusal.name != "Overloaded"):
                raise last  # no other node has the transaction
            at_least_s = max(at_least_s, _asked_pause_s(refusal.fields))
        else:
            last = _after_loss(exchange, nodes, node, outcome)
            at_least_s = max(at_least_s, _asked_pause_s(outcome.details.get("fields", {})))  # of one more connection
        patience.failed()


def _learn(nodes: Nodes, node: str, refusal: Failure) -> TwinlogError:
    """Take in why a node refused; what to raise if no other node does better."""
    if refusal.name == "NotPrimary":
        nodes.learn_refusal(node, refusal.fields)
    elif refusal.name in ("ReadOnly", "ShuttingDown"):
        nodes.lost(node)
    return from_failure(refusal.name, refusal.code, refusal.message, refusal.fields)


def _after_loss(exchange: Exchange, nodes: Nodes, node: str, failure: ConnectionFailure) -> TwinlogError:
    """Take in that a connection was lost. Raises when the call must not go on."""
    if isinstance(failure, Refused):
        raise failure.cause from failure
    if isinstance(failure, WaitQueueTimeoutError):
        raise failure
    nodes.lost(node)
    arrived = exchange.unanswered
    exchange.restart()
    named = _named(node, failure)
    if exchange.kind in (Kind.INSIDE, Kind.COURTESY) or (arrived and isinstance(failure, NetworkTimeout)):
        raise named from failure
    if arrived and exchange.kind in (Kind.ONCE, Kind.HERE):
        raise AutoReconnect(
            f"{node}: the connection was lost before the answer came ({failure.message}): whether the operation "
            "was done is unknown; look before you repeat it"
        ) from failure
    return named


def _named(node: str, failure: ConnectionFailure) -> TwinlogError:
    """The failure with its node, as the class that the caller should see."""
    if failure.details.get("name") == "Overloaded":  # refused while opening: that the node answered is worth more than the loss
        full = Overloaded(f"{node}: {failure.message}", failure.code, failure.details)
        full.__cause__ = failure
        return full
    kind = NetworkTimeout if isinstance(failure, NetworkTimeout) else AutoReconnect
    named = kind(f"{node}: {failure.message}", failure.code, failure.details)
    named.__cause__ = failure
    return named


def _no_candidate(exchange: Exchange, nodes: Nodes) -> TwinlogError:
    kind = "standby" if exchange.read_from is ReadFrom.STANDBY else "node"
    return ServerSelectionTimeoutError(
        f"no {kind} among {', '.join(nodes.addresses)}: name a {kind} in the URL, or read from another kind of node (a delayed standby is asked only "
        "when the URL names nothing else)"
    )


def _asked_pause_s(fields: Mapping[str, Any]) -> float:
    asked = fields.get("retry_after_ms", 0)
    return min(asked / 1000, RETRY_AFTER_MOST_S) if isinstance(asked, (int, float)) and asked > 0 else 0.0

"""Who goes on when requests and answers on all connections near their bound, and who is cut. Pure: time comes in as numbers.

    level    from         down again at   read and begun for
    FREE                                  every connection, within its own bounds
    PRESSED  3/4 of max   1/2 of max      connections that hold little: who takes its answers is served
    FULL     max          3/4 of max      connections that hold nothing and have taken answers before, up to 5/4 of max

From PRESSED on, connections that hold something and have moved nothing for STALLED_S are cut, those that hold most first, until
the total is at ease: what they hold is what everybody else waits for. A node that stays FULL for FULL_S_MAX although all of
them move a little cuts the largest whatever it does. Without pressure a slow client has slow_client_timeout_s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from .config import Limits

FREE, PRESSED, FULL = 0, 1, 2
PRESSED_FROM, PRESSED_UNTIL = 0.75, 0.5
CUT_DOWN_TO = 0.25
JAMMED_FROM = 1.25
LITTLE_BYTES = 65_536
OPENING_BYTES_MAX = 64  # of what every client takes before it asks for anything
STALLED_S = 1.0
FULL_S_MAX = 5.0
RELIEF_S = 0.1  # between two looks under pressure


class Talk(Protocol):
    """What is asked of a connection's conversation."""

    opened: bool
    in_flight: int


class Held(Protocol):
    """What is asked of a connection. out: what a send left over."""

    conversation: Talk
    out: memoryview | None
    accounted: int
    accepted_at: float
    received_at: float
    sent_at: float
    lingers_until: float | None


H = TypeVar("H", bound=Held)


class Pressure:
    """The level, by how much is held in all."""

    def __init__(self, bytes_max: int) -> None:
        self.level = FREE
        self._bytes_max = bytes_max
        self._full_since = 0.0
        self._share = 0.0

    @property
    def is_full(self) -> bool:
        return self.level == FULL

    @property
    def goal(self) -> int:
        """Bytes that may be held once those that are to be cut are gone."""
        return int(self._bytes_max * CUT_DOWN_TO)

    def full_for(self, now: float) -> float:
        return now - self._full_since if self.level == FULL else 0.0

    def measure(self, held: int, now: float) -> bool:
        """Whether the level changed."""
        share, was = held / self._bytes_max, self.level
        self._share = share
        if share > 1.0:
            if was != FULL:
                self._full_since = now
            self.level = FULL
        elif share > PRESSED_FROM:  # FULL stays FULL
            self.level = max(was, PRESSED)
        elif share > PRESSED_UNTIL:
            self.level = min(was, PRESSED)
        else:
            self.level = FREE
        return self.level != was

    def allows(self, held: int, taken: int) -> bool:
        """Whether a connection that holds so much, and has taken so much in all, is read from and its requests are begun."""
        if self.level == FREE:
            return True
        if self.level == PRESSED:
            return held < LITTLE_BYTES
        return not held and taken > OPENING_BYTES_MAX and self._share < JAMMED_FROM


def overdue(connection: Held, limits: Limits, now: float) -> str | None:
    """The bound of time that this connection is over, by its setting's name."""
    conversation = connection.conversation
    if connection.lingers_until is not None:
        return "linger" if now > connection.lingers_until else None
    if not conversation.opened:
        return "handshake_timeout_s" if now - connection.accepted_at > limits.handshake_timeout_s else None
    if connection.out is not None:
        return "slow_client_timeout_s" if now - connection.sent_at > limits.slow_client_timeout_s else None
    if not conversation.in_flight and now - connection.received_at > limits.idle_timeout_s:
        return "idle_timeout_s"
    return None


def to_cut(connections: Iterable[H], pressure: Pressure, held: int, now: float) -> list[H]:
    """The connections to cut now, those that hold most first; empty when they hold nothing to speak of."""
    is_stuck = pressure.full_for(now) > FULL_S_MAX
    rows = [c for c in connections if c.accounted and (is_stuck or _is_stalled(c, now))]
    rows.sort(key=lambda connection: connection.accounted, reverse=True)
    cut: list[H] = []
    for connection in rows:
        if held <= pressure.goal:
            break
        held -= connection.accounted
        cut.append(connection)
    return cut


def _is_stalled(connection: Held, now: float) -> bool:
    """It takes no answers, or its request came in part and the rest does not come, or may not, until something goes."""
    if connection.out is not None:
        return now - connection.sent_at > STALLED_S
    return not connection.conversation.in_flight and now - connection.received_at > STALLED_S

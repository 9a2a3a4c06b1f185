"""What replication asks of a link between two nodes, and every bound on one. Pure; knows no socket and no key.

A MessageLink carries whole messages both ways, in order, each authenticated. Who makes it (TCP and Noise in production,
memory in the simulator) is not known here: `Dial` is handed in, and accepted links come to `Member.serve_link`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

MESSAGE_BYTES_MAX = 17 * 2**20
FRAMES_BYTES_MAX = 2**20 - 2**10  # of log in one message, which with its head then fills one packet of the wire
PACE_S = 0.002  # a standby that is up to date and that no write waits for is sent to so often at most
PACE_DELAYED_S = 0.02  # a delayed standby, for which nothing is urgent
WINDOW_BYTES = 16 * 2**20  # shipped to one standby and not yet durable there, over all databases
OUTBOX_MESSAGES_MAX = 4_096  # control messages waiting on one link
CHORES_MAX = 256  # slow steps (create, rewind, seed) waiting on one link
SILENCE_HEARTBEATS = 10  # a peer that says nothing for so many heartbeats is gone
DIAL_TIMEOUT_S = 10.0
BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 5.0


class MessageLink(Protocol):
    """One secured connection. One task sends, one receives, any may close.

    A broken connection raises trio.BrokenResourceError, one that this end closed trio.ClosedResourceError, and a peer
    that breaks the rules of the wire PeerError.
    """

    async def send(self, message: bytes) -> None:
        """Hand over one message of at most MESSAGE_BYTES_MAX; waits while the peer does not read."""

    async def receive(self) -> bytes | None:
        """The next message, or None when the peer closed in good order."""

    async def aclose(self) -> None: ...


Dial = Callable[[str], Awaitable[MessageLink]]  # by the peer's name; raises OSError when nobody answers


def backoff_s(attempt: int, randomness: bytes) -> float:
    """How long to wait before dialling again: doubling, bounded, and spread over half of itself by one random byte."""
    whole = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(attempt, 16))
    return whole / 2 + whole / 2 * randomness[0] / 255


def keeps_new_link(*, me: str, peer: str, old_dialled_by_me: bool, new_dialled_by_me: bool) -> bool:
    """Whether a second link with a peer takes the place of the first. Both ends come to the same answer.

    A node dials only when it has no link, so a second one by the same dialler means the first is dead. When both dialled
    at once, the one dialled by the smaller name stays.
    """
    if old_dialled_by_me == new_dialled_by_me:
        return True
    return new_dialled_by_me == (me < peer)

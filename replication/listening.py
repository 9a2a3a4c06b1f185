"""What every part does with heartbeats and fences, and the part of a link that has nothing to lead or follow.

Two standbys, a frozen node, or an old primary that must step down: they tell each other role, epoch and positions, so
that a higher epoch reaches everybody (INV-4).
"""

from __future__ import annotations

from storage import PeerError

from .messages import Fence, Follow, Heartbeat, Message, RecordFound, RecordWanted
from .peers import Peer
from .replica import Replica


async def take_common(replica: Replica, peer: Peer, message: Message) -> bool:
    """Heartbeats, fences, and questions for records, on any link. Returns whether the message was one of them."""
    match message:
        case Heartbeat():
            replica.hear_positions(peer, message)
            await replica.hear_pause(peer, message.pause)
            await replica.hear(peer, message.role, message.epoch)
            return True
        case Fence():
            await replica.hear(peer, peer.role.value, message.epoch)
            return True
        case RecordWanted() | RecordFound():
            replica.repairs.take(peer, message)
            return True
    return False


class Listening:
    """The idle part: takes heartbeats, sends only heartbeats."""

    def __init__(self, replica: Replica, peer: Peer) -> None:
        self._replica = replica
        self._peer = peer

    async def run(self) -> None:
        return

    async def next_messages(self) -> list[Message]:
        return []

    def on_beat(self) -> None:
        return

    async def on_message(self, message: Message) -> None:
        if await take_common(self._replica, self._peer, message):
            return
        if isinstance(message, Follow):
            return  # the peer has not yet heard that this node leads nobody; it will within a heartbeat
        raise PeerError(f"{self._peer.name} sent {type(message).__name__} on a link that carries no log")

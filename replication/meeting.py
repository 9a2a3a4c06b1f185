"""How this node meets its peers: dialling, Hellos, which of two links stays, and which part this end plays.

Every node dials every peer it has no link with, so that a returning old primary hears of the higher epoch (INV-4). An
error on a link ends that link only, and is logged with its cause; dialling again backs off, bounded and spread.
"""

from __future__ import annotations

import trio

from storage import PeerError, TwinlogError

from .alarms import AlarmKind
from .conversation import Conversation, Part
from .following import Following
from .leading import Leading
from .links import DIAL_TIMEOUT_S, Dial, MessageLink, backoff_s, keeps_new_link
from .listening import Listening
from .messages import PROTOCOL, Fence, Hello
from .peers import Peer
from .replica import Replica, log
from .roles import Link, Role, on_link
from .switchover import is_declined, is_offered

STEADY_S = 1.0  # a link that held so long is dialled again without a pause
LINK_ERRORS = (TwinlogError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Meetings:
    """All links of one node. Invariant: at most one conversation per peer is past its Hello, and at most one follows."""

    def __init__(self, replica: Replica, dial: Dial) -> None:
        self._replica = replica
        self._config = replica.config
        self._dial = dial

    async def dial_forever(self, peer: Peer) -> None:
        attempt = 0
        while True:
            began = trio.current_time()
            met = await self._meet(peer)
            if met:
                attempt = 0
            held = met and trio.current_time() - began >= STEADY_S
            if held and self._config.name < peer.name:
                continue  # it ended for a reason, such as a promotion: the peer may well be there; the other end waits, lest both dial at once
            with trio.move_on_after(backoff_s(attempt, self._replica.seams.random_bytes(1))):
                await self._until(peer, has_link=True)
            attempt += 1

    async def _meet(self, peer: Peer) -> bool:
        """The link that is there, or else one that is dialled, until it has ended; False when there was none."""
        if peer.conversation is not None:
            await self._until(peer, has_link=False)
            return True
        link = await self._try_dial(peer)
        return link is not None and await self.converse(link, peer)

    async def _until(self, peer: Peer, *, has_link: bool) -> None:
        while (peer.conversation is not None) is not has_link:
            await self._replica.changes.wait_past(self._replica.changes.value)

    async def _try_dial(self, peer: Peer) -> MessageLink | None:
        try:
            with trio.move_on_after(DIAL_TIMEOUT_S):
                return await self._dial(peer.name)
            peer.last_error = f"no answer within {DIAL_TIMEOUT_S:g} s"
        except LINK_ERRORS as error:
            peer.last_error = f"{type(error).__name__}: {error}"
        return None

    async def converse(self, link: MessageLink, expected: Peer | None) -> bool:
        """One link from Hello to its end; True when it got past the Hellos. Its errors end here."""
        replica = self._replica
        peers: list[Peer] = []  # the peer, once its Hello was accepted

        def heard(_message: object) -> None:
            peers[0].heard_at = trio.current_time()

        conversation = Conversation(
            link,
            dialled=expected is not None,
            heartbeat_s=self._config.heartbeat_s,
            make_heartbeat=replica.heartbeat,
            heard=heard,
        )
        replica.conversations.add(conversation)
        try:
            with conversation.scope:
                sent = replica.hello()
                received = await conversation.exchange(sent)
                peers.append(self._check_hello(received, expected))
                conversation.peer = peers[0].name
                await self._talk(conversation, peers[0], sent, received)
        except* LINK_ERRORS as group:
            cause = _first_cause(group)
            who = peers[0] if peers else expected
            if who is not None:
                who.last_error = f"{type(cause).__name__}: {cause}"
            log.warning("link with %s ended: %s: %s", who.name if who else "a peer", type(cause).__name__, cause)
        finally:
            replica.conversations.discard(conversation)
            if replica.follower is conversation:
                replica.follower = None
            if peers and peers[0].conversation is conversation:
                peers[0].conversation = None
            await conversation.close()
            conversation.gone.set()
            replica.bump()
        return conversation.running

    def _check_hello(self, received: object, expected: Peer | None) -> Peer:
        """The configured peer that this Hello is from. Raises PeerError."""
        if not isinstance(received, Hello):
            raise PeerError(f"a link begins with Hello, not {type(received).__name__}")
        if received.protocol != PROTOCOL:
            raise PeerError(f"{received.node} speaks replication protocol {received.protocol}, this node {PROTOCOL}")
        if received.cluster != self._config.cluster:
            raise PeerError(f"{received.node} is of cluster {received.cluster!r}, this node of {self._config.cluster!r}")
        if received.node_id and received.node_id == self._replica.engine.node_id:
            message = f"{received.node} runs on a copy of this node's data directory: give the copy a new node id"
            self._replica.alarm(AlarmKind.COPIED_NODE, message, peer=received.node)
            raise PeerError(message)
        peer = self._replica.peers.get(received.node)
        if peer is None or (expected is not None and expected is not peer):
            raise PeerError(
                f"{received.node!r} answered, expected {expected.name if expected else sorted(self._replica.peers)}: "
                "check the nodes in both configurations"
            )
        return peer

    async def _talk(self, conversation: Conversation, peer: Peer, sent: Hello, received: Hello) -> None:
        """After the Hellos: settle roles, settle which of two links stays, then lead, follow or listen."""
        replica = self._replica
        replica.hear_states(peer, received)
        await replica.hear_pause(peer, received.pause)
        was_declined = is_declined(replica, received)
        await replica.hear(peer, received.role, received.epoch)
        old = peer.conversation
        if old is not None:
            keep = keeps_new_link(
                me=self._config.name,
                peer=peer.name,
                old_dialled_by_me=old.dialled,
                new_dialled_by_me=conversation.dialled,
            )
            if not keep:
                return
            old.cancel()
        peer.conversation = conversation
        peer.hello = received
        peer.heard_at = trio.current_time()
        replica.bump()
        if old is not None:
            await old.gone.wait()
        if was_declined:
            replica.on_declined(peer, received)
        if is_offered(replica, received):
            replica.on_offer(peer, received)
        part = await self._choose_part(conversation, peer, sent, received)
        if part is None or peer.conversation is not conversation:
            return
        if isinstance(part, Following):
            replica.follower = conversation
        replica.open_or_close_all()  # refusals name the primary's address, which may be new
        replica.repairs.peer_came()
        await conversation.run(part)

    async def _choose_part(
        self, conversation: Conversation, peer: Peer, sent: Hello, received: Hello
    ) -> Part | None:
        """By the roles as they are now; None when a Hello is no longer true."""
        replica = self._replica
        while True:
            state = replica.state
            if sent.role != state.role.value or received.epoch > state.epoch or replica.keeper.yielding:
                return None
            link = on_link(state, Role(received.role), received.epoch)
            if link is Link.FENCE:
                conversation.post(Fence(state.epoch, self._config.name))
            if link is Link.LEAD:
                return Leading(replica, conversation, peer, sent)
            if link is not Link.FOLLOW:
                return Listening(replica, peer)
            other = replica.follower
            if other is None:
                return Following(replica, conversation, peer, received)
            if not other.scope.cancel_called:
                replica.alarm(
                    AlarmKind.TWO_PRIMARIES,
                    f"{other.peer} and {peer.name} both lead epoch {state.epoch}: promote the one that shall lead",
                )
                return Listening(replica, peer)
            await other.gone.wait()


def _first_cause(group: BaseExceptionGroup) -> BaseException:
    cause: BaseException = group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause

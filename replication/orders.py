"""An operator's orders to one node besides promotion and switchover: fence, unfence, rejoin, pause, resume.

    fence      primary: writes are refused, standbys that stream get what they lack (FENCE_DRAIN_S at most), then role.json says fenced
    rejoin     a fenced, frozen or stopped node becomes a standby of the primary that it hears; its copies are compared anew, or replaced

Each changes the node on which it is given, except the pause, which this node passes on. Automation that asks for a change of role
while the cluster is paused is refused here by name.
"""

from __future__ import annotations

from typing import Any

import trio

from storage import BadRequest, PromotionRefused

from .alarms import AlarmKind
from .pausing import newer
from .peers import Peer
from .replica import Replica, log
from .roles import WHY_CHARS_MAX, Role, RoleState

FENCE_DRAIN_S = 2.0
FENCE_HEARD_S = 2.0  # at most, for the links of the old role to end
REJOIN_HEAR_S = 10.0  # at most, for a link that is being dialled anew
SPREAD_S = 3.0  # at most, for connected peers to confirm a word on the pause
POLL_S = 0.002

STOPPED_COPY = (
    AlarmKind.CHAIN_DIFFERS,
    AlarmKind.HASH_DIFFERS,
    AlarmKind.REFUSED_COPY,
    AlarmKind.STANDBY_FAILED,
    AlarmKind.UNKNOWN_TO_PRIMARY,
)


def check_automation(replica: Replica, what: str, *, automatic: bool) -> None:
    """Raises PromotionRefused for an automatic change of role while the cluster is paused."""
    word = replica.pauses.word
    if automatic and word.paused:
        reason = f" ({word.why})" if word.why else ""
        raise PromotionRefused(
            f"no automatic {what}: the cluster is paused{reason}; `twinlog cluster resume` ends that, an operator's own order works meanwhile",
            behind=0,
            paused=True,
        )


def check_reason(why: str) -> None:
    if len(why) > WHY_CHARS_MAX:
        raise BadRequest(f"the reason has {len(why)} characters, the limit is {WHY_CHARS_MAX}")


async def fence(replica: Replica, why: str) -> dict[str, int]:
    """Returns how many commits each standby is known to lack. Raises OSError when the role cannot be written: nothing has changed then."""
    check_reason(why)
    ending = list(replica.conversations)
    if not replica.leads:
        await replica.keeper.fence(why)
        return {}
    replica.fencing = why or "an operator ordered it"
    replica.open_or_close_all()
    try:
        with trio.move_on_after(FENCE_DRAIN_S):
            for database in list(replica.engine.databases.values()):
                await database.make_durable()
            while replica.leads and any(  # noqa: ASYNC110 - an acknowledgement wakes nobody but the writes that wait for it
                _lacks(replica, peer) for peer in replica.peers.values() if _streams_all(replica, peer)
            ):
                await trio.sleep(POLL_S)
        lacking = {peer.name: _lacks(replica, peer) for peer in replica.peers.values() if peer.copies}
        await replica.keeper.fence(why)
    finally:
        replica.fencing = ""
        replica.open_or_close_all()
    with trio.move_on_after(FENCE_HEARD_S):  # whoever is promoted next must not take this node for a living primary
        for conversation in ending:
            await conversation.gone.wait()
    return lacking


def _streams_all(replica: Replica, peer: Peer) -> bool:
    copies = [peer.copies.get(uuid) for uuid in (one.uuid for one in replica.engine.databases.values())]
    return peer.conversation is not None and not peer.delay_s and all(known is not None and known.streaming for known in copies)


def _lacks(replica: Replica, peer: Peer) -> int:
    return sum(max(0, one.position.seq - peer.durable(one.uuid)) for one in replica.engine.databases.values())


async def rejoin(replica: Replica, *, reseed: bool) -> RoleState:
    """Raises PromotionRefused when this node leads, or hears nobody that does within REJOIN_HEAR_S."""

    def hears_a_primary() -> bool:
        return any(
            peer.conversation is not None and peer.role is Role.PRIMARY and peer.epoch >= replica.state.epoch for peer in replica.peers.values()
        )

    def check() -> None:
        if replica.state.role is Role.PRIMARY:
            raise PromotionRefused(f"{replica.config.name} is the primary: switch over, or fence it first", behind=0)
        if not hears_a_primary():
            raise PromotionRefused(
                f"{replica.config.name} hears no primary to follow: promote a node first, or unfence this one to give it back what it was", behind=0
            )

    with trio.move_on_after(REJOIN_HEAR_S):
        while replica.state.role is not Role.PRIMARY and not hears_a_primary():
            await replica.changes.wait_past(replica.changes.value)
    state = await replica.keeper.rejoin(check)
    for database in replica.engine.databases.values():
        (replica.reseed if reseed and database.position.seq else replica.anew).add(database.uuid)
    for alarm in replica.alarms.all():
        if alarm.kind in STOPPED_COPY:
            replica.alarms.clear(alarm.kind, database=alarm.database, peer=alarm.peer)
    log.warning("%s rejoins as a standby by an operator's order%s", replica.config.name, ", its copies replaced" if reseed else "")
    replica.cut_links()
    return state


async def pause(replica: Replica, why: str) -> dict[str, Any]:
    """Refuse what automation asks for, on this node and on all that it can reach. Raises OSError when it cannot be written here."""
    check_reason(why)
    await replica.pauses.pause(why)
    log.warning("the cluster is paused by an operator%s", f": {why}" if why else "")
    return await _spread(replica)


async def resume(replica: Replica) -> dict[str, Any]:
    await replica.pauses.resume()
    log.warning("the cluster is resumed by an operator")
    return await _spread(replica)


async def _spread(replica: Replica) -> dict[str, Any]:
    """Until every connected peer has told the same word, or a newer one: who has, and who will learn it when it comes back."""
    word = replica.pauses.word

    def has(peer: Peer) -> bool:
        return newer(word, peer.pause) == peer.pause

    with trio.move_on_after(SPREAD_S):
        while any(peer.conversation is not None and not has(peer) for peer in replica.peers.values()):
            await replica.changes.wait_past(replica.changes.value)
    reached = sorted(peer.name for peer in replica.peers.values() if has(peer))
    return {"paused": word.shown(), "reached": reached, "missing": sorted(set(replica.peers) - set(reached))}

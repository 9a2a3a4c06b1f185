"""From what a node knows of itself and its peers to the facts of phases.py. Reads the replica, changes nothing.

What has failed is named by database: a disk that failed, a database that is damaged or could not be opened, a reign that cannot begin, a
copy whose following was given up with an alarm. A full disk is none of them: it passes by itself.
"""

from __future__ import annotations

from typing import Any

import trio

from .alarms import AlarmKind
from .lag import Lag
from .peers import Peer
from .phases import FENCED, Copies, Facts, Phase, is_close, phase_of, worst
from .replica import Replica
from .roles import Role
from .standby_session import Phase as CopyPhase

GIVEN_UP = (
    AlarmKind.REFUSED_COPY,
    AlarmKind.CHAIN_DIFFERS,
    AlarmKind.HASH_DIFFERS,
    AlarmKind.STANDBY_FAILED,
    AlarmKind.UNKNOWN_TO_PRIMARY,
)
PASSES = "DiskFull"  # how a standby begins its reason when it stopped for want of space


def own_phase(replica: Replica) -> Phase:
    """What this node is doing."""
    role = replica.state.role
    return phase_of(
        Facts(
            role=role,
            fenced=role.value == FENCED,
            failed=bool(failures(replica)),
            switching=_is_switching(replica),
            copies=_own_copies(replica) if role is Role.STANDBY else Copies.CLOSE,
        )
    )


def peer_phase(replica: Replica, peer: Peer) -> Phase | None:
    """What another node is doing, as this one knows it; None where it cannot know: no link, or neither end leads the other."""
    if peer.conversation is None or peer.hello is None:
        return None
    if peer.role is Role.STANDBY and not replica.leads:
        return None
    return phase_of(
        Facts(
            role=peer.role,
            fenced=peer.role.value == FENCED,
            failed=replica.leads and any(_copy_failed(replica, peer, database) for database in _databases(replica)),
            switching=replica.switching_to == peer.name,
            copies=worst(_peer_copy(replica, peer, database) for database in _databases(replica)),
        )
    )


def failures(replica: Replica) -> dict[str, str]:
    """What has failed here, by database: why, for people."""
    found = {name: f"it could not be opened: {why}" for name, why in replica.engine.unopened.items()}
    here = _databases(replica)
    for database in here:
        if why := _why_failed(replica, database):
            found[database.name] = why
    if replica.state.role is Role.STANDBY:
        names = {database.name for database in here}
        for alarm in replica.alarms.all():
            if alarm.kind is AlarmKind.STANDBY_FAILED and alarm.database not in names and not alarm.passes:
                found.setdefault(alarm.database, alarm.message)
    return found


def lag_behind_primary(replica: Replica, database: Any) -> tuple[float, Lag] | None:
    """This standby's lag behind the last heard position of its primary, after how many seconds; None while none was heard."""
    now = trio.current_time()
    for peer in replica.peers.values():
        meter = peer.meters.get(database.uuid)
        if peer.role is Role.PRIMARY and peer.epoch == replica.state.epoch and meter is not None:
            return now - peer.heard_at, meter.of(database.visible.seq, now)
    return None


def lag_of_standby(replica: Replica, peer: Peer, database: Any) -> Lag:
    """How far one standby's durable end is behind this primary's."""
    now, meter = trio.current_time(), replica.own_meter(database.uuid)
    meter.observe(database.visible.seq, database.log_bytes, now)
    return meter.of(peer.durable(database.uuid), now)


def _databases(replica: Replica) -> list[Any]:
    return list(replica.engine.databases.values())


def _is_switching(replica: Replica) -> bool:
    """An office that is handed over, offered and not taken up, laid down this moment, or not taken in every database yet."""
    state = replica.state
    if replica.switching_to or state.hands_over_to or replica.keeper.yielding:
        return True
    has_begun = replica.ready | replica.founded
    return replica.leads and any(database.uuid not in has_begun for database in _databases(replica))


def _why_failed(replica: Replica, database: Any) -> str:
    disk = database.disk_state
    if disk["state"] == "failed":
        return str(disk["why"])
    if database.damaged:
        return str(database.refusal)
    if _works(replica, database):
        return ""
    kinds = (AlarmKind.NO_REIGN,) if replica.leads else GIVEN_UP if replica.state.role is Role.STANDBY else ()
    told = [alarm for alarm in replica.alarms.all() if alarm.kind in kinds and alarm.database == database.name and not alarm.passes]
    return f"{told[0].kind.value}: {told[0].message}" if told else ""


def _works(replica: Replica, database: Any) -> bool:
    """Whether the database does what the node's role asks of it, so that an older alarm says nothing about now."""
    return database.uuid in replica.ready if replica.leads else replica.streams(database.uuid)


def _own_copies(replica: Replica) -> Copies:
    session = replica.session
    if session is None:
        return Copies.NO_PRIMARY
    found = []
    for database in _databases(replica):
        phase = session.phase(database.uuid)
        if phase in (CopyPhase.SEED_ORDERED, CopyPhase.SEEDING):
            found.append(Copies.SEEDING)
            continue
        lag = lag_behind_primary(replica, database)
        close = phase is CopyPhase.STREAMING and is_close(lag[1] if lag else None, delay_s=replica.config.delay_s)
        found.append(Copies.CLOSE if close else Copies.BEHIND)
    here = {database.uuid for database in _databases(replica)}
    for peer in replica.peers.values():
        if peer.role is Role.PRIMARY and peer.epoch == replica.state.epoch and not here.issuperset(peer.positions):
            found.append(Copies.BEHIND)  # the primary has one that is not here yet
    return worst(found)


def _peer_copy(replica: Replica, peer: Peer, database: Any) -> Copies:
    known = peer.copies.get(database.uuid)
    if known is None:
        return Copies.BEHIND
    if known.seed_bytes_left:
        return Copies.SEEDING
    close = known.streaming and known.durable_seq is not None and is_close(lag_of_standby(replica, peer, database), delay_s=peer.delay_s)
    return Copies.CLOSE if close else Copies.BEHIND


def _copy_failed(replica: Replica, peer: Peer, database: Any) -> bool:
    """Whether a standby's copy is not followed for a reason that does not pass: it said so, or this primary refused it."""
    known = peer.copies.get(database.uuid)
    if known is not None and known.streaming:
        return False
    if known is not None and known.stopped and not known.stopped.startswith(PASSES):
        return True
    return any(replica.alarms.has(kind, database=database.name, peer=peer.name) for kind in GIVEN_UP)

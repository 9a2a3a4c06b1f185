"""Standbys that the log has outrun: those that are away, or too slow, or delayed, for longer than log_keep_mb reaches.

The log is kept for every known standby up to a bound (storage/sealing.py), so that none of them, however long it is away, fills this
node's disk (INV-8). At the bound the oldest log goes, and whoever lacked it is seeded when it asks again; until then an alarm names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from .alarms import AlarmKind
from .peers import Peer

if TYPE_CHECKING:
    from .replica import Replica


def watch_outrun(replica: Replica) -> None:
    """Once a heartbeat, on the primary: an alarm for each standby that lacks log which is gone, for as long as it lacks it."""
    for database in list(replica.engine.databases.values()):
        for peer in replica.peers.values():
            about = {"database": database.name, "peer": peer.name}
            known = peer.copies.get(database.uuid)
            if database.outrun_seq > peer.durable(database.uuid) and not (known and known.streaming):
                replica.alarm(AlarmKind.LOG_OUTRUN, _words(replica, peer, database), **about)
            else:
                replica.alarms.clear(AlarmKind.LOG_OUTRUN, **about)


def forget_outrun(replica: Replica) -> None:
    """This node leads no more: what its standbys lack is for the next primary to say."""
    for alarm in replica.alarms.all():
        if alarm.kind is AlarmKind.LOG_OUTRUN:
            replica.alarms.clear(alarm.kind, database=alarm.database, peer=alarm.peer)


def _words(replica: Replica, peer: Peer, database: Any) -> str:
    durable = peer.durable(database.uuid)
    lag = replica.own_meter(database.uuid).of(durable, trio.current_time())
    has = f"has it up to commit {durable} and lacks {lag.commits} commits ({lag.bytes} bytes at least)"
    if not durable:
        has = "was not heard since this node leads, or has nothing"
    why = f" within its delay of {peer.delay_s} s" if peer.delay_s else ""
    return (
        f"standby {peer.name} {has}; the log up to commit {database.outrun_seq} is gone, because no more than log_keep_mb is kept for "
        f"standbys. It will be seeded when it asks: raise log_keep_mb above what is written while it is behind{why}"
    )

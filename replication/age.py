"""How old the state is that this node shows, held against the delay it was given. Changes nothing but an alarm.

A delayed standby takes in no commit before it is delay_s old (delaying.py). What it shows is younger only after it was seeded, or when
its delay was made longer or its clock set back; it then waits until it is old enough, and an alarm says so meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .alarms import AlarmKind
from .delaying import shown_too_early_us
from .roles import Role

if TYPE_CHECKING:
    from .replica import Replica


def watch_age(replica: Replica) -> None:
    """Once a heartbeat: the alarm delay-short of each database of a delayed standby."""
    config = replica.config
    if not config.delay_s:
        return
    for database in list(replica.engine.databases.values()):
        early_us = 0
        if replica.state.role is Role.STANDBY and database.position.seq:
            early_us = shown_too_early_us(
                delay_us=config.delay_s * 1_000_000, newest_us=database.last_time_us, now_us=replica.seams.time_us()
            )
        if not early_us:
            replica.alarms.clear(AlarmKind.DELAY_SHORT, database=database.name)
            continue
        replica.alarm(
            AlarmKind.DELAY_SHORT,
            f"this copy is younger than delay_s ({config.delay_s} s) and waits {early_us / 1e6:.0f} s more for it: it was seeded (the copy "
            "before is in _salvage/; a larger log_keep_mb at the primary avoids it), or its delay was made longer, or a clock was set",
            database=database.name,
        )

"""What the nemesis may do to one machine, by name; shared by the engine alone and the cluster.

    faults   come and go; every promise holds through them
    harms    of a device that breaks its word by nature: at most one kind a run, and only in an engine alone; checkers.py says what can
             be demanded then

Knows machines and platters, no engine. All chance comes from the random.Random it is given.
"""

from __future__ import annotations

import random

from tests.sim.disk import CAPACITY_BYTES
from tests.sim.harm import flip_somewhere
from tests.sim.machine import Machine

MACHINE_FAULTS = {
    "kill": 3.0,
    "power": 3.0,
    "crash": 4.0,
    "stop": 1.0,
    "full": 0.7,
    "shrinking": 0.5,
    "failing sync": 0.3,
    "failing write": 0.2,
    "failing read": 0.2,
    "slow disk": 0.7,
    "stalled disk": 0.2,
    "clock": 0.5,
    "heal": 4.0,
}
ENGINE_FAULTS = {**MACHINE_FAULTS, "heal": 1.0}
CLUSTER_FAULTS = {
    **MACHINE_FAULTS,
    "long outage": 1.5,
    "cut": 1.5,
    "silence": 2.0,
    "slow link": 1.0,
    "reset": 1.0,
    "hasty": 0.4,
    "lose the primary": 1.5,
    "mark": 1.0,
    "reseal": 0.5,
    "switchover": 2.0,
    "fence": 0.7,
    "twins": 0.2,
    "broken rewind": 0.7,
}
ROLE_FAULTS = {
    "kill": 2.0,
    "power": 2.0,
    "crash": 2.0,
    "stop": 1.0,
    "full": 0.3,
    "failing write": 0.3,
    "slow disk": 0.5,
    "long outage": 1.0,
    "cut": 2.0,
    "silence": 2.0,
    "slow link": 1.5,
    "reset": 2.0,
    "hasty": 0.7,
    "lose the primary": 2.0,
    "switchover": 5.0,
    "fence": 2.0,
    "twins": 0.1,
    "broken rewind": 0.7,
    "heal": 5.0,
}  # of a cluster that does little else than change roles
HARMS = ("flip", "misdirect", "lie")  # a bit of a synced file turns; a write lands elsewhere; a sync keeps nothing
HARM_EVERY = 0.3  # chance of each fault to be one of them, in a run that has them

YEAR_US = 365 * 86_400 * 10**6
CLOCK_JUMPS_US = (-YEAR_US, -3_600_000_000, -5_000_000, 5_000_000, 3_600_000_000, YEAR_US, 30 * YEAR_US)


def strike(fault: str, machine: Machine, rng: random.Random, *, reserve_bytes: int) -> bool:
    """Do it. False: it is not about a machine. reserve_bytes: what an engine keeps free."""
    platter, trace = machine.platter, machine.trace
    if fault == "kill":
        machine.kill()
    elif fault == "power":
        machine.cut_power()
    elif fault == "crash":
        machine.crash_in(rng.choice([1, 3, 10, 40]))
    elif fault == "stop":
        machine.stop()
    elif fault == "full":
        platter.capacity_bytes = platter.used_bytes + rng.choice([0, 500, reserve_bytes, reserve_bytes + 3_000])
        trace.note("nemesis", "fills the disk of", machine.name)
    elif fault == "shrinking":  # somebody else's files come and go
        room = max(platter.capacity_bytes - platter.used_bytes, 0) if platter.capacity_bytes < CAPACITY_BYTES else 2 * reserve_bytes
        platter.capacity_bytes = platter.used_bytes + int(room * rng.choice([0.0, 0.3, 0.8, 1.5, 3.0]))
        trace.note("nemesis", "leaves on", machine.name, platter.capacity_bytes - platter.used_bytes)
    elif fault == "failing sync":
        platter.sync_failures = 1
        trace.note("nemesis", "fails a sync of", machine.name)
    elif fault == "failing write":
        platter.write_failures = 1
        trace.note("nemesis", "fails a write of", machine.name)
    elif fault == "failing read":
        platter.read_failures = rng.choice([1, 1, 3])
        trace.note("nemesis", "fails reads of", machine.name)
    elif fault == "slow disk":
        platter.sync_delay_s = rng.choice([0.0, 0.05, 0.3])
        trace.note("nemesis", "slows the disk of", machine.name)
    elif fault == "stalled disk":
        platter.sync_delay_s, platter.call_delay_s = rng.choice([0.5, 3.0]), rng.choice([0.0002, 0.05, 0.5])
        trace.note("nemesis", "stalls the disk of", machine.name)
    elif fault == "clock":
        machine.jump_clock(rng.choice(CLOCK_JUMPS_US))
    else:
        return False
    return True


def harm(kind: str, machine: Machine, rng: random.Random) -> None:
    """The device breaks its word."""
    platter = machine.platter
    if kind == "flip":
        flip_somewhere(machine, rng)
    elif kind == "misdirect":
        platter.misdirections = 1
        machine.trace.note("nemesis", "will misdirect a write of", machine.name)
    elif kind == "lie":
        platter.lies = rng.choice([1, 5, 50])
        machine.trace.note("nemesis", "lets syncs of", machine.name, "lie")


def heal(machine: Machine, *, sync_delay_s: float) -> None:
    platter = machine.platter
    platter.capacity_bytes = CAPACITY_BYTES
    platter.sync_failures = platter.write_failures = platter.read_failures = 0
    platter.misdirections = platter.lies = 0
    platter.sync_delay_s, platter.call_delay_s = sync_delay_s, platter.usual_call_delay_s
    if machine.disk is not None:  # an opening that syncs a hundred files of a stalled disk in one call would stall for minutes on a healthy one
        machine.disk.hasten()

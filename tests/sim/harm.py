"""Damage to what a disk holds: which file, which bit."""

from __future__ import annotations

import random

from tests.sim.machine import Machine

KINDS = ("/commit/", ".db", ".sidx", "/checkpoints/", "fields.")


def flip_somewhere(machine: Machine, rng: random.Random) -> str | None:
    """One bit of the synced part of some file turns; the kind is drawn first, so that few large files do not take all. The path."""
    files = [(path, inode) for path, inode in machine.platter.files() if inode.synced > 0]
    for kind in rng.sample(KINDS, len(KINDS)):
        chosen = [(path, inode) for path, inode in files if kind in path]
        if chosen:
            path, inode = rng.choice(chosen)
            offset = rng.randrange(inode.synced)
            machine.platter.flip_bit(path, offset, rng.randrange(8))
            machine.platter.harmed.append(path)
            machine.trace.note("nemesis", "flips a bit of", machine.name, path, offset)
            return path
    return None

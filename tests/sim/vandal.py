"""Taking away what is only a cache of the logs, between two lives of a machine (INV-5)."""

from __future__ import annotations

import random

from storage.errors import DamagedRecord
from storage.shard import checkpoint as manifests
from tests.sim.disk import ROOT, Platter, SimDisk
from tests.sim.trace import Trace


def take_caches_away(platter: Platter, rng: random.Random, trace: Trace) -> bool:
    """Whether anything was done. Delete or scribble on index segments, or take the newest checkpoint of two: the database must open all the same."""
    disk = platter.mount()
    did = False
    for name in disk.list_dir(ROOT):
        if not disk.exists(f"{name}/database.json"):
            continue
        indexes = [f"{name}/{file}" for file in disk.list_dir(name) if ".sidx" in file]
        checkpoints = [f"{name}/checkpoints/{file}" for file in disk.list_dir(f"{name}/checkpoints")]
        checkpoints = [path for path in checkpoints if path.endswith(".json")]
        fate = rng.random()
        if fate < 0.4 and len(checkpoints) > 1 and all(_is_sound(disk, name, path) for path in checkpoints):
            trace.note("vandal", "takes", checkpoints[-1])
            _damage(disk, rng, checkpoints[-1])
            did = True
        else:
            for path in indexes:
                if rng.random() < 0.7:
                    trace.note("vandal", "takes", path)
                    _damage(disk, rng, path)
                    did = True
    disk.kill()
    return did


def _is_sound(disk: SimDisk, directory: str, path: str) -> bool:
    try:
        manifests.load(disk, directory, int(path.rpartition("/")[2].removesuffix(".json")))
    except DamagedRecord:
        return False
    return True


def _damage(disk: SimDisk, rng: random.Random, path: str) -> None:
    if rng.random() < 0.5 and disk.size(path):
        disk.platter.flip_bit(path, rng.randrange(disk.size(path)), rng.randrange(8))
    else:
        disk.remove(path)
        disk.sync_dir(path.rpartition("/")[0])

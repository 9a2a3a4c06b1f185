"""Taking away what is only a cache of the logs, between two lives of a machine (INV-5)."""

from __future__ import annotations

import random

from storage.errors import DamagedRecord
from storage.shard import checkpoint as manifests
from tests.sim.disk import ROOT, Platter, SimDisk
from tests.sim.trace import Trace


class Vandal:
    """Of one machine. Deletes or scribbles on index segments, or takes the newest checkpoint.

    A checkpoint is taken only when the one before it is sound and none was taken since that one was the newest: the engine
    promises to open without the newest, not without the newest two.
    """

    def __init__(self, rng: random.Random, trace: Trace) -> None:
        self._rng = rng
        self._trace = trace
        self._taken: dict[str, str] = {}  # database directory -> newest manifest ever taken from it
        self.acted = False

    def visit(self, platter: Platter) -> None:
        disk, read_failures = platter.mount(), platter.read_failures
        platter.read_failures = 0  # those are for the engine
        for name in disk.list_dir(ROOT):
            if disk.exists(f"{name}/database.json"):
                self._visit_database(disk, name)
        disk.kill()
        platter.read_failures = read_failures

    def _visit_database(self, disk: SimDisk, name: str) -> None:
        manifest = self._checkpoint_to_take(disk, name) if self._rng.random() < 0.4 else None
        if manifest is not None:
            self._taken[name] = manifest
            self._damage(disk, manifest)
            return
        for file in disk.list_dir(name):
            if ".sidx" in file and self._rng.random() < 0.7:
                self._damage(disk, f"{name}/{file}")

    def _checkpoint_to_take(self, disk: SimDisk, name: str) -> str | None:
        seqs = manifests.list_seqs(disk, name)
        if len(seqs) < 2 or not all(_is_sound(disk, name, seq) for seq in seqs):
            return None
        newest, before = (f"{name}/checkpoints/{seq:020d}.json" for seq in (seqs[-1], seqs[-2]))
        return newest if before > self._taken.get(name, "") else None

    def _damage(self, disk: SimDisk, path: str) -> None:
        rng = self._rng
        self.acted = True
        self._trace.note("vandal", "takes", path)
        if rng.random() < 0.5 and disk.size(path):
            disk.platter.flip_bit(path, rng.randrange(disk.size(path)), rng.randrange(8))
        else:
            disk.remove(path)
            disk.sync_dir(path.rpartition("/")[0])


def _is_sound(disk: SimDisk, directory: str, seq: int) -> bool:
    try:
        manifests.load(disk, directory, seq)
    except DamagedRecord:
        return False
    return True

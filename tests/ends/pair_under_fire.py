"""A real pair, a writer that never stops, and a hand that kills nodes with SIGKILL.

The writer imports numbered documents through the client and remembers every number that was acknowledged. A batch whose
outcome it does not know is sent again under new requests: a duplicate key then says that the first try had been kept.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from pathlib import Path

import twinlog
from ops import pair
from twinlog.errors import BulkWriteError, TwinlogError

BATCH = 20
DB, COLLECTION = "drill", "numbers"


class PairUnderFire:
    """Use as a context manager; `settings` is YAML added to the pair's cluster.yaml."""

    pad = 100  # bytes beside the numbers in every document

    def __init__(self, directory: Path, settings: str = "") -> None:
        self.directory = directory
        self.acknowledged: set[int] = set()
        self.refusals: list[str] = []
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._settings = settings
        self._writer = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> PairUnderFire:
        self._opened = pair.opened(self.directory)
        self.local = self._opened.__enter__()
        pair.PORTS_USUAL, usual = (0,) * len(pair.PORTS_USUAL), pair.PORTS_USUAL
        try:
            self.local.prepare()
        finally:
            pair.PORTS_USUAL = usual
        self.local.config_file.write_text(self.local.config_file.read_text() + self._settings)
        self.start()
        self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._writer.join(60)
        self.local.stop()
        self._opened.__exit__(None, None, None)

    def connect(self, **options: object) -> twinlog.Client:
        return twinlog.connect(self.local.url(), **options)

    def start(self) -> None:
        """Start what does not run, and wait until each node answers."""
        self.local.start_missing()
        for address in self.local.addresses().values():
            self.local.wait_ready(lambda address=address: _unreachable(address))

    def kill(self, name: str) -> None:
        process = self.local.running[name]
        os.kill(process.pid, signal.SIGKILL)
        assert pair.wait_gone(process)

    def wait_for_more(self, count: int) -> None:
        """Until count more documents have been acknowledged: progress, not time, decides when to strike."""
        with self._progress:
            wanted = len(self.acknowledged) + count
            assert self._progress.wait_for(lambda: len(self.acknowledged) >= wanted, timeout=60), self.refusals[-3:]

    def finish(self) -> None:
        """Stop the writer, both nodes up."""
        self._stop.set()
        self._writer.join(60)
        assert not self._writer.is_alive()

    def _write(self) -> None:
        client = self.connect(retry_s=2.0)
        number = 0
        while not self._stop.is_set():
            numbers = list(range(number, number + BATCH))
            try:
                client[DB][COLLECTION].insert_many([{"_id": n, "n": n, "pad": "x" * self.pad} for n in numbers], ordered=False)
            except BulkWriteError as error:
                codes = {row["code"] for row in error.details["writeErrors"]}
                if codes != {11000}:
                    self.refusals.append(repr(error.details["writeErrors"][:1]))
                    continue
            except TwinlogError as error:
                self.refusals.append(f"{type(error).__name__}: {error}")
                continue
            number += BATCH
            with self._progress:
                self.acknowledged.update(numbers)
                self._progress.notify_all()
        client.close()

    def numbers_on(self, name: str) -> set[int]:
        """Every document of one node, read from it directly."""
        address = self.local.addresses()[name]
        url = f"twinlog://{address}/?key={self.local.client_key}&read=any"
        with twinlog.connect(url) as client:
            return {document["n"] for document in client[DB][COLLECTION].find({}).batch_size(5000)}

    def marks(self) -> dict[str, tuple[int, str, str]]:
        """(seq, chain, state hash) of both nodes at one MARK."""
        with self.connect() as client:
            mark = client.status(self.local.addresses()["a"], mark=True)["databases"][DB]["mark"]
        return {node: (at["seq"], at["chain"], at["hash"]) for node, at in mark["nodes"].items()}

    def wait_equal(self) -> dict[str, tuple[int, str, str]]:
        """Marks of both nodes, once the standby is connected and has caught up."""
        found: dict[str, tuple[int, str, str]] = {}

        def probe() -> str | None:
            found.clear()
            try:
                found.update(self.marks())
            except TwinlogError as error:
                return str(error)
            return None if len(found) == 2 else f"only {sorted(found)} answered"

        self.local.wait_ready(probe)
        return found


def _unreachable(address: str) -> str | None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError as error:
        return f"{address}: {error}"
    return None


def kill_loop(directory: Path, kills: int, seed: int, settings: str = "") -> PairUnderFire:
    """Kill either node `kills` times in the middle of the import, then check everything; returns the spent pair."""
    rng = random.Random(seed)
    with PairUnderFire(directory, settings) as fire:
        for _ in range(kills):
            fire.wait_for_more(rng.randint(1, 40) * BATCH)
            fire.kill(rng.choice("ab"))
            fire.start()
        fire.wait_for_more(BATCH)
        fire.finish()
        marks = fire.wait_equal()
        assert marks["a"] == marks["b"], f"seed {seed}: {marks}"
        assert marks["a"][2]
        for name in "ab":
            lost = fire.acknowledged - fire.numbers_on(name)
            assert not lost, f"seed {seed}: node {name} lost {len(lost)} acknowledged documents, {sorted(lost)[:5]} first"
        return fire

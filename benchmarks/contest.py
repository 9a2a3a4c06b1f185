"""How a question is put: the contenders of a measure take turns, round after round, so that noise meets them alike.

Knows the run's length and its directory; not what the cases ask. A contender that fails is left out with its reason.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from . import profiler
from .chosen import CHOSEN
from .generator import Dial, Load, LoadFailed, Unavailable, lines, run
from .processes import Server, ServerFailed
from .report import CaseReport, Measure, Row, Sample
from .templates import KEY_BASE

Made = TypeVar("Made", bound=Server)

LOAD_EXTRAS = ("p50_us", "p99_us", "p999_us", "max_us")


@dataclass(frozen=True)
class Contender:
    """peers: the names of the contenders that this one is set against. round: one turn, measured."""

    name: str
    round: Callable[[], Sample]
    peers: tuple[str, ...] = ()
    server: Server | None = None  # whom a profiler looks at


@dataclass(frozen=True)
class Run:
    """One run of the program."""

    short: bool
    rounds: int
    seconds: float  # of one contender's turn
    workplace: Path | None = None  # below which the temporary directories go
    documents: int | None = None  # of the cases that are about an amount, instead of their own
    bytes: int | None = None  # of compaction, rejoin and backup, instead of its own
    clients: int | None = None  # of slow, instead of its own
    cold: bool = False  # also with the page cache dropped; takes root

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A temporary one that other users may pass through (PostgreSQL's), removed at the end."""
        directory = Path(tempfile.mkdtemp(prefix="twinlog-benchmark-", dir=self.workplace))
        os.chmod(directory, 0o711)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def count(self, *, short: int, long: int) -> int:
        return short if self.short else long


def say(text: str) -> None:
    """Progress; the report goes elsewhere."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def started(case: CaseReport, *makers: Callable[[], Server]) -> Iterator[list[Server | None]]:
    """The servers, up; None and a note for each that is not on this machine. All are stopped at the end."""
    servers: list[Server | None] = []
    try:
        for make in makers:
            try:
                server = make()
                servers.append(server)
                server.start()  # type: ignore[call-arg]
            except Unavailable as error:
                case.notes.append(f"left out: {error}")
                servers.append(None)
        yield servers
    finally:
        for server in reversed(servers):
            if server is not None:
                with suppress(ServerFailed):
                    server.stop()


def ask(
    case: CaseReport, name: str, unit: str, contenders: list[Contender], rounds: int, *, higher_is_better: bool = True
) -> Measure:
    """Every contender in turn, so many rounds."""
    rows = {contender.name: Row(contender.name, contender.peers) for contender in contenders}
    measure = Measure(name, unit, list(rows.values()), higher_is_better)
    case.measures.append(measure)
    failed: set[str] = set()
    for number in range(1, rounds + 1):
        seen: list[str] = []
        for contender in contenders:
            if contender.name in failed:
                continue
            try:
                rows[contender.name].samples.append(contender.round())
                seen.append(f"{contender.name} {rows[contender.name].samples[-1].value:,.0f}")
            except (LoadFailed, ServerFailed, OSError) as error:
                failed.add(contender.name)
                seen.append(f"{contender.name} failed")
                case.notes.append(f"{name}: {contender.name} failed: {error}")
        say(f"  {name} ({unit}), round {number} of {rounds}: {', '.join(seen)}")
    profile(case, name, [contender for contender in contenders if contender.name not in failed])
    return measure


def profile(case: CaseReport, name: str, contenders: list[Contender]) -> None:
    """One more turn of each Twinlog, under the profiler when one was asked for; what it gives is not counted."""
    directory = CHOSEN.get().profile
    if directory is None:
        return
    for contender in contenders:
        if contender.server is None or contender.server.name != "Twinlog":
            continue
        target = profiler.file_for(directory, case.name, name, contender.name)
        try:
            with profiler.recording(contender.server.pid, target):
                contender.round()
        except (Unavailable, LoadFailed, ServerFailed) as error:
            case.notes.append(f"{name}: {contender.name}: {error}")
        else:
            say(f"  profile: {target}")


class Keys:
    """Ever new keys for one server: no two loads of a run insert the same one."""

    def __init__(self) -> None:
        self.next = KEY_BASE

    @property
    def count(self) -> int:
        return self.next - KEY_BASE


def load(server: Server, dial: Dial, connections: int, order: Load, keys: Keys | None = None) -> Sample:
    """One turn of the generator. keys: inserts take new ones from there. The figure counts documents."""
    if keys is not None:
        order = replace(order, first_key=keys.next)
    with lines(dial, connections) as opened:
        cpu = server.cpu_seconds()
        try:
            results = run(order, opened)
        finally:
            cpu = server.cpu_seconds() - cpu
    if keys is not None:
        keys.next += results["keys"]
    documents = order.template.documents
    extras = {name: results[name] for name in LOAD_EXTRAS}
    extras["server_us"] = cpu / max(1, results["answered"] * documents) * 1e6
    extras["generator_share"] = results["cpu"] / results["wall"]
    if order.rate:
        extras["late_us"] = results["late_us"]
    return Sample(results["per_second"] * documents, extras)

"""A server looked at while it works: memory of its processes and sizes of its files, at fixed times. Reads /proc.

Memory is PSS, the share of every page that is the process's own when it is shared, summed over the server's processes; mapped
files that are in memory are in it, so the anonymous part (what only the process could let go) stands beside it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from .processes import Server, descendants

MB = 1e6
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ROLLUP = {"Pss:": "pss_mb", "Pss_Anon:": "anonymous_mb"}

Sight = dict[str, float]


def memory(pid: int) -> Sight:
    """rss_mb, pss_mb and anonymous_mb of the process and all below it; only rss_mb where the kernel gives no more."""
    found: Sight = {"rss_mb": 0.0}
    for member in descendants(pid):
        try:
            found["rss_mb"] += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * PAGE_BYTES / MB
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(" ")
                if name in ROLLUP:
                    found[ROLLUP[name]] = found.get(ROLLUP[name], 0.0) + int(rest.split()[0]) * 1024 / MB
        except OSError:  # it ended meanwhile, or the kernel has no such file
            continue
    return found


def sizes(directory: Path, kind_of: Callable[[str], str]) -> Sight:
    """Bytes on disk (blocks, not lengths) by kind. kind_of is given each path below the directory."""
    found: Sight = {}
    for place, _, names in os.walk(directory):
        for name in names:
            path = Path(place, name)
            try:
                size = path.stat().st_blocks * 512
            except OSError:
                continue
            kind = kind_of(str(path.relative_to(directory)))
            found[kind] = found.get(kind, 0.0) + size
    return found


@dataclass
class Watch:
    """Looks every `every` seconds until the block ends. look adds what only the case knows; it may raise OSError."""

    server: Server
    every: float
    look: Callable[[], Sight]
    seen: list[Sight] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        """One look at once, one every `every` seconds, and one at the end."""
        over = False
        while True:
            sight = {"at_s": time.monotonic() - self._began, **memory(self.server.pid)}
            try:
                sight.update(self.look())
            except OSError as error:
                sight["missed"] = float(error.errno or 0)
            self.seen.append(sight)
            if over:
                return
            over = self._over.wait(self.every)

    def largest(self, name: str) -> float:
        return max((sight[name] for sight in self.seen if name in sight), default=0.0)

    def at_share(self, share: float, total: float) -> Sight:
        """The first look at which so much of the documents had passed; the last look when none."""
        return next((sight for sight in self.seen if sight.get("documents", 0) >= share * total), self.seen[-1])

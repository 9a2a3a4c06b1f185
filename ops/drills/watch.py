"""Every node's status, asked all the time by a client of its own, and what changed in it.

This is the drill's eye, as an operator's monitoring would be: a fault counts as detected when a node that can still be asked says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

import twinlog
from twinlog.errors import TwinlogError

from .records import Sighting

PACE_S = 0.05
ASK_OPTIONS = {"pool": 1, "retry_s": 0, "timeout_s": 1, "connect_timeout_s": 1, "read": "any"}
SIGHTINGS_MAX = 100_000


class Watch:
    """Knows each node's newest sighting; keeps the changes, in order. addresses: node -> (URL of this node alone, host:port)."""

    def __init__(self, addresses: Mapping[str, tuple[str, str]]) -> None:
        self._addresses = dict(addresses)
        self.changes: list[Sighting] = []
        self.newest: dict[str, Sighting] = {}
        self.full = False  # SIGHTINGS_MAX are kept, and there would be more

    async def run(self, stop: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for node, (url, address) in self._addresses.items():
                nursery.start_soon(self._look, node, url, address, stop)

    def primary(self) -> Sighting | None:
        """The node that says it is primary; of several, the one of the highest epoch."""
        leading = [sighting for sighting in self.newest.values() if sighting.role == "primary"]
        return max(leading, key=lambda sighting: sighting.epoch, default=None)

    def follows(self, node: str) -> bool:
        """Whether the primary streams everything to this node and acknowledges nothing without it."""
        primary = self.primary()
        return primary is not None and primary.node != node and node in primary.follows and not primary.degraded

    async def _look(self, node: str, url: str, address: str, stop: trio.Event) -> None:
        client: twinlog.AsyncClient | None = None
        while not stop.is_set():
            try:
                if client is None:
                    client = await twinlog.connect_async(url, **ASK_OPTIONS)
                sighting = read_sighting(node, await client.status(address), trio.current_time())
            except TwinlogError:
                if client is not None:
                    await client.close()
                    client = None
                sighting = Sighting(trio.current_time(), node, reachable=False)
            self._note(sighting)
            with trio.move_on_after(PACE_S):
                await stop.wait()
        if client is not None:
            await client.close()

    def _note(self, sighting: Sighting) -> None:
        before = self.newest.get(sighting.node)
        self.newest[sighting.node] = sighting
        if before is None or not before.same_as(sighting):
            self.full = len(self.changes) >= SIGHTINGS_MAX
            if not self.full:
                self.changes.append(sighting)


def read_sighting(node: str, status: Mapping[str, Any], at: float) -> Sighting:
    """A node's status answer as a Sighting. Who answers under another name is not this node."""
    if status["node"] != node:
        return Sighting(at, node, reachable=False)
    databases = status["databases"].values()
    rows = status["standbys"]
    return Sighting(
        at=at,
        node=node,
        reachable=True,
        role=str(status["role"]),
        epoch=int(status["epoch"]),
        links={row["name"]: bool(row["connected"]) for row in rows},
        follows=frozenset(row["name"] for row in rows if row["connected"] and (row["streaming"] or not databases)),
        degraded=any(database.get("degraded") for database in databases),
        alarms=frozenset(str(alarm["kind"]) for alarm in status["alarms"]),
    )

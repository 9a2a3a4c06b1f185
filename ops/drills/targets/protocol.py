"""What a drill needs of a cluster: nodes that it may break, and put right again.

A target makes its cluster when it is entered and takes it away when it is left. Faults and reliefs return when they have been done, not when the
cluster has noticed. `NotHere` says that this machine cannot do it, and what it would need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ops.drills.scenarios import Act, OnTimeout

# Of the clusters that drills make for themselves, so that seconds suffice to show what the settings mean.
ACK_TIMEOUT_MS = 1500
HEARTBEAT_MS = 250


class NotHere(Exception):
    """A drill cannot be done here; the message says what it needs."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the cluster shall keep its copies."""

    acks: int
    on_timeout: OnTimeout

    def as_plain(self) -> dict[str, object]:
        """As cluster.yaml has them."""
        return {"acks": self.acks, "on_ack_timeout": self.on_timeout.value, "ack_timeout_ms": ACK_TIMEOUT_MS, "heartbeat_ms": HEARTBEAT_MS}


class Target(Protocol):
    """Use as an async context manager. nodes: the first one is primary at the start."""

    name: str
    nodes: tuple[str, ...]
    settings: Settings

    async def __aenter__(self) -> Target: ...

    async def __aexit__(self, *_: object) -> None: ...

    def url(self) -> str:
        """With every node, for clients that find the primary by themselves."""
        ...

    def addresses(self) -> Mapping[str, tuple[str, str]]:
        """Node -> (URL of this node alone, its host:port)."""
        ...

    async def apply(self, act: Act, node: str, peer: str) -> str:
        """A fault or its relief at the node; peer: the other end of a link. What was done, in words."""
        ...

    async def salvaged(self, node: str) -> tuple[str, ...]:
        """Files that the node has set aside."""
        ...

    async def keep_logs(self, directory: Path) -> None:
        """What the nodes said, one file a node."""
        ...

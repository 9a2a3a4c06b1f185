"""Which node to ask next: what is known of the cluster's nodes, and the choice. Pure.

A node's role is what it said in its Hello, at every connect; a NotPrimary refusal names the primary. All of it is a hint:
the node asked decides whether it serves the request (INV-4), so a stale hint costs one more round trip, nothing else.
Several threads share one Nodes; every method leaves it whole, and the newest hint wins.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .exchange import Exchange, Kind
from .url import HOSTS_MAX, ReadFrom

PRIMARY = "primary"
STANDBY = "standby"
DELAYED = "delayed"  # a standby that stays behind on purpose


def role_in(hello: Mapping[str, Any]) -> str:
    """What a node says of itself when somebody connects."""
    return DELAYED if hello.get("delay_s") else str(hello.get("role", ""))


class Nodes:
    """The addresses ("host:port") in the order of the URL, then those that nodes named."""

    def __init__(self, addresses: Collection[str]) -> None:
        self.addresses: tuple[str, ...] = tuple(addresses)
        self.primary: str | None = None
        self._roles: Mapping[str, str] = {}
        self._turn = 0
        self._is_alone = len(self.addresses) == 1

    def _may_read(self, node: str) -> bool:
        """A delayed standby is asked only when the URL names nothing else: nobody shall read old data by chance."""
        return self._roles.get(node) != DELAYED or self._is_alone

    def role(self, node: str) -> str | None:
        return self._roles.get(node)

    def learn_role(self, node: str, role: str) -> None:
        """What a node said of itself when we connected."""
        self._roles = {**self._roles, node: role}
        if role == PRIMARY:
            self.primary = node
        elif self.primary == node:
            self.primary = None

    def learn_refusal(self, node: str, fields: Mapping[str, Any]) -> None:
        """A node said that it is not the primary, and perhaps which one is."""
        if self._roles.get(node) != DELAYED:
            self.learn_role(node, STANDBY)
        named = fields.get("primary")
        if not isinstance(named, str) or not named or named == node:
            return
        if named not in self.addresses:
            if len(self.addresses) >= HOSTS_MAX:
                return
            self.addresses = (*self.addresses, named)
        self.learn_role(named, PRIMARY)

    def lost(self, node: str) -> None:
        """The node could not be reached: its role is unknown until it answers again."""
        self._roles = {name: role for name, role in self._roles.items() if name != node}
        if self.primary == node:
            self.primary = None

    def choose(self, exchange: Exchange, tried: Collection[str]) -> str | None:
        """The node to ask, or None when each that might serve the exchange was tried in this round."""
        if exchange.kind in (Kind.HERE, Kind.INSIDE, Kind.COURTESY):
            assert exchange.node is not None, "an exchange for one node names it"
            return None if exchange.node in tried else exchange.node
        left = [node for node in self.addresses if node not in tried]
        if exchange.kind is not Kind.READ or exchange.read_from is ReadFrom.PRIMARY:
            if self.primary in left:
                return self.primary
            left.sort(key=lambda node: self._roles.get(node) in (STANDBY, DELAYED))
            return left[0] if left else None
        left = self._rotated([node for node in left if self._may_read(node)])
        if exchange.read_from is ReadFrom.STANDBY:
            left = [node for node in left if self._roles.get(node) != PRIMARY]
            left.sort(key=lambda node: self._roles.get(node) not in (STANDBY, DELAYED))
        return left[0] if left else None

    def serves(self, node: str, exchange: Exchange) -> bool:
        """Whether a node that we are connected to fits the exchange. The primary itself refuses what it must."""
        if exchange.kind is not Kind.READ or exchange.read_from is ReadFrom.PRIMARY:
            return True
        return self._may_read(node) and not (exchange.read_from is ReadFrom.STANDBY and self._roles.get(node) == PRIMARY)

    def _rotated(self, nodes: list[str]) -> list[str]:
        if not nodes:
            return nodes
        self._turn = (self._turn + 1) % 2**31
        start = self._turn % len(nodes)
        return nodes[start:] + nodes[:start]

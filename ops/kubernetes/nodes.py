"""The nodes of the cluster, asked all at once and ordered one by one, through the client. Decides nothing.

A node is addressed by its own host only, so that an order never reaches another one. The names in the URL are the pods' (k8s/base/cluster.yaml).
"""

from __future__ import annotations

from typing import Any

import trio

from ops.refusal import refusals
from ops.status import NodeView, read_status
from ops.target import Target

from .verdicts import pod_of

ASK_S = 4.0
ORDER_S = 60.0  # an order that takes longer is given up by whoever waits for it: the node goes on with it
OPTIONS: dict[str, Any] = {"pool": 1, "retry_s": 0, "connect_timeout_s": 3}


class Nodes:
    """Every node that the URL names."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def ask(self) -> list[NodeView]:
        """What each says of itself; one that is silent for ASK_S is an answer too."""
        views: dict[str, NodeView] = {}

        async def ask_one(host: str) -> None:
            views[host] = await self._ask(host)

        async with trio.open_nursery() as nursery:
            for host in self._target.hosts():
                nursery.start_soon(ask_one, host)
        return [views[host] for host in self._target.hosts()]

    async def fence(self, pod: str, why: str) -> None:
        """It takes no writes and leads nobody until an operator ends that. Raises Refusal."""
        host = self._host(pod)
        with refusals():
            async with await self._connect(host, timeout_s=ORDER_S) as client:
                await client.fence(host, why)

    async def promote(self, pod: str, *, force: bool, automatic: bool) -> int:
        """The epoch that it is primary of. Raises Refusal with the node's own words."""
        host = self._host(pod)
        with refusals():
            async with await self._connect(host, timeout_s=ORDER_S) as client:
                return int((await client.promote(host, force=force, automatic=automatic))["epoch"])

    async def switch_over(self, old: str, to: str, *, timeout_s: float, automatic: bool) -> dict[str, Any]:
        """{primary, epoch, stopped_s}. Raises Refusal with the old primary's own words; then it goes on as it was, or they say otherwise."""
        with refusals():
            async with await self._connect(self._host(old), timeout_s=ORDER_S) as client:
                return await client.switchover(to, timeout_s=timeout_s, automatic=automatic)

    async def _ask(self, host: str) -> NodeView:
        from twinlog import TwinlogError  # late: --help must not pay for it

        with trio.move_on_after(ASK_S):
            try:
                async with await self._connect(host, timeout_s=ASK_S) as client:
                    view = read_status(host, await client.status(host))
            except TwinlogError as error:
                return NodeView(host, problem=str(error))
            if view.node != pod_of(host):
                return NodeView(host, problem=f"it says that it is node {view.node}: in Kubernetes a node is named as its pod")
            return view
        return NodeView(host, problem=f"no answer within {ASK_S:g} s")

    async def _connect(self, host: str, *, timeout_s: float) -> Any:
        import twinlog  # late: --help must not pay for it

        options = {**OPTIONS, "timeout_s": timeout_s}
        if self._target.key_file is not None:
            options["key"] = self._target.key_file
        return await twinlog.connect_async(self._target.url_of(host), **options)

    def _host(self, pod: str) -> str:
        return next(host for host in self._target.hosts() if pod_of(host) == pod)

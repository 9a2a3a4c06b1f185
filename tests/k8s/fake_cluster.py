"""A cluster of pods, nodes and one Service, in virtual time: the API server behind httpx's door, and nodes that are asked and ordered.

What must never be is watched at every call: two pods behind the Service, an office that changes while a pod stands behind it, a pod behind it that was
pointed to as primary and is not. The endpoints follow the selector only when they have been asked for a few times, as a controller would,
late and all at once. `crash_at` ends the script at its n-th call, before or after the call has done its work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import httpx
import trio

from ops.exit_codes import ExitCode
from ops.kubernetes.api import Access, open_api
from ops.kubernetes.moves import Surroundings
from ops.kubernetes.standing import POD_KEY
from ops.refusal import Refusal
from ops.status import NodeView, StandbyView

NAMESPACE = "shop"
START_US = 1_700_000_000_000_000
SELECTOR_KEYS = {"app.kubernetes.io/name": "twinlog"}


class Crash(Exception):
    """The script dies here; nothing of it may catch this."""


@dataclass
class FakeNode:
    role: str = "standby"
    epoch: int = 1
    alive: bool = True
    ready: bool = True
    terminating: bool = False
    commits: int = 100
    streaming: bool = True
    promotable: bool = True


@dataclass
class FakeCluster:
    nodes: dict[str, FakeNode]
    service: dict = field(default_factory=lambda: {"metadata": {"name": "twinlog-primary", "resourceVersion": "1"}, "spec": {}})
    endpoints: frozenset[str] = frozenset()
    endpoints_late: int = 2  # questions until the endpoints follow
    crash_at: int = 0
    crash_after_work: bool = False
    refuse_promotion: str = ""
    paused: bool = False
    calls: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    before_call: dict[int, object] = field(default_factory=dict)  # what somebody else does just before the n-th call
    _asked: int = 0

    # What everybody can see.

    @property
    def selected(self) -> str:
        return (self.service["spec"].get("selector") or {}).get(POD_KEY, "")

    @property
    def notes(self) -> dict[str, str]:
        return self.service["metadata"].get("annotations") or {}

    def primaries(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node.alive and node.role == "primary"]

    def point(self, pod: str, epoch: int) -> None:
        """As an earlier move left it."""
        self.service["spec"]["selector"] = {**SELECTOR_KEYS, POD_KEY: pod}
        self.service["metadata"]["annotations"] = {"twinlog.io/epoch": str(epoch)}
        self.endpoints = self._matching()

    def around(self, api, *, automatic: bool = False) -> Surroundings:
        return Surroundings(api, self, lambda: START_US + int(trio.current_time() * 1e6), self.said.append, automatic)

    def open(self):
        return open_api(Access("http://api", NAMESPACE, None), httpx.MockTransport(self._serve))

    def settle(self) -> None:
        """The controllers have caught up."""
        self.endpoints = self._matching()

    # The API server.

    def _serve(self, request: httpx.Request) -> httpx.Response:
        name = f"{request.method} {request.url.path.removeprefix(f'/api/v1/namespaces/{NAMESPACE}/')}"
        return self._counted(name, lambda: self._answer(name, request))

    def _answer(self, name: str, request: httpx.Request) -> httpx.Response:
        match name:
            case "GET services/twinlog-primary":
                return httpx.Response(200, json=self.service)
            case "PATCH services/twinlog-primary":
                assert request.headers["content-type"] == "application/merge-patch+json"
                return self._patch(json.loads(request.content))
            case "GET endpoints/twinlog-primary":
                self._asked += 1
                if self._asked % self.endpoints_late == 0:
                    self.settle()
                addresses = [{"ip": "10.0.0.1", "targetRef": {"kind": "Pod", "name": pod}} for pod in sorted(self.endpoints)]
                return httpx.Response(200, json={"subsets": [{"addresses": addresses}] if addresses else []})
            case "GET pods":
                assert request.url.params["labelSelector"] == "app.kubernetes.io/name=twinlog,app.kubernetes.io/component=node"
                return httpx.Response(200, json={"items": [self._pod(name, node) for name, node in self.nodes.items()]})
        return httpx.Response(403, json={"message": f"the role does not allow {name}"})

    def _patch(self, patch: dict) -> httpx.Response:
        metadata = self.service["metadata"]
        if patch["metadata"].pop("resourceVersion") != metadata["resourceVersion"]:
            return httpx.Response(409, json={"message": "the object has been modified"})
        self.service = _merged(self.service, patch)
        self.service["metadata"]["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
        return httpx.Response(200, json=self.service)

    def _pod(self, name: str, node: FakeNode) -> dict:
        deleted = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if node.terminating else {}
        return {"metadata": {"name": name, **deleted}, "status": {"conditions": [{"type": "Ready", "status": "True" if node.ready else "False"}]}}

    def _matching(self) -> frozenset[str]:
        return frozenset(name for name, node in self.nodes.items() if node.ready and name == self.selected)

    # The nodes.

    async def ask(self) -> list[NodeView]:
        await trio.sleep(0.01)
        return self._counted("ask", lambda: [self._view(name, node) for name, node in self.nodes.items()])

    async def fence(self, pod: str, why: str) -> None:
        await trio.sleep(0.01)

        def work() -> None:
            self._nobody_is_behind("a node is fenced")
            self.nodes[pod].role = "fenced"

        self._counted(f"fence {pod}", work)

    async def promote(self, pod: str, *, force: bool, automatic: bool) -> int:
        await trio.sleep(0.01)

        def work() -> int:
            if self.refuse_promotion and not force:
                raise Refusal(self.refuse_promotion)
            if automatic and self.paused:
                raise Refusal("the cluster is paused")
            node = self.nodes[pod]
            if not node.alive:
                raise Refusal(f"{pod} does not answer", ExitCode.UNREACHABLE)
            if node.role != "primary":
                self._take_office(pod)
            return node.epoch

        return self._counted(f"promote {pod}", work)

    async def switch_over(self, old: str, to: str, *, timeout_s: float, automatic: bool) -> dict:
        await trio.sleep(0.01)

        def work() -> dict:
            if automatic and self.paused:
                raise Refusal("the cluster is paused")
            assert self.nodes[old].role == "primary"
            self.nodes[old].role = "standby"
            self._take_office(to)
            self.nodes[old].epoch = self.nodes[to].epoch
            return {"primary": to, "epoch": self.nodes[to].epoch, "stopped_s": 0.1}

        return self._counted(f"switch_over {old} {to}", work)

    def _take_office(self, pod: str) -> None:
        self._nobody_is_behind("the office changes")
        self.nodes[pod].role = "primary"
        self.nodes[pod].epoch = 1 + max(node.epoch for node in self.nodes.values())

    def _view(self, name: str, node: FakeNode) -> NodeView:
        host = f"{name}.twinlog:6900"
        if not node.alive:
            return NodeView(host, problem="no answer within 4 s")
        standbys = ()
        if node.role == "primary":
            standbys = tuple(
                StandbyView(other, of.alive, of.alive and of.streaming, node.commits - of.commits, 0, 0.0, why_not="" if of.promotable else "it is delayed")
                for other, of in self.nodes.items() if other != name
            )  # fmt: skip
        return NodeView(host, node=name, role=node.role, epoch=node.epoch, writable=node.role == "primary", databases={"shop": (node.epoch, node.commits)}, standbys=standbys)

    # Watching and crashing.

    def _counted(self, name: str, work):
        self.calls.append(name)
        number = len(self.calls)
        if (disturb := self.before_call.pop(number, None)) is not None:
            disturb()
        if number == self.crash_at and not self.crash_after_work:
            raise Crash(name)
        outcome = work()
        assert len(self.endpoints) <= 1 and len(self._matching()) <= 1, f"two pods behind the Service after {self.calls}"
        if number == self.crash_at:
            raise Crash(name)
        return outcome

    def _nobody_is_behind(self, when: str) -> None:
        assert not self.endpoints and not self._matching(), f"{set(self.endpoints)} stand behind the Service while {when}"


def _merged(held: dict, patch: dict) -> dict:
    """A JSON merge patch, as RFC 7386 has it."""
    result = dict(held)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _merged(result.get(key) or {}, value)
        else:
            result[key] = value
    return result

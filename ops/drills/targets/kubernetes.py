"""The pods twinlog-0 and twinlog-1 that kubectl reaches in its current context: a cluster that is there already, and stays.

    kill    kubectl delete pod --grace-period=0 --force: a crash as far as the nodes can tell; the StatefulSet makes the pod anew by itself
    start   waits until it has

Clients reach each pod through a `kubectl port-forward` of its own, which is started again whenever its pod has gone. The client key is read from
the Secret twinlog-keys. TWINLOG_KUBE_NAMESPACE names the namespace, else it is that of the context. Settings are the cluster's own. What needs root
on the pod's machine, or a disk that may be filled, is refused: faults of links, freezing, a full disk.

The drill writes to the database `drill`, which must not be there before, and drops it afterwards.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import trio

import twinlog
from ops.drills.ending import SETTLE_SECONDS_MAX
from ops.drills.relay import HOST
from ops.drills.scenarios import Act, OnTimeout
from ops.drills.writers import DATABASE
from twinlog.errors import TwinlogError

from .local import free_ports
from .process import run
from .protocol import NotHere, Settings

PODS = ("twinlog-0", "twinlog-1")
SECRET, KEY_FILE = "twinlog-keys", "client.key"
CLIENT_PORT = 6900
POSSIBLE = frozenset({Act.KILL, Act.START})
FORWARD_AGAIN_S = 0.3
READY_SECONDS_MAX = 300.0
ASK_OPTIONS = {"pool": 1, "retry_s": 5, "connect_timeout_s": 5, "read": "any"}


class KubernetesTarget:
    """Entered, `nodes` begins with the pod that is primary, and `settings` are those that the cluster has."""

    name = "kubernetes"

    def __init__(self, settings: Settings, faults: frozenset[Act]) -> None:
        self.settings = settings
        self.nodes = PODS
        self._faults = faults
        self._directory = Path()
        self._kubectl: tuple[str, ...] = ("kubectl",)
        self._ports: dict[str, int] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> KubernetesTarget:
        impossible = sorted(act.value for act in self._faults - POSSIBLE)
        if impossible:
            raise NotHere(f"{', '.join(impossible)} cannot be done to pods through kubectl: use --target local or compose for this scenario")
        if not shutil.which("kubectl"):
            raise NotHere("drills on Kubernetes need kubectl, and a context that reaches the cluster")
        async with AsyncExitStack() as stack:
            self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twinlog-drill-")))
            namespace = os.environ.get("TWINLOG_KUBE_NAMESPACE")
            self._kubectl = ("kubectl", *(("--namespace", namespace) if namespace else ()))
            await self._take_key()
            self._ports = dict(zip(PODS, free_ports(len(PODS))))
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            for pod in PODS:
                nursery.start_soon(self._forward, pod)
            await self._look_around()
            stack.push_async_callback(self._drop_database)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def url(self) -> str:
        return self._url(*self.nodes)

    def addresses(self) -> Mapping[str, tuple[str, str]]:
        return {pod: (self._url(pod), self._address(pod)) for pod in self.nodes}

    async def apply(self, act: Act, node: str, peer: str) -> str:
        if act is Act.KILL:
            await self._call("delete", "pod", node, "--grace-period=0", "--force", "--wait=false")
            return "deleted without grace"
        assert act is Act.START, act
        with trio.fail_after(READY_SECONDS_MAX):
            while True:
                pod = await self._call("get", "pod", node, "--ignore-not-found", "-o", "json")
                if pod.strip() and is_running(json.loads(pod)):
                    return "made anew by the StatefulSet"
                await trio.sleep(FORWARD_AGAIN_S)

    async def salvaged(self, node: str) -> tuple[str, ...]:
        told = await self._call("exec", node, "--", "sh", "-c", f"cd /data && ls -1 -d {DATABASE}/salvage/* 2> /dev/null || true")
        return tuple(sorted(told.split()))

    async def keep_logs(self, directory: Path) -> None:
        for pod in PODS:
            (directory / f"{pod}.log").write_text(await self._call("logs", pod, "--tail=2000"))

    # The way in.

    async def _take_key(self) -> None:
        try:
            encoded = await self._call("get", "secret", SECRET, "-o", "go-template={{index .data \"" + KEY_FILE + "\"}}")
        except OSError as error:
            raise NotHere(f"the client key cannot be read from the Secret {SECRET}: {error}") from error
        file = self._directory / KEY_FILE
        file.touch(mode=0o600)
        file.write_bytes(base64.b64decode(encoded))

    async def _forward(self, pod: str) -> None:
        """For ever: a pod that was made anew has a new way in."""
        command = [*self._kubectl, "port-forward", "--address", HOST, f"pod/{pod}", f"{self._ports[pod]}:{CLIENT_PORT}"]
        while True:
            await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
            await trio.sleep(FORWARD_AGAIN_S)

    async def _look_around(self) -> None:
        """Who is primary, what the settings are, and that nobody's data is in the way. Raises NotHere."""
        told = {}
        with trio.move_on_after(SETTLE_SECONDS_MAX):
            while set(told) != set(PODS):
                for pod, (url, address) in self.addresses().items():
                    try:
                        async with await twinlog.connect_async(url, **ASK_OPTIONS) as client:
                            told[pod] = await client.status(address)
                    except TwinlogError:
                        await trio.sleep(FORWARD_AGAIN_S)
        silent = [pod for pod in PODS if pod not in told]
        if silent:
            raise NotHere(f"{', '.join(silent)} cannot be reached through kubectl port-forward")
        primaries = [pod for pod in PODS if told[pod]["role"] == "primary"]
        if len(primaries) != 1:
            raise NotHere(f"{' and '.join(primaries) or 'no pod'} says that it is primary: a drill begins with a cluster that is well")
        if any(DATABASE in status["databases"] for status in told.values()):
            raise NotHere(f"there is a database {DATABASE!r} in this cluster already: look at it, and drop it")
        self.nodes = (primaries[0], *(pod for pod in PODS if pod != primaries[0]))
        url, address = self.addresses()[primaries[0]]
        async with await twinlog.connect_async(url, **ASK_OPTIONS) as client:
            has = await client.check(address)
        self.settings = replace(self.settings, acks=int(has["acks"]), on_timeout=OnTimeout(has["on_ack_timeout"]))

    async def _drop_database(self) -> None:
        with trio.move_on_after(SETTLE_SECONDS_MAX):
            async with await twinlog.connect_async(self.url(), retry_s=30) as client:
                await client.drop_database(DATABASE)

    async def _call(self, *words: str) -> str:
        return await run((*self._kubectl, *words))

    def _address(self, pod: str) -> str:
        return f"{HOST}:{self._ports[pod]}"

    def _url(self, *pods: str) -> str:
        return f"twinlog://{','.join(self._address(pod) for pod in pods)}/?key={self._directory / KEY_FILE}"


def is_running(pod: Mapping[str, object]) -> bool:
    """Whether the API's answer is of a pod that runs and is not being deleted."""
    metadata, status = pod.get("metadata"), pod.get("status")
    return isinstance(metadata, dict) and isinstance(status, dict) and "deletionTimestamp" not in metadata and status.get("phase") == "Running"

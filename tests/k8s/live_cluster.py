"""A real cluster to try things on: the laptop overlay in a namespace of its own, what an operator types, faults, and watchers.

Knows kubectl; what is tried and what must come of it is test_live.py's. Every wait is for a state, with a generous limit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ops.kubernetes.standing import POD_KEY, TARGET_KEY

NODES = ("twinlog-0", "twinlog-1")
COMMAND_SECONDS_MAX = 300
STATE_SECONDS_MAX = 240
ASK_SECONDS = 0.5

# Runs in a pod of the cluster and writes through the Service, one document after the other, until its standard input ends. An
# answer that does not come is asked for again with the same document, as an application would.
WRITER = """
import json, sys, threading, time, twinlog
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
url = "twinlog://twinlog-primary:6900/shop?key=/etc/twinlog/keys/client.key&pool=1&timeout_s=5&connect_timeout_s=2&retry_s=5"
acked, worst, last, errors = 0, 0.0, None, {}
client = None
while not over.is_set():
    try:
        client = client or twinlog.connect(url)
        client["shop"]["written"].replace_one({"_id": f"PREFIX-{acked}"}, {"_id": f"PREFIX-{acked}"}, upsert=True)
    except twinlog.TwinlogError as error:
        errors[type(error).__name__] = errors.get(type(error).__name__, 0) + 1
        time.sleep(0.05)
        continue
    if not acked:
        print("writing", flush=True)
    now = time.monotonic()
    worst, last, acked = max(worst, now - (last or now)), now, acked + 1
    time.sleep(0.005)
print(json.dumps({"acked": acked, "longest_gap_s": round(max(worst, time.monotonic() - last), 2), "errors": errors}))
"""


@dataclass
class Writer:
    """Writes going on through the Service, in the pod of twinlog-sync, which no step touches."""

    process: subprocess.Popen
    prefix: str

    def stop(self) -> dict:
        out, err = self.process.communicate(timeout=COMMAND_SECONDS_MAX)
        assert self.process.returncode == 0, err
        return json.loads(out)


@dataclass
class Behind:
    """Everybody who ever stood behind the Service, in order, from a watch."""

    process: subprocess.Popen
    seen: list[tuple[str, ...]] = field(default_factory=list)

    def read(self) -> None:
        decoder, text = json.JSONDecoder(), ""
        for line in self.process.stdout:
            text += line
            try:
                found, end = decoder.raw_decode(text)
            except ValueError:
                continue
            text = text[end:].lstrip()
            self.seen.append(pods_of(found))


def pods_of(endpoints: dict) -> tuple[str, ...]:
    """The pods that get what is sent to the Service."""
    return tuple(sorted(one["targetRef"]["name"] for subset in endpoints.get("subsets") or () for one in subset.get("addresses") or ()))


class LiveCluster:
    """One namespace of the cluster that KUBECONFIG names."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.figures: dict[str, float | int | str] = {}
        server = json.loads(self.kubectl("version", "-o", "json"))["serverVersion"]
        self.is_old = (int(server["major"]), int(server["minor"].rstrip("+"))) < (1, 21)

    # Commands.

    def kubectl(self, *words: str, stdin: str | None = None, code: int | None = 0) -> str:
        done = subprocess.run(["kubectl", "-n", self.namespace, *words], input=stdin, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
        assert code is None or done.returncode == code, f"kubectl {' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout if code == 0 else done.stdout + done.stderr

    def twinlog(self, pod: str, *words: str, stdin: str | None = None, code: int | None = 0) -> str:
        """`twinlog WORDS...` in a pod, as an operator would."""
        return self.kubectl("exec", *(["-i"] if stdin is not None else []), pod, "--", "twinlog", *words, stdin=stdin, code=code)

    def get(self, *words: str) -> dict:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def apply(self, directory: Path) -> None:
        text = subprocess.run(["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=True, timeout=COMMAND_SECONDS_MAX).stdout
        if self.is_old:  # these two had no v1 before 1.21
            text = text.replace("apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n").replace("apiVersion: batch/v1\n", "apiVersion: batch/v1beta1\n")
        self.kubectl("apply", "-f", "-", stdin=text)

    def run_job_of(self, cronjob: str, name: str) -> str:
        """What a CronJob would do at its hour, done now and to its end; what it printed. (`kubectl create job --from` knows no CronJob of v1beta1.)"""
        template = self.get("cronjob", cronjob)["spec"]["jobTemplate"]
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": (template.get("metadata") or {}).get("labels") or {}}, "spec": template["spec"]}
        self.kubectl("create", "-f", "-", stdin=json.dumps(job))

        def is_over() -> bool:
            status = self.get("job", name)["status"]
            assert not status.get("failed"), self.kubectl("logs", f"job/{name}", code=None)
            return bool(status.get("succeeded"))

        self.figures[f"job {cronjob}_s"] = self.wait(f"job {name}", is_over)
        return self.kubectl("logs", f"job/{name}")

    def drill(self, scenario: str, out: Path) -> dict:
        """`twinlog drill run` on the pods, from this machine; its report."""
        command = [sys.executable, "-m", "ops.main", "drill", "run", scenario, "--target", "kubernetes", "--yes", "--seconds", "1", "--json", "--out", str(out)]
        done = subprocess.run(command, env={**os.environ, "TWINLOG_KUBE_NAMESPACE": self.namespace}, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    # States.

    def wait(self, what: str, is_so: Callable[[], bool]) -> float:
        """Until it is so; the seconds that took."""
        began = time.monotonic()
        while not is_so():
            assert time.monotonic() - began < STATE_SECONDS_MAX, f"{what}: not within {STATE_SECONDS_MAX} s\n{self.told()}"
            time.sleep(ASK_SECONDS)
        return time.monotonic() - began

    def told(self) -> str:
        return self.kubectl("get", "pods,endpoints", "-o", "wide", code=None) + "".join(self.kubectl("logs", "--tail", "15", pod, code=None) for pod in NODES)

    def ready(self, *pods: str) -> bool:
        items = {item["metadata"]["name"]: item for item in self.get("pods")["items"]}
        return all(pod in items and "deletionTimestamp" not in items[pod]["metadata"] and any(
            one["type"] == "Ready" and one["status"] == "True" for one in items[pod]["status"].get("conditions", ())) for pod in pods or NODES)  # fmt: skip

    def uid(self, pod: str) -> str:
        return self.get("pod", pod)["metadata"]["uid"]

    def restarts(self, pod: str) -> int:
        return sum(one["restartCount"] for one in self.get("pod", pod)["status"].get("containerStatuses", ()))

    def waits(self, pod: str) -> bool:
        """Whether Kubernetes waits before it starts the pod's container again."""
        found = self.get("pod", pod)["status"].get("containerStatuses", ())
        return any((one["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff" for one in found)

    def where(self) -> dict:
        """What the cluster says of itself, asked in a pod that no step touches; {} while it cannot be said."""
        out = self.twinlog("deploy/twinlog-sync", "kubernetes", "where", "--json", code=None)
        return json.loads(out.splitlines()[0]) if out.startswith("{") else {}

    def primary(self) -> str:
        """The pod that the Service points to and that alone stands behind it; "" while a move is under way or nobody does."""
        service, behind = self.get("service", "twinlog-primary"), self.get("endpoints", "twinlog-primary")
        pod = (service["spec"].get("selector") or {}).get(POD_KEY, "")
        moving = (service["metadata"].get("annotations") or {}).get(TARGET_KEY)
        return pod if not moving and pods_of(behind) == (pod,) else ""

    def other(self, pod: str) -> str:
        return NODES[1 - NODES.index(pod)]

    def wait_well(self) -> str:
        """Both ready, the primary behind the Service, both copies equal; the primary."""
        self.wait("ready", self.ready)
        self.wait("the primary behind its Service", lambda: bool(self.primary()))
        self.wait("equal", lambda: '"ok": true' in self.twinlog("deploy/twinlog-sync", "status", "--json", code=None))
        (primary,) = [node["pod"] for node in self.where()["nodes"] if node["role"] == "primary"]
        assert primary == self.primary(), self.told()
        return primary

    # Watchers.

    def write(self, prefix: str) -> Writer:
        process = subprocess.Popen(["kubectl", "-n", self.namespace, "exec", "-i", "deploy/twinlog-sync", "--", "python", "-c", WRITER.replace("PREFIX", prefix)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "writing\n", process.stderr.read()
        return Writer(process, prefix)

    def written(self, prefix: str) -> int:
        """Documents of a writer, counted on the primary through the Service."""
        out = self.twinlog("deploy/twinlog-sync", "find", "written", json.dumps({"_id": {"$regex": f"^{prefix}-"}}), "--count", "--db", "shop", code=None)
        return int(out) if out.strip().isdigit() else 0

    def watch_service(self) -> Behind:
        behind = Behind(subprocess.Popen(["kubectl", "-n", self.namespace, "get", "endpoints", "twinlog-primary", "--watch", "-o", "json"],
                                         stdout=subprocess.PIPE, text=True))
        threading.Thread(target=behind.read, daemon=True).start()
        return behind

    # Faults, for who is root on the machine of the pods.

    def process_of(self, pod: str) -> int | None:
        """The node's process id on this machine, by its environment; None where it cannot be seen."""
        wanted = f"TWINLOG_NODE={pod}".encode()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and b"serve" in (entry / "cmdline").read_bytes().split(b"\0"):
                    environment = (entry / "environ").read_bytes().split(b"\0")
                    if wanted in environment and self._is_in(entry, pod):
                        return int(entry.name)
            except OSError:
                continue
        return None

    def _is_in(self, entry: Path, pod: str) -> bool:
        return self.uid(pod) in (entry / "cgroup").read_text().replace("_", "-")

    def send(self, pod: str, number: signal.Signals) -> None:
        process = self.process_of(pod)
        assert process is not None, f"the process of {pod} is not on this machine"
        with suppress(ProcessLookupError):
            os.kill(process, number)

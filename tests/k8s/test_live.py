"""The laptop overlay in a real cluster: start, crash, failover, the old primary's return, switchover, eviction, rolling restart, both pods gone at once; then a backup and its restore, drills, and a third node.

Needs KUBECONFIG, a default StorageClass, and TWINLOG_KUBERNETES_IMAGE, an image of this checkout that the cluster has. Steps that kill or freeze a
process need root on the pods' machine. Figures go to the end of the output (-s) as one line of JSON.

    TWINLOG_KUBERNETES_IMAGE=docker.io/library/twinlog:try KUBECONFIG=... python -m pytest -m kubernetes -s

TWINLOG_KUBERNETES_STEPS="crash switch_over" takes only these.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from .live_cluster import NODES, LiveCluster
from .rendered import copy_with_keys

pytestmark = pytest.mark.kubernetes

DOCUMENTS = 3000
NAMESPACE = "twinlog-try"
SERVICE = "twinlog://twinlog-primary:6900/shop?key=/etc/twinlog/keys/client.key"


@pytest.fixture
def cluster(tmp_path):
    """The overlay, applied and well; everything of it is removed again, volumes too."""
    image = os.environ.get("TWINLOG_KUBERNETES_IMAGE", "")
    for missing, what in ((not shutil.which("kubectl"), "there is no kubectl"), (not os.environ.get("KUBECONFIG"), "KUBECONFIG names no cluster to try things on"),
                          (not image, "TWINLOG_KUBERNETES_IMAGE names no image that the cluster has")):  # fmt: skip
        if missing:
            pytest.skip(what)
    directory = copy_with_keys(tmp_path) / "overlays" / "try"
    directory.mkdir()
    name, _, tag = image.rpartition(":")
    (directory / "kustomization.yaml").write_text(
        f"namespace: {NAMESPACE}\nresources: [../laptop]\nimages: [{{name: twinlog, newName: {name}, newTag: '{tag}'}}]\n"
    )
    made = LiveCluster(NAMESPACE)
    made.kubectl("create", "namespace", NAMESPACE)
    try:
        began = time.monotonic()
        made.apply(directory)
        made.wait("ready", made.ready)
        made.figures["both_ready_s"] = time.monotonic() - began
        made.wait("the first primary behind its Service", lambda: made.primary() == "twinlog-0")
        made.figures["service_points_s"] = time.monotonic() - began
        made.directory = directory
        yield made
    finally:
        sys.stdout.write(json.dumps({name: round(value, 2) if isinstance(value, float) else value for name, value in made.figures.items()}) + "\n")
        for kinds in ("statefulset,deployment,cronjob,job", "pod", "pvc"):
            made.kubectl("delete", kinds, "--all", code=None)
        made.kubectl("delete", "namespace", NAMESPACE, code=None)


def test_a_pair_lives_through_what_an_operator_and_a_cluster_do_to_it(cluster):
    lines = "".join(json.dumps({"_id": number, "text": f"message {number}"}) + "\n" for number in range(DOCUMENTS))
    cluster.twinlog("twinlog-0", "import", "-", "--collection", "messages", "--db", "shop", stdin=lines)
    cluster.wait_well()
    behind = cluster.watch_service()
    acked = {}
    can_kill = cluster.process_of("twinlog-0") is not None
    steps = [switch_over, restart_in_order, evict_one_after_the_other, lose_both_pods]
    steps = [crash, crash_in_a_loop_and_fail_over, freeze_and_fail_over, *steps] if can_kill else steps
    chosen = os.environ.get("TWINLOG_KUBERNETES_STEPS", "").split()
    for step in [step for step in steps if not chosen or step.__name__ in chosen]:
        name = step.__name__.replace("_", "-")
        writer = cluster.write(name)
        step(cluster)
        cluster.wait_well()
        told = writer.stop()
        acked[name] = told["acked"]
        cluster.figures[f"{name}: longest time without an acknowledged write_s"] = told["longest_gap_s"]
        cluster.figures[f"{name}: errors the application saw"] = sum(told["errors"].values())
        # One more may have been written and not been answered.
        assert cluster.written(name) in (told["acked"], told["acked"] + 1), "what was acknowledged is kept (INV-1)"
    check_everywhere(cluster, acked)
    apply_again_keeps_the_primary(cluster)
    for step in (back_up_and_restore, drill_in_a_pod, drill_the_pods, add_a_third_node):
        if not chosen or step.__name__ in chosen:
            step(cluster)
    behind.process.terminate()
    assert max(map(len, behind.seen)) == 1, f"two pods behind the Service: {behind.seen}"
    moves = [pods for pods in behind.seen if pods]
    for before, after in zip(behind.seen, behind.seen[1:]):
        assert before == after or not before or not after, f"no empty moment between {before} and {after}"
    assert len(set(moves)) == 2
    cluster.figures["changes behind the Service"] = len(behind.seen)


def crash(cluster: LiveCluster) -> None:
    """kill -9 of the primary's process: the container starts again, and is primary again."""
    old = cluster.primary()
    restarts = cluster.restarts(old)
    began = time.monotonic()
    cluster.send(old, signal.SIGKILL)
    cluster.wait("restarted", lambda: cluster.restarts(old) > restarts)
    cluster.wait("ready again", lambda: cluster.ready(old))
    cluster.figures["crash: ready again_s"] = time.monotonic() - began
    assert cluster.wait_well() == old


def crash_in_a_loop_and_fail_over(cluster: LiveCluster) -> None:
    """A primary that dies whenever it is started, until Kubernetes waits before it starts it again: failover by script, then it returns and follows."""
    old = cluster.primary()
    new = cluster.other(old)

    def given_up() -> bool:
        if cluster.waits(old):
            return True
        if cluster.process_of(old) is not None:
            cluster.send(old, signal.SIGKILL)
        return False

    cluster.wait("waited for by Kubernetes", given_up)
    began = time.monotonic()
    said = cluster.twinlog(new, "kubernetes", "failover", code=None)
    cluster.figures["crash loop: failover by script_s"] = time.monotonic() - began
    assert "and the Service points to it" in said, said  # to the old one, if it was quicker after all
    cluster.figures["crash loop: primary afterwards"] = "the other" if f"{new} is primary" in said else "the same"
    began = time.monotonic()
    cluster.wait_well()
    cluster.figures["crash loop: both well again after_s"] = time.monotonic() - began


def freeze_and_fail_over(cluster: LiveCluster) -> None:
    """A primary that hangs: failover by script from the other pod, then it comes back to life and follows."""
    old = cluster.primary()
    new = cluster.other(old)
    cluster.send(old, signal.SIGSTOP)
    try:
        began = time.monotonic()
        said = cluster.twinlog(new, "kubernetes", "failover")
        cluster.figures["freeze: failover by script_s"] = time.monotonic() - began
        assert f"{new} is primary" in said, said
    finally:
        cluster.send(old, signal.SIGCONT)
    began = time.monotonic()
    assert cluster.wait_well() == new
    cluster.figures["freeze: the old primary follows after_s"] = time.monotonic() - began
    assert "already" in cluster.twinlog(new, "kubernetes", "failover"), "a second run finds nothing to do"


def switch_over(cluster: LiveCluster) -> None:
    old = cluster.primary()
    began = time.monotonic()
    cluster.twinlog("deploy/twinlog-sync", "kubernetes", "switchover")
    cluster.figures["switchover by script_s"] = time.monotonic() - began
    assert cluster.wait_well() == cluster.other(old)


def restart_in_order(cluster: LiveCluster) -> None:
    """Each pod is made anew, the primary only after its preStop has handed over."""
    uids = {pod: cluster.uid(pod) for pod in NODES}
    began = time.monotonic()
    cluster.kubectl("rollout", "restart", "statefulset/twinlog")
    cluster.kubectl("rollout", "status", "statefulset/twinlog", "--timeout", "240s")
    cluster.figures["rolling restart_s"] = time.monotonic() - began
    assert all(cluster.uid(pod) != uid for pod, uid in uids.items())
    assert "FailedPreStopHook" not in cluster.kubectl("get", "events")


def evict_one_after_the_other(cluster: LiveCluster) -> None:
    """As `kubectl drain` does: the standby may go, the primary may not while it is alone, and may once the standby is back."""
    primary = cluster.wait_well()
    standby = cluster.other(primary)
    assert evict(cluster, standby) == ""
    assert "disruption budget" in evict(cluster, primary)
    cluster.wait_well()
    assert cluster.primary() == primary
    cluster.wait("the budget allows the primary to go", lambda: cluster.get("pdb", "twinlog")["status"]["disruptionsAllowed"] == 1)
    began = time.monotonic()
    assert evict(cluster, primary) == ""
    cluster.wait("handed over", lambda: cluster.primary() == standby)
    cluster.figures["eviction: handed over after_s"] = time.monotonic() - began


def evict(cluster: LiveCluster, pod: str) -> str:
    """The refusal, "" when it was evicted."""
    body = {"apiVersion": "policy/v1beta1" if cluster.is_old else "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    told = cluster.kubectl("create", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction", "-f", "-", stdin=json.dumps(body), code=None)
    return "" if '"Success"' in told else told


def lose_both_pods(cluster: LiveCluster) -> None:
    """Deleted at once, as by somebody who deletes the StatefulSet: nobody hands over to a pod that goes too, and the roles come from the volumes."""
    primary = cluster.primary()
    began = time.monotonic()
    cluster.kubectl("delete", "pod", *NODES)
    cluster.wait("both back", cluster.ready)
    cluster.figures["both pods deleted: ready again_s"] = time.monotonic() - began
    assert cluster.wait_well() == primary


def check_everywhere(cluster: LiveCluster, acked: dict[str, int]) -> None:
    """Each node has every document, whoever was asked for it."""
    for pod in NODES:
        assert int(cluster.twinlog(pod, "find", "messages", "--count", "--url", own_url(pod))) == DOCUMENTS
        assert int(cluster.twinlog(pod, "find", "written", "--count", "--url", own_url(pod))) >= sum(acked.values())
    cluster.figures["documents written beside the steps"] = sum(acked.values())


def back_up_and_restore(cluster: LiveCluster) -> None:
    """The nightly job's backup is on the primary's shelf, proven; restored, it is what both nodes have again."""
    count = ("find", "messages", "--count", "--db", "shop")
    cluster.run_job_of("twinlog-backup", "backup-now")
    (backup,) = json.loads(cluster.twinlog("deploy/twinlog-sync", "backup", "list", "--db", "shop", "--json"))
    assert (backup["verified"]["level"], backup["verified"]["good"]) == ("content", True), backup
    delete = f"import twinlog; twinlog.connect('{SERVICE}')['shop']['messages'].delete_many({{}})"
    cluster.kubectl("exec", "deploy/twinlog-sync", "--", "python", "-c", delete)
    assert int(cluster.twinlog("deploy/twinlog-sync", *count)) == 0
    began = time.monotonic()
    cluster.twinlog("deploy/twinlog-sync", "backup", "restore", backup["name"], "--db", "shop", "--yes", "--wait", "200")
    cluster.figures["restore, the standby equal again_s"] = time.monotonic() - began
    cluster.wait_well()
    for pod in NODES:
        assert int(cluster.twinlog(pod, *count, "--url", own_url(pod))) == DOCUMENTS


def drill_in_a_pod(cluster: LiveCluster) -> None:
    told = cluster.run_job_of("twinlog-drill", "drill-now")  # what happens, and then the report
    assert json.loads(told[told.index("\n{") :])["passed"] is True


def drill_the_pods(cluster: LiveCluster) -> None:
    for scenario in ("kill-primary", "switchover"):
        report = cluster.drill(scenario, cluster.directory.parent / "drills")
        cluster.figures[f"drill {scenario}: longest gap_s"] = report["measures"]["longest_gap_s"]
        assert report["passed"] and report["equal"] is True
        cluster.wait_well()


def add_a_third_node(cluster: LiveCluster) -> None:
    """The configuration first, the pod when all know of it: a pod that its peers do not know never gets ready, and the rollout waits for it."""
    base = cluster.directory.parents[1] / "base"
    second = "  twinlog-1: {client: 'twinlog-1.twinlog:6900', cluster: 'twinlog-1.twinlog:6901', admin: 'twinlog-1.twinlog:6902'}\n"
    edit(base / "cluster.yaml", second, second + second.replace("twinlog-1", "twinlog-2"))
    edit(base / "kustomization.yaml", ",twinlog-1.twinlog:6900", ",twinlog-1.twinlog:6900,twinlog-2.twinlog:6900")
    began = time.monotonic()
    for replicas in (2, 3):
        edit(base / "statefulset.yaml", "replicas: 2", f"replicas: {replicas}")
        cluster.apply(cluster.directory)
        cluster.kubectl("rollout", "status", "statefulset/twinlog", "--timeout", "240s")
    cluster.wait("the third ready", lambda: cluster.ready(*NODES, "twinlog-2"))
    cluster.figures["a third node_s"] = time.monotonic() - began
    cluster.wait_well()
    assert int(cluster.twinlog("twinlog-2", "find", "messages", "--count", "--url", own_url("twinlog-2"))) == DOCUMENTS


def own_url(pod: str) -> str:
    """Reads of this pod alone."""
    return f"twinlog://{pod}.twinlog:6900/shop?key=/etc/twinlog/keys/client.key&read=any"


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file.name} has {old!r} {text.count(old)} times"
    file.write_text(text.replace(old, new))


def apply_again_keeps_the_primary(cluster: LiveCluster) -> None:
    """Also when the manifests name the other pod as the first primary."""
    if cluster.primary() == "twinlog-0":
        cluster.twinlog("twinlog-0", "kubernetes", "switchover", "--to", "twinlog-1")
    cluster.apply(cluster.directory)
    assert cluster.wait_well() == "twinlog-1"

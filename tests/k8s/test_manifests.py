"""The manifests: what the schema knows, and what it does not: fields that must fit fields of other objects, of the configuration and of the program."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest
import yaml

from ops.kubernetes.api import NODES_SELECTOR, PRIMARY_SERVICE
from ops.main import VERBS
from ops.main import main as twinlog

from .rendered import ROOT, Rendered

KUBERNETES = "1.32"
KINDS_WITHOUT_SCHEMA = {"ServiceMonitor"}  # of the Prometheus operator
# What node.admin answers, or is agreed to.
ADMIN_PATHS = {"/livez", "/readyz", "/primary", "/standby", "/health", "/cluster", "/status", "/metrics"}
COMMANDS_TO_COME = {"backup", "drill"}  # verbs that a component names and that this version may lack
USER = 10001  # of the image
KEY_MODE = 0o440


def containers(manifests: Rendered) -> list[tuple[str, dict, dict]]:
    """(whose, container, pod spec) of every pod that is made."""
    return [(name, container, template["spec"]) for name, template in manifests.pod_templates().items() for container in template["spec"]["containers"]]


def matches(selector: dict, labels: dict) -> bool:
    return bool(selector) and selector.items() <= labels.items()


# The schema.


def test_every_object_is_of_its_schema(manifests, tmp_path):
    if pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed") is None:
        return
    known = [one for one in manifests.objects if one["kind"] not in KINDS_WITHOUT_SCHEMA]
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(known))
    done = subprocess.run([sys.executable, "-m", "kubernetes_validate", "-k", KUBERNETES, "--strict", str(file)], capture_output=True, text=True, timeout=300)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "Couldn't find schema" not in told, told
    assert told.count("passed for resource") == len(known), told


def test_the_validation_would_notice(manifests, tmp_path):
    """A misspelt field and an unknown kind are told, so a pass above means something."""
    pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    service = manifests.one("Service", "twinlog")
    for wrong in ({**service, "spec": {**service["spec"], "clusterIPP": "None"}}, {**service, "kind": "Serviec"}):
        file = tmp_path / "wrong.yaml"
        file.write_text(yaml.safe_dump(wrong))
        done = subprocess.run([sys.executable, "-m", "kubernetes_validate", "-k", KUBERNETES, "--strict", str(file)], capture_output=True, text=True, timeout=300)
        assert done.returncode != 0 or "Couldn't find schema" in done.stdout + done.stderr


# Selectors and labels.


def test_every_selector_finds_a_pod_of_its_own_kind(manifests):
    templates = {name: template["metadata"]["labels"] for name, template in manifests.pod_templates().items()}
    nodes = templates["StatefulSet/twinlog"]
    for service in manifests.kind("Service"):
        selector = service["spec"].get("selector")
        if selector is not None:
            assert [name for name, labels in templates.items() if matches(selector, labels)] == ["StatefulSet/twinlog"], service["metadata"]["name"]
    for one in (*manifests.kind("StatefulSet"), *manifests.kind("Deployment")):
        own = f"{one['kind']}/{one['metadata']['name']}"
        assert [name for name, labels in templates.items() if matches(one["spec"]["selector"]["matchLabels"], labels)] == [own]
    for budget in manifests.kind("PodDisruptionBudget"):
        assert [name for name, labels in templates.items() if matches(budget["spec"]["selector"]["matchLabels"], labels)] == ["StatefulSet/twinlog"]
    for policy in manifests.kind("NetworkPolicy"):
        assert matches(policy["spec"]["podSelector"]["matchLabels"], nodes)
    assert matches(dict(pair.split("=") for pair in NODES_SELECTOR.split(",")), nodes)
    for monitor in manifests.kind("ServiceMonitor"):
        services = [one["metadata"]["name"] for one in manifests.kind("Service") if matches(monitor["spec"]["selector"]["matchLabels"], one["metadata"]["labels"])]
        assert services == ["twinlog"]


def test_the_primary_service_has_no_selector_of_its_own(manifests):
    """Or applying the manifests would point it back after a failover."""
    assert "selector" not in manifests.one("Service", PRIMARY_SERVICE)["spec"]


def test_spread_and_affinity_are_about_the_nodes(overlays):
    template = overlays["production"].pod_templates()["StatefulSet/twinlog"]
    terms = template["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert [term["topologyKey"] for term in terms] == ["kubernetes.io/hostname"]
    for term in (*terms, *template["spec"]["topologySpreadConstraints"]):
        assert matches(term["labelSelector"]["matchLabels"], template["metadata"]["labels"])
    assert not {"affinity", "topologySpreadConstraints"} & overlays["laptop"].pod_templates()["StatefulSet/twinlog"]["spec"].keys()


def test_only_what_says_that_it_is_a_client_reaches_the_client_port(manifests):
    (policy,) = manifests.kind("NetworkPolicy")
    reached = {}  # port -> labels of pods of this namespace that may come
    for rule in policy["spec"]["ingress"]:
        for port in rule["ports"]:
            reached.setdefault(port["port"], []).extend(peer["podSelector"]["matchLabels"] for peer in rule["from"] if "namespaceSelector" not in peer)
    nodes = manifests.pod_templates()["StatefulSet/twinlog"]["metadata"]["labels"]
    assert set(reached) == {"client", "cluster", "admin"}
    assert len(reached["cluster"]) == 1 and matches(reached["cluster"][0], nodes)
    for name, template in manifests.pod_templates().items():
        labels = template["metadata"]["labels"]
        asks = any(entry["name"] == "TWINLOG_URL" for container in template["spec"]["containers"] for entry in container.get("env", ()))
        assert any(matches(peer, labels) for peer in reached["client"]) == asks, f"{name} asks nodes and is kept out, or need not and is let in"
        assert matches(reached["cluster"][0], labels) == (name == "StatefulSet/twinlog")


# Volumes, configuration, keys.


def test_mounts_have_volumes_and_volumes_have_sources(manifests):
    for name, container, spec in containers(manifests):
        claims = manifests.one("StatefulSet", "twinlog")["spec"]["volumeClaimTemplates"] if name.startswith("StatefulSet") else []
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])} | {claim["metadata"]["name"]: {} for claim in claims}
        mounted = [mount["name"] for mount in container["volumeMounts"]]
        assert sorted(mounted) == sorted(volumes), name
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            if "configMap" in volume:
                data = next(one for one in manifests.kind("ConfigMap") if one["metadata"]["name"] == volume["configMap"]["name"])["data"]
                assert mount.get("subPath") in data
            if "secret" in volume:
                secret = next(one for one in manifests.kind("Secret") if one["metadata"]["name"] == volume["secret"]["secretName"])
                assert sorted(secret["data"]) == ["client.key", "cluster.key"]
                assert volume["secret"]["defaultMode"] == KEY_MODE


def test_environment_comes_from_keys_that_are_there(manifests):
    data = manifests.one("ConfigMap", "twinlog-config")
    for name, container, _ in containers(manifests):
        for entry in container.get("env", ()):
            source = entry.get("valueFrom", {})
            if "configMapKeyRef" in source:
                assert source["configMapKeyRef"]["name"] == data["metadata"]["name"] and source["configMapKeyRef"]["key"] in data["data"], name


def mounted_tree(manifests: Rendered, root) -> dict[str, str]:
    """The keys below root as the pod sees them; how the configuration's paths become those."""
    secret = manifests.one("Secret", "twinlog-keys")
    import base64

    for name, content in secret["data"].items():
        (root / name).write_bytes(base64.b64decode(content))
        (root / name).chmod(KEY_MODE)
    (container,) = manifests.pod_templates()["StatefulSet/twinlog"]["spec"]["containers"]
    (keys,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "keys"]
    return {keys: str(root)}


def test_the_configuration_is_accepted_for_every_pod(manifests, tmp_path, capsys):
    text = manifests.one("ConfigMap", "twinlog-config")["data"]["cluster.yaml"]
    for mounted, there in mounted_tree(manifests, tmp_path).items():
        assert mounted in text
        text = text.replace(mounted, there)
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        twinlog(["config", "check", str(file)])
    assert ended.value.code == 0, capsys.readouterr()
    assert capsys.readouterr().out.count("good for node") == 2
    statefulset = manifests.one("StatefulSet", "twinlog")
    pods = [f"{statefulset['metadata']['name']}-{number}" for number in range(statefulset["spec"]["replicas"])]
    config = yaml.safe_load(text)
    assert list(config["nodes"]) == pods and config["primary"] in pods
    data = [mount["mountPath"] for mount in statefulset["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] if mount["name"] == "data"]
    assert data == [config["data"]]


def test_ports_are_the_same_everywhere(manifests):
    config = yaml.safe_load(manifests.one("ConfigMap", "twinlog-config")["data"]["cluster.yaml"])
    (container,) = manifests.pod_templates()["StatefulSet/twinlog"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listens = {name: int(address.rpartition(":")[2]) for name, address in config["listen"].items()}
    assert ports == listens
    for addresses in config["nodes"].values():
        assert {name: int(address.rpartition(":")[2]) for name, address in addresses.items()} == ports
    for service in manifests.kind("Service"):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] == port["name"] and ports[port["name"]] == port["port"], service["metadata"]["name"]
    assert all(port["port"] in ports for rule in manifests.kind("NetworkPolicy")[0]["spec"]["ingress"] for port in rule["ports"])
    assert all(one["port"] in {port["name"] for port in manifests.one("Service", "twinlog")["spec"]["ports"]}
               for monitor in manifests.kind("ServiceMonitor") for one in monitor["spec"]["endpoints"])


def test_names_resolve_through_the_headless_service(manifests):
    statefulset, headless = manifests.one("StatefulSet", "twinlog"), manifests.one("Service", "twinlog")
    assert statefulset["spec"]["serviceName"] == headless["metadata"]["name"]
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["publishNotReadyAddresses"] is True, "a standby gets ready by meeting its primary"
    data = manifests.one("ConfigMap", "twinlog-config")["data"]
    config = yaml.safe_load(data["cluster.yaml"])
    for name, addresses in config["nodes"].items():
        for address in addresses.values():
            host = address.rpartition(":")[0]
            assert host in (f"{name}.twinlog", f"{name}.twinlog.{headless['metadata']['namespace']}.svc")
    hosts = re.search(r"://([^/]+)/", data["url"])[1].split(",")
    assert hosts == [addresses["client"] for addresses in config["nodes"].values()]


# Pods.


def test_probes_ask_what_the_admin_port_answers(manifests):
    (container,) = manifests.pod_templates()["StatefulSet/twinlog"]["spec"]["containers"]
    asked = {}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container[kind]["httpGet"]
        assert probe["port"] == "admin"
        asked[kind] = probe["path"].partition("?")[0]
    assert set(asked.values()) <= ADMIN_PATHS
    assert asked["livenessProbe"] == asked["startupProbe"] == "/livez", "a standby without its primary is not to be killed"
    assert asked["readinessProbe"] == "/readyz"


def test_every_command_exists(manifests):
    """Arguments of the containers and of preStop, against the program's own command line."""
    (node,) = manifests.pod_templates()["StatefulSet/twinlog"]["spec"]["containers"]
    commands = [container["args"] for _, container, _ in containers(manifests)] + [node["lifecycle"]["preStop"]["exec"]["command"][1:]]
    for words in commands:
        command = twinlog
        for word in words:
            if command is twinlog and word in COMMANDS_TO_COME and word not in VERBS:
                break
            if not isinstance(command, click.Group):
                options = {name for parameter in command.params for name in parameter.opts}
                assert not word.startswith("--") or word in options, f"{words}: {word}"
                continue
            command = command.get_command(click.Context(command), word)
            assert command is not None, f"{words}: there is no {word}"


def test_prestop_and_stopping_fit_into_the_grace_period(manifests):
    spec = manifests.pod_templates()["StatefulSet/twinlog"]["spec"]
    words = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    within = float(words[words.index("--within") + 1])
    config = yaml.safe_load(manifests.one("ConfigMap", "twinlog-config")["data"]["cluster.yaml"])
    stop = float(config.get("limits", {}).get("stop_timeout_s", 10))
    assert within + stop + 10 <= spec["terminationGracePeriodSeconds"]


def test_pods_have_as_few_rights_as_can_be(manifests):
    for name, container, spec in containers(manifests):
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] == USER == spec["securityContext"]["fsGroup"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}, name
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys() and "memory" in container["resources"]["limits"]
        account = spec.get("serviceAccountName")
        assert account == "twinlog" or spec["automountServiceAccountToken"] is False, name
    assert f"USER {USER}:{USER}" in (ROOT / "Dockerfile").read_text()


def test_the_service_account_may_do_what_the_moves_ask_and_nothing_else(manifests):
    allowed = {(resource, verb, tuple(rule.get("resourceNames", ()))) for rule in manifests.one("Role", "twinlog")["rules"]
               for resource in rule["resources"] for verb in rule["verbs"]}  # fmt: skip
    only = (PRIMARY_SERVICE,)
    assert allowed == {("services", "get", only), ("services", "patch", only), ("endpoints", "get", only), ("pods", "get", ()), ("pods", "list", ())}
    binding = manifests.one("RoleBinding", "twinlog")
    assert binding["roleRef"]["name"] == "twinlog"
    assert [(subject["kind"], subject["name"], subject["namespace"]) for subject in binding["subjects"]] == [("ServiceAccount", "twinlog", "twinlog")]


def test_images_carry_a_tag_that_is_not_latest(manifests):
    for name, container, _ in containers(manifests):
        tag = container["image"].rpartition(":")[2]
        assert re.fullmatch(r"\d+\.\d+\.\d+", tag), f"{name}: {container['image']}"
        assert container["imagePullPolicy"] == "IfNotPresent"


def test_words_that_the_schema_takes_as_any_text_are_ones_that_kubernetes_knows(manifests):
    statefulset = manifests.one("StatefulSet", "twinlog")["spec"]
    assert statefulset["podManagementPolicy"] == "Parallel", "in order, a standby as pod 0 would be waited for before its primary is made"
    assert statefulset["updateStrategy"]["type"] == "RollingUpdate"
    assert [claim["spec"]["accessModes"] for claim in statefulset["volumeClaimTemplates"]] == [["ReadWriteOnce"]]
    assert manifests.one("Deployment", "twinlog-sync")["spec"]["strategy"]["type"] == "Recreate"
    for job in manifests.kind("CronJob"):
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        assert job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert manifests.one("CronJob", "twinlog-drill")["spec"]["suspend"] is True, "a drill is never started by applying"
    assert manifests.one("PodDisruptionBudget", "twinlog")["spec"]["maxUnavailable"] == 1


def test_no_key_is_in_the_repository():
    assert not list((ROOT / "k8s").rglob("*.key")) or subprocess.run(
        ["git", "ls-files", "--error-unmatch", *map(str, (ROOT / "k8s").rglob("*.key"))], cwd=ROOT, capture_output=True
    ).returncode  # fmt: skip
    for file in (ROOT / "k8s").rglob("*.yaml"):
        assert not re.search(r"[0-9a-f]{64}|BEGIN [A-Z ]*PRIVATE KEY", file.read_text()), file

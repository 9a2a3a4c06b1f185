"""The manifests as `kubectl kustomize` renders them, with keys made for the occasion: objects by kind and name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from ops.keyfiles import write_key_file

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ("laptop", "production")
KUSTOMIZE_SECONDS_MAX = 120


class Rendered:
    """All objects of one overlay."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.objects: list[dict[str, Any]] = [one for one in yaml.safe_load_all(text) if one]

    def kind(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        """By name; generated ones by the name before their hash."""
        found = [one for one in self.kind(kind) if one["metadata"]["name"] == name or one["metadata"]["name"].startswith(f"{name}-") and kind in ("ConfigMap", "Secret")]
        assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
        return found[0]

    def pod_templates(self) -> dict[str, dict[str, Any]]:
        """Everything that makes pods: "Kind/name" to the template."""
        found = {}
        for one in self.objects:
            spec = one.get("spec") or {}
            template = spec.get("template") or ((spec.get("jobTemplate") or {}).get("spec") or {}).get("template")
            if template:
                found[f"{one['kind']}/{one['metadata']['name']}"] = template
        return found


def kustomize() -> list[str] | None:
    """The command that renders a directory, None where there is none that knows components."""
    if shutil.which("kubectl"):
        # kubectl 1.20 has kustomize 2, which knows neither components nor patches.
        helped = subprocess.run(["kubectl", "kustomize", "--help"], capture_output=True, text=True, timeout=KUSTOMIZE_SECONDS_MAX)
        if helped.returncode == 0 and "--enable-helm" in helped.stdout:
            return ["kubectl", "kustomize"]
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return None


def copy_with_keys(to: Path) -> Path:
    """The directory k8s below `to`, each overlay with keys of its own."""
    tree = to / "k8s"
    shutil.copytree(ROOT / "k8s", tree, ignore=shutil.ignore_patterns("keys"))
    for overlay in OVERLAYS:
        keys = tree / "overlays" / overlay / "keys"
        keys.mkdir()
        for name in ("client.key", "cluster.key"):
            write_key_file(keys / name)
    return tree


def render(command: list[str], directory: Path) -> Rendered:
    done = subprocess.run([*command, str(directory)], capture_output=True, text=True, timeout=KUSTOMIZE_SECONDS_MAX)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return Rendered(done.stdout)

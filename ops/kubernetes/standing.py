"""The Service that writes go to, as values: which pod stands behind it, since which epoch, and which move is under way. Pure.

    metadata.annotations
        twinlog.io/epoch          the epoch in which the pod was primary when the Service was pointed at it
        twinlog.io/moving-to      a move is under way, to this pod
        twinlog.io/moving-since   since then, microseconds
    spec.selector
        app.kubernetes.io/name: twinlog
        statefulset.kubernetes.io/pod-name: twinlog-1, or `nobody`

The selector names a pod, and a namespace has one pod of a name: so there are never two behind the Service, whatever dies in the middle. All of
it changes in one patch that carries the resourceVersion it was decided on, so of two scripts one finds out that it is late. Nobody is a name
that no pod has, not a missing selector: for a Service without one Kubernetes leaves the last endpoints where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOBODY = "nobody"
APP_KEY, APP = "app.kubernetes.io/name", "twinlog"
POD_KEY = "statefulset.kubernetes.io/pod-name"
EPOCH_KEY = "twinlog.io/epoch"
TARGET_KEY = "twinlog.io/moving-to"
SINCE_KEY = "twinlog.io/moving-since"


@dataclass(frozen=True, slots=True)
class Standing:
    """pod: "" when nobody stands behind the Service. since_us counts only with moving_to."""

    version: str  # the resourceVersion
    pod: str = ""
    epoch: int = 0
    moving_to: str = ""
    since_us: int = 0


def read_standing(service: Mapping[str, Any]) -> Standing:
    """From the API's object. What is missing or is no number counts as not there: an operator's edit must not stop a failover."""
    metadata, spec = service.get("metadata") or {}, service.get("spec") or {}
    notes = metadata.get("annotations") or {}
    pod = (spec.get("selector") or {}).get(POD_KEY, "")
    return Standing(
        version=str(metadata.get("resourceVersion", "")),
        pod="" if pod == NOBODY else str(pod),
        epoch=_number(notes.get(EPOCH_KEY)),
        moving_to=str(notes.get(TARGET_KEY) or ""),
        since_us=_number(notes.get(SINCE_KEY)),
    )


def patch_to_nobody(now: Standing, moving_to: str, since_us: int) -> dict[str, Any]:
    """The first step of every move: whoever stood there leaves, and the Service says for whom."""
    return _patch(now, NOBODY, {TARGET_KEY: moving_to, SINCE_KEY: str(since_us)})


def patch_to_pod(now: Standing, pod: str, epoch: int) -> dict[str, Any]:
    """The last step of every move: this pod, primary of that epoch."""
    return _patch(now, pod, {EPOCH_KEY: str(epoch), TARGET_KEY: None, SINCE_KEY: None})


def patch_to_empty(now: Standing) -> dict[str, Any]:
    """Nobody stands behind the Service, and no move is under way."""
    return _patch(now, NOBODY, {TARGET_KEY: None, SINCE_KEY: None})


def _patch(now: Standing, pod: str, notes: dict[str, str | None]) -> dict[str, Any]:
    """A JSON merge patch: None removes a key. With the resourceVersion in it the API server refuses it (409) once the Service has changed."""
    return {
        "metadata": {"resourceVersion": now.version, "annotations": notes},
        "spec": {"selector": {APP_KEY: APP, POD_KEY: pod}},
    }


def _number(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else 0

"""Waiting, bounded, until a node follows the primary with every database; or saying why it does not."""

from __future__ import annotations

import time

from ops.status import NodeView, ask_all, lag_of
from ops.target import Target

from .asking import leading

POLL_S = 0.25


def wait_until_it_streams(target: Target, node: str, timeout_s: float) -> str:
    """Empty once it does; else, after timeout_s, what is missing."""
    deadline = time.monotonic() + timeout_s
    while True:
        missing = why_it_does_not_stream(ask_all(target, mark=False), node)
        if not missing or time.monotonic() >= deadline:
            return missing
        time.sleep(POLL_S)


def why_it_does_not_stream(views: list[NodeView], node: str) -> str:
    """Pure: by what the nodes answer."""
    view = next((one for one in views if one.node == node), None)
    if view is None or leading(views) is None:
        return f"{node} does not answer" if view is None else "no primary answers"
    if view.role != "standby":
        return f"{node} is {view.role}"
    alarms = "".join(f"; {alarm.text}" for alarm in view.alarms)
    if view.reseeding:
        return f"its copy of {', '.join(view.reseeding)} is being replaced{alarms}"
    row = lag_of(views, node)
    if row is None or not row.connected:
        return f"it is not connected to the primary{alarms}"
    return "" if row.streaming else f"{row.why_not or 'it does not stream every database'}{alarms}"

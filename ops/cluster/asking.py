"""What the verbs of this folder ask before they act: a node by its name, what each node knows of a failover, and the operator's yes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal
from ops.status import ASK_OPTIONS, PRIMARY, NodeView
from ops.target import Target

Command = TypeVar("Command", bound=Callable[..., Any])


def ask_options(command: Command) -> Command:
    """Adds --yes and --json to a verb."""
    command = click.option("--json", "as_json", is_flag=True, help="The outcome as JSON.")(command)
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)


def named(views: list[NodeView], node: str) -> NodeView:
    """The node of that name, which must answer."""
    for view in views:
        if view.reachable and view.node == node:
            return view
    names = ", ".join(view.node for view in views if view.reachable) or "none"
    silent = "".join(f"; {view.host} does not answer ({view.problem})" for view in views if not view.reachable)
    raise Refusal(f"no node {node!r} answers; nodes that do: {names}{silent}", ExitCode.UNREACHABLE)


def leading(views: list[NodeView]) -> NodeView | None:
    """The primary that answers, of the highest epoch where several say so."""
    return max((view for view in views if view.role == PRIMARY), key=lambda view: view.epoch, default=None)


def what_they_know(target: Target, views: list[NodeView]) -> dict[str, dict[str, Any]]:
    """By node: what a failover is decided by, of every node that answers."""
    from twinlog import TwinlogError  # late: --help must not pay for it

    found = {}
    for view in views:
        if view.reachable:
            try:
                with target.connect(**ASK_OPTIONS) as client:
                    found[view.node] = client.check(view.host)
            except TwinlogError as error:
                raise Refusal(f"{view.node} answers the status but not this: {error}", ExitCode.UNREACHABLE) from error
    return found

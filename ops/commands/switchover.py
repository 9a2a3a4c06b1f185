"""`twinlog switchover NODE`: give the primary's office to a standby, losing nothing, or change nothing."""

from __future__ import annotations

import json

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, confirm, refusals
from ops.status import PRIMARY, ask_all, print_nodes
from ops.target import resolve, target_options

TIMEOUT_S = 10.0


@click.command()
@click.argument("node")
@target_options
@click.option("--timeout", default=TIMEOUT_S, show_default=True, type=click.FloatRange(0.001, 600), metavar="SECONDS",
              help="How long NODE may take to reach the primary's position; writes wait meanwhile.")
@click.option("--automatic", is_flag=True, help="A program asks, not an operator: refused while the cluster is paused.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as JSON.")
def switchover(node: str, url: str | None, key_file: str | None, timeout: float, automatic: bool, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Make the standby NODE the primary, and the primary a standby.

    Writes are refused until NODE has every commit; then it takes over. Where it does not arrive in time, or something else stands in the way,
    nothing changes. Exit code 0: done, 1: refused, 3: a node is missing, 9: declined.
    """
    target = resolve(url, key_file)
    views = ask_all(target, mark=False)
    chosen = [view for view in views if view.reachable and view.node == node]
    leading = [view for view in views if view.role == PRIMARY]
    if not chosen or not leading:
        missing = "no primary answers" if not leading else f"no node {node!r} answers"
        raise Refusal(f"{missing}: a switchover needs both; see `twinlog status`", ExitCode.UNREACHABLE)
    if chosen[0].role == PRIMARY:
        click.echo(f"{node} is the primary already (epoch {chosen[0].epoch})")
        return
    if not as_json:
        print_nodes(views)
    if not yes:
        confirm(f"hand over from {leading[0].node} to {node}?")
    with refusals(), target.connect(retry_s=0) as client:
        outcome = client.switchover(node, timeout_s=timeout, automatic=automatic)
    if as_json:
        click.echo(json.dumps(outcome))
    else:
        click.echo(f"{outcome['primary']} is primary of epoch {outcome['epoch']}; no node took writes for {outcome['stopped_s'] * 1000:.0f} ms")

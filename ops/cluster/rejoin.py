"""`twinlog cluster rejoin NODE`: a fenced, frozen or stopped node follows the primary again."""

from __future__ import annotations

import json

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, confirm, finish, refusals
from ops.status import PRIMARY, ask_all, print_nodes
from ops.target import resolve, target_options

from .asking import ask_options, leading, named
from .streaming import wait_until_it_streams

TIMEOUT_S = 60.0


@click.command()
@click.argument("node")
@target_options
@click.option("--reseed", is_flag=True, help="Replace its copies from the primary; the old ones are kept in salvage.")
@click.option("--timeout", default=TIMEOUT_S, show_default=True, type=click.FloatRange(0, 86_400), metavar="SECONDS", help="How long to wait until it follows.")
@ask_options
def rejoin(node: str, url: str | None, key_file: str | None, reseed: bool, timeout: float, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Bring NODE back as a standby: a fence ends, copies that were stopped are compared anew, its links are dialled anew.

    What it has and the primary never had is cut off and kept in salvage. Exit code 0: it follows with every database, 1: refused, or it
    does not follow within --timeout (the message says why), 3: NODE or the primary does not answer, 9: declined.
    """
    target = resolve(url, key_file)
    views = ask_all(target, mark=False)
    chosen, primary = named(views, node), leading(views)
    if chosen.role == PRIMARY:
        raise Refusal(f"{node} is the primary: `twinlog cluster switchover` to another one, or fence it, first")
    if primary is None:
        raise Refusal("no primary answers: `twinlog cluster failover` first, or `unfence` to give this node back what it was", ExitCode.UNREACHABLE)
    if not as_json:
        print_nodes(views)
    if not yes:
        copies = "; its copies are replaced, the old ones kept in salvage" if reseed else "; commits that the primary never had are cut off and kept in salvage"
        confirm(f"{node} ({chosen.role}) follows {primary.node}{copies}?")
    with refusals(), target.connect(retry_s=0) as client:
        answer = client.rejoin(chosen.host, reseed=reseed)
    report(node, answer, wait_until_it_streams(target, node, timeout), timeout, as_json=as_json)


def report(node: str, answer: dict[str, object], missing: str, timeout: float, *, as_json: bool) -> None:
    """Shows the outcome, and finishes with its code."""
    if as_json:
        click.echo(json.dumps({"node": node, **answer, "streams": not missing, "why_not": missing}))
    elif missing:
        click.echo(f"! {node} does not follow with every database after {timeout:g} s: {missing}", err=True)
    else:
        click.echo(f"{node} follows the primary with every database")
    finish(ExitCode.FAILED if missing else ExitCode.OK)

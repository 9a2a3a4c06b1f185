"""`twinlog cluster fence NODE`: a node out of the cluster's work, until an operator lets it back."""

from __future__ import annotations

import json

import click

from ops.refusal import confirm, refusals
from ops.status import PRIMARY, ask_all, print_nodes
from ops.target import resolve, target_options

from .asking import ask_options, named


@click.command()
@click.argument("node")
@target_options
@click.option("--why", default="", help="The reason, kept with the role and shown.")
@ask_options
def fence(node: str, url: str | None, key_file: str | None, why: str, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Keep NODE from taking writes, leading, following and being promoted; it is still read.

    It stays so over restarts until `unfence` or `rejoin`. A primary first gives its standbys what they lack, for two seconds at most.
    Exit code 0: fenced, 1: refused, 3: NODE does not answer, 9: declined.
    """
    target = resolve(url, key_file)
    views = ask_all(target, mark=False)
    chosen = named(views, node)
    if chosen.role == "fenced":
        click.echo(json.dumps({"node": node, "role": "fenced", "epoch": chosen.epoch}) if as_json else f"{node} is fenced already: {chosen.why}")
        return
    if not as_json:
        print_nodes(views)
    if not yes:
        what = "no node takes writes then, until you promote another one" if chosen.role == PRIMARY else "it follows the primary no longer"
        confirm(f"fence {node}? It is {chosen.role}: {what}")
    with refusals(), target.connect(retry_s=0) as client:
        answer = client.fence(chosen.host, why)
    if as_json:
        click.echo(json.dumps({"node": node, **answer}))
        return
    lacking = "".join(f"; {name} lacks {count} commits" if count else f"; {name} has every commit" for name, count in answer["lacking"].items())
    click.echo(f"{node} is fenced (epoch {answer['epoch']}), it was {answer['was']}{lacking}")
    if answer["was"] == PRIMARY:
        click.echo(f"next: `twinlog cluster failover`, or `twinlog cluster unfence {node}` to give the office back")

"""`twinlog cluster unfence NODE`: a fenced node back to work, as what it was."""

from __future__ import annotations

import json

import click

from ops.refusal import confirm, refusals
from ops.status import PRIMARY, ask_all, print_nodes
from ops.target import resolve, target_options

from .asking import ask_options, leading, named


@click.command()
@click.argument("node")
@target_options
@ask_options
def unfence(node: str, url: str | None, key_file: str | None, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """End the fence of NODE: primary again where it was and nobody else has taken the office since, else a standby.

    Exit code 0: done, or it was not fenced, 1: refused, 3: NODE does not answer, 9: declined.
    """
    target = resolve(url, key_file)
    views = ask_all(target, mark=False)
    chosen = named(views, node)
    if chosen.role != "fenced":
        click.echo(json.dumps({"node": node, "role": chosen.role, "epoch": chosen.epoch}) if as_json else f"{node} is not fenced, it is {chosen.role}")
        return
    if not as_json:
        print_nodes(views)
    if not yes:
        other = leading(views)
        becomes = f"primary of epoch {chosen.epoch} again" if chosen.was == PRIMARY else "a standby"
        beside = f"; {other.node} leads epoch {other.epoch} and they have not met: the lower epoch steps down" if other and chosen.was == PRIMARY else ""
        confirm(f"unfence {node}? It becomes {becomes}{beside}")
    with refusals(), target.connect(retry_s=0) as client:
        answer = client.unfence(chosen.host)
    click.echo(json.dumps({"node": node, **answer}) if as_json else f"{node} is {answer['role']} of epoch {answer['epoch']}")

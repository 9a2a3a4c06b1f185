"""`twinlog promote NODE`: make a standby the primary of a new epoch.

Knows how to show what will happen and to ask; whether it may happen is the node's own decision.
"""

from __future__ import annotations

import click

from ops.cluster.asking import named
from ops.refusal import confirm, refusals
from ops.status import NodeView, ask_all, print_nodes
from ops.target import resolve, target_options


@click.command()
@click.argument("node")
@target_options
@click.option("--force", is_flag=True, help="Even if commits are known to be missing there: they are lost.")
@click.option("--automatic", is_flag=True, help="A program asks, not an operator: refused while the cluster is paused.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def promote(node: str, url: str | None, key_file: str | None, force: bool, automatic: bool, yes: bool) -> None:  # noqa: FBT001
    """Make NODE the primary. The others follow it; an old primary that comes back rewinds to what they share.

    Refused when NODE is known to lack commits, unless --force. The answer says how many commits may be lost.
    """
    target = resolve(url, key_file)
    views = ask_all(target, mark=False)
    chosen = named(views, node)
    if chosen.role == "primary":
        click.echo(f"{node} is the primary already (epoch {chosen.epoch})")
        return
    print_nodes(views)
    if not yes:
        confirm(question(views, chosen, force=force))
    with refusals(), target.connect() as client:
        answer = client.promote(chosen.host, force=force, automatic=automatic)
    click.echo(in_words(chosen, answer))


def question(views: list[NodeView], chosen: NodeView, *, force: bool) -> str:
    """What is asked before it is done."""
    old = ", ".join(view.node for view in views if view.reachable and view.role == "primary")
    what = f"promote {chosen.node}" + (f" in place of {old}" if old else "; no primary answers")
    return f"{what}{', losing what it lacks' if force else ''}?"


def in_words(chosen: NodeView, answer: dict) -> str:
    """The node's answer as one line; what it had heard of and lacked is what a forced promotion gives up."""
    behind = chosen.behind
    loss = f"up to {behind} commits that it had heard of are lost" if behind else "it had every commit that it had heard of"
    return f"{chosen.node} is primary of epoch {answer['epoch']}; {loss}"

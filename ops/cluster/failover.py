"""`twinlog cluster failover [NODE]`: a standby takes the office of a primary that does not answer, or must be replaced."""

from __future__ import annotations

import json

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, confirm, refusals
from ops.status import NodeView, ask_all, print_nodes
from ops.target import resolve, target_options

from .asking import ask_options, leading, named, what_they_know
from .takeover import Candidate, candidates, why_chosen


@click.command()
@click.argument("node", required=False)
@target_options
@click.option("--force", is_flag=True, help="Even if NODE lags, seeds or is delayed, or a primary answers: what it lacks is lost.")
@click.option("--automatic", is_flag=True, help="A program asks, not an operator: refused while the cluster is paused.")
@ask_options
def failover(node: str | None, url: str | None, key_file: str | None, force: bool, automatic: bool, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Make the standby NODE the primary; without NODE, the one that lacks least.

    Says before what NODE is known to lack and how old that knowledge is. Refused for a standby that lags, seeds or is delayed, and while a
    primary answers, unless --force; never done to a fenced one. Exit code 0: done, 1: refused, 3: nobody to promote answers, 9: declined.
    """
    target = resolve(url, key_file)
    views = ask_all(target, mark=False)
    if not as_json:
        print_nodes(views)
    chosen, because = choose(views, candidates(views, what_they_know(target, views)), node)
    check(views, chosen, force=force)
    if not as_json:
        click.echo(f"{chosen.node}: {because + '; ' if because else ''}{chosen.knowledge()}")
    if not yes:
        old = leading(views)
        confirm(f"promote {chosen.node}{f' in place of {old.node}' if old else '; no primary answers'}{', losing what it lacks' if chosen.lacks else ''}?")
    with refusals(), target.connect(retry_s=0) as client:
        answer = client.promote(chosen.host, force=force, automatic=automatic)
    if as_json:
        click.echo(json.dumps({"primary": chosen.node, "epoch": answer["epoch"], "because": because, "may_be_lost": chosen.lacks, "known": chosen.as_json()}))
    else:
        loss = f"{chosen.lacks} commits that it lacked may be lost" if chosen.lacks else "no commit that is known of is lost"
        click.echo(f"{chosen.node} is primary of epoch {answer['epoch']}; {loss}. The others follow it; an old primary that comes back rewinds")


def choose(views: list[NodeView], ordered: list[Candidate], node: str | None) -> tuple[Candidate, str]:
    """The standby, and why it was picked; empty where the operator named it."""
    if node is not None:
        view = named(views, node)
        for one in ordered:
            if one.node == view.node:
                return one, ""
        raise Refusal(f"{node} is the primary already (epoch {view.epoch})")
    free = [one for one in ordered if not one.fenced]
    if not free:
        raise Refusal("no standby that could be promoted answers; see `twinlog cluster check`", ExitCode.UNREACHABLE)
    return free[0], f"chosen because {why_chosen(free[0], ordered[1:])}"


def check(views: list[NodeView], chosen: Candidate, *, force: bool) -> None:
    """Raises a Refusal that says what stands in the way and what to do instead."""
    if chosen.fenced:
        raise Refusal(f"{chosen.node} is fenced and is not promoted, not by force either: `twinlog cluster unfence {chosen.node}` first")
    if force:
        return
    old = leading(views)
    if old is not None:
        raise Refusal(
            f"{old.node} is primary and answers: `twinlog cluster switchover {chosen.node}` loses nothing; to replace it all the same, "
            f"`twinlog cluster fence {old.node}` first, or --force"
        )
    if chosen.why_not:
        raise Refusal(f"{chosen.node} should not lead: {chosen.why_not}; another one, or --force")
    if chosen.lacks:
        raise Refusal(f"{chosen.node}: {chosen.knowledge()}; another one, or --force, and they are lost")

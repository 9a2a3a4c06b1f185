"""`twinlog cluster check`: could we fail over now, and what would be lost?"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, finish
from ops.status import NodeView, ask_all
from ops.tables import number, print_table, yes_no
from ops.target import resolve, target_options

from .asking import leading, what_they_know
from .takeover import Verdict, protects, verdicts


@click.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON.")
def check(url: str | None, key_file: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Whether each standby could take over now, why not, and how many commits it lacks; changes nothing.

    Exit code 0: at least one standby could take over and no acknowledged write would be lost, 12: none could, with the reasons,
    3: no node answers.
    """
    target = resolve(url, key_file)
    views = ask_all(target, mark=False)
    if not any(view.reachable for view in views):
        raise Refusal(f"no node answers: {'; '.join(f'{view.host}: {view.problem}' for view in views)}", ExitCode.UNREACHABLE)
    known = what_they_know(target, views)
    rows, protected, primary = verdicts(views, known), protects(views, known), leading(views)
    good, reasons = judge(rows, protected=protected)
    paused = next((view.paused for view in views if view.paused), None)
    if as_json:
        told = {"ok": good, "primary": primary.node if primary else None, "protected": protected, "paused": paused, "reasons": reasons}
        click.echo(json.dumps({**told, "standbys": [asdict(row) for row in rows]}))
    else:
        print_table("standbys", ("node", "could take over", "lacks commits>", "why"), [[row.node, yes_no(row.could), number(row.lost), row.why] for row in rows])
        click.echo(in_words(primary, protected=protected, paused=paused))
        for reason in reasons:
            click.echo(f"! {reason}", err=True)
    finish(ExitCode.OK if good else ExitCode.NO_STANDBY)


def judge(rows: list[Verdict], *, protected: bool) -> tuple[bool, list[str]]:
    """Pure. Without loss: a standby that lacks nothing; or any that could lead where acknowledged writes wait for standbys, since what the
    most advanced of them lacks was never acknowledged."""
    able = [row for row in rows if row.could]
    if any(row.lost == 0 for row in able) or (able and protected):
        return True, []
    if not rows:
        return False, ["there is no standby"]
    reasons = [f"{row.node} could not take over: {row.why}" for row in rows if not row.could]
    reasons += [f"{row.node} lacks {number(row.lost)} commits, and nothing says that they were not acknowledged (acks: 0)" for row in able]
    return False, reasons


def in_words(primary: NodeView | None, *, protected: bool, paused: dict[str, object] | None) -> str:
    """What holds for the cluster as a whole."""
    lines = [f"primary: {primary.node} (epoch {primary.epoch})" if primary else "primary: none answers"]
    lines.append("acknowledged writes: " + ("each is on a standby" if protected else "may be on the primary alone (acks, on_ack_timeout)"))
    lines.append(f"paused: {paused['why'] or 'yes'}, so programs may not promote" if paused else "paused: no")
    return "\n".join(lines)

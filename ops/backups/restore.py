"""`twinlog backup restore NAME`: put a backup in the place of a database, on every node, or beside it under a new name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, confirm, finish
from ops.tables import short_hash

from .asking import asked, backup_options, tell

WAIT_S = 60.0


@click.command()
@click.argument("name", default="")
@backup_options
@click.option("--to-time", metavar="TIME", help="Carry it forward by the log archive to the last commit at or before TIME: 2026-01-31T12:00:00, UTC unless it says +01:00.")
@click.option("--to-position", type=click.IntRange(min=0), metavar="SEQ", help="The same, to a commit.")
@click.option("--to-latest", is_flag=True, help="The same, to the newest commit in the archive.")
@click.option("--explain", is_flag=True, help="With one of these: say what would be used and what it would undo, and do nothing.")
@click.option("--as", "new_name", default="", metavar="DATABASE", help="Beside it, as a new database of that name; nothing is replaced.")
@click.option("--wait", "wait_s", default=WAIT_S, show_default=True, type=click.FloatRange(0, 86_400), metavar="SECONDS",
              help="How long to wait for the standbys to reach it.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the standbys; they follow by themselves.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(
    name: str, url: str | None, key_file: str | None, database: str | None, as_json: bool, new_name: str,  # noqa: FBT001
    wait_s: float, no_wait: bool, yes: bool, to_time: str | None, to_position: int | None, to_latest: bool, explain: bool,  # noqa: FBT001
) -> None:
    """Restore the backup NAME from the primary's shelf. What is there now becomes a safety snapshot; restoring that one undoes it.

    With --to-time, --to-position or --to-latest the backup is carried forward by the log archive (setting `archive`); without NAME by the newest backup
    that leads there.

    The backup is verified before anything is touched, and the standbys follow by themselves. Exit code 0: restored, and every node that was there has
    the same state hash; 3: restored, but a node is missing; 4: a node differs; 1: refused, and nothing was touched; 9: declined.
    """
    to = moment(to_time, to_position, to_latest=to_latest)
    if to is None and (explain or not name):
        raise Refusal("name a backup (`twinlog backup list`), or a moment: --to-time, --to-position or --to-latest", ExitCode.USAGE)
    with asked(url, key_file, database) as db:
        if to is not None:
            plan = db.restore_backup(name, to=to, explain=True)
            name = plan["backup"]
            if explain or not as_json:
                click.echo(json.dumps(plan, indent=2) if as_json else in_words(plan), err=not explain)
            if explain:
                return
        if not yes and not new_name:
            confirm(f"replace what is in {db.name} now by {name}{'' if to is None else ', carried forward,'} on every node?")
        done = db.restore_backup(name, to=to, new_name=new_name, wait_s=0 if no_wait else wait_s, told=tell(as_json))
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        show(done)
    code = verdict(done)
    if code is ExitCode.UNEQUAL and not as_json:
        raise Refusal("nodes differ at one MARK: see `twinlog status`", code)
    finish(code)


def moment(to_time: str | None, to_position: int | None, *, to_latest: bool) -> str | int | datetime | None:
    """Where it shall lead, as the client takes it; None: nowhere."""
    if sum((to_time is not None, to_position is not None, to_latest)) > 1:
        raise Refusal("--to-time, --to-position and --to-latest: one of them", ExitCode.USAGE)
    if to_time is not None:
        try:
            return datetime.fromisoformat(to_time)
        except ValueError:
            raise Refusal(f"--to-time {to_time!r}: a time is 2026-01-31T12:00:00 or 2026-01-31T12:00:00+01:00", ExitCode.USAGE) from None
    return "latest" if to_latest else to_position


def in_words(plan: dict[str, Any]) -> str:
    """What a restore to a moment would do."""
    when = f"{datetime.fromtimestamp(plan['time_us'] / 1e6, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    undone = f"{plan['undone']:,} commits made since then would be undone" if plan["undone"] else "nothing that is there would be undone"
    return (
        f"{plan['db']}: {plan['backup']} (commit {plan['from_seq']}) and {plan['commits']:,} commits of the archive "
        f"({plan['bytes']:,} bytes, {plan['files']} files) lead to commit {plan['seq']}, of {when}; {undone}; {_how_long(plan)}"
    )


def _how_long(plan: dict[str, Any]) -> str:
    if plan.get("seconds") is None:  # no sample could be taken, or an older primary
        return "how long it takes cannot be told"
    return f"it would copy {plan['backup_bytes']:,} bytes and take about {plan['seconds']:g} s on the primary"


def show(done: dict[str, Any]) -> None:
    """What was done, and where everybody is."""
    click.echo(f"{done['db']} is at commit {done['seq']} of {done['backup']} (epoch {done['epoch']}, {done['seconds']:.1f} s)")
    if done["safety"]:
        click.echo(f"what was there is {done['safety']}")
    elif done["salvaged"]:
        click.echo(f"what was there is damaged; its files are in {done['salvaged']}")
    standbys = done["standbys"] or {"nodes": {}, "missing": {}}
    for node, digest in standbys["nodes"].items():
        click.echo(f"{node}: {short_hash(digest)}")
    for node, why in standbys["missing"].items():
        click.echo(f"! {node}: {why}", err=True)


def verdict(done: dict[str, Any]) -> ExitCode:
    """Of a restore that was done."""
    standbys = done["standbys"]
    if standbys is None:
        return ExitCode.OK
    if standbys["equal"] is False:
        return ExitCode.UNEQUAL
    return ExitCode.UNREACHABLE if standbys["missing"] else ExitCode.OK

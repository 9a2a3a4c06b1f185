"""`twinlog backup restore NAME`: put a backup in the place of a database, on every node, or beside it under a new name."""

from __future__ import annotations

import json
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, finish
from ops.tables import short_hash

from .asking import asked, backup_options, confirm, tell

WAIT_S = 60.0


@click.command()
@click.argument("name")
@backup_options
@click.option("--as", "new_name", default="", metavar="DATABASE", help="Beside it, as a new database of that name; nothing is replaced.")
@click.option("--wait", "wait_s", default=WAIT_S, show_default=True, type=click.FloatRange(0, 86_400), metavar="SECONDS",
              help="How long to wait for the standbys to reach it.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the standbys; they follow by themselves.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(
    name: str, url: str | None, key_file: str | None, database: str | None, as_json: bool, new_name: str,  # noqa: FBT001
    wait_s: float, no_wait: bool, yes: bool,  # noqa: FBT001
) -> None:
    """Restore the backup NAME from the primary's shelf. What is there now becomes a safety snapshot; restoring that one undoes it.

    The backup is verified before anything is touched, and the standbys follow by themselves. Exit code 0: restored, and every node that was there has
    the same state hash; 3: restored, but a node is missing; 4: a node differs; 1: refused, and nothing was touched; 9: declined.
    """
    with asked(url, key_file, database) as db:
        if not yes and not new_name:
            confirm(f"replace what is in {db.name} now by {name}, on every node?")
        done = db.restore_backup(name, new_name=new_name, wait_s=0 if no_wait else wait_s, told=tell(as_json))
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        show(done)
    code = verdict(done)
    if code is ExitCode.UNEQUAL and not as_json:
        raise Refusal("nodes differ at one MARK: see `twinlog status`", code)
    finish(code)


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

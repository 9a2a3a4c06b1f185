"""`twinlog backup status`: the schedule, the last backup, the last one that was proven, the last failure."""

from __future__ import annotations

import json
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import finish
from ops.tables import NOTHING, yes_no

from .asking import asked, backup_options, how, node_option


@click.command()
@backup_options
@node_option
def status(url: str | None, key_file: str | None, database: str | None, as_json: bool, node: str | None) -> None:  # noqa: FBT001
    """Show how a database is backed up and what came of it. Exit code 1: the last backup by schedule failed."""
    with asked(url, key_file, database) as db:
        found = db.backup_status(node)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(db.name, found)
    finish(ExitCode.FAILED if found["last_failure"] else ExitCode.OK)


def show(name: str, found: dict[str, Any]) -> None:
    """One line a fact."""
    last, proven, failure = found["last_backup"], found["last_proven"], found["last_failure"]
    lines = {
        "database": name,
        "enabled": yes_no(found["enabled"]),
        "every": f"{found['interval_minutes']} min" if found["enabled"] else NOTHING,
        "max copies": str(found["max_copies"] or "all are kept"),
        "full": "every one" if found["full_every"] == 1 else f"one of {found['full_every']}, the others incremental",
        "path": found["backup_path"],
        "backups": f"{found['total_backups']}, and {found['safety_snapshots']} safety snapshots",
        "last": f"{last['name']} ({'cannot be read' if 'problem' in last else how(last)})" if last else "none",
        "last proven": f"{proven['name']} at {proven['at']}" if proven else "none",
        "next": found["next_backup_at"] or NOTHING,
        "running": yes_no(found["running"]),
        "last failure": f"{failure['at']}: {failure['why']}" if failure else "none",
    }
    for key, value in lines.items():
        click.echo(f"{key:<13} {value}")

"""`twinlog backup delete NAME`: one backup, or one safety snapshot, and no more."""

from __future__ import annotations

import json

import click

from ops.refusal import confirm

from .asking import asked, backup_options, node_option


@click.command()
@click.argument("name")
@backup_options
@node_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, url: str | None, key_file: str | None, database: str | None, as_json: bool, node: str | None, yes: bool) -> None:  # noqa: FBT001
    """Delete the backup NAME. Exit code 1: there is none of that name, 9: declined."""
    with asked(url, key_file, database) as db:
        if not yes:
            confirm(f"delete {name} of {db.name} for good?")
        db.delete_backup(name, node)
    click.echo(json.dumps({"deleted": name}) if as_json else f"{db.name}: {name} is deleted")

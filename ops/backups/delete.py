"""`twinlog backup delete NAME`: one backup or safety snapshot, and those that need it only when that is said."""

from __future__ import annotations

import json

import click

from ops.refusal import confirm

from .asking import asked, backup_options, node_option


@click.command()
@click.argument("name")
@backup_options
@node_option
@click.option("--with-dependents", is_flag=True, help="Also the incremental backups that need it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, url: str | None, key_file: str | None, database: str | None, as_json: bool, node: str | None, with_dependents: bool, yes: bool) -> None:  # noqa: FBT001
    """Delete the backup NAME. Exit code 1: there is none of that name, or incremental ones need it and are named; 9: declined."""
    with asked(url, key_file, database) as db:
        if not yes:
            confirm(f"delete {name}{' and all that need it' if with_dependents else ''} of {db.name} for good?")
        gone = db.delete_backup(name, node, with_dependents=with_dependents)
    click.echo(json.dumps({"deleted": name, "all": gone}) if as_json else f"{db.name}: {', '.join(gone)} {'is' if len(gone) == 1 else 'are'} deleted")

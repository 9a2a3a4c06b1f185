"""`twinlog backup prune`: what of the log archive no backup needs any more."""

from __future__ import annotations

import json
from typing import Any

import click

from ops.refusal import confirm
from ops.tables import size

from .asking import asked, backup_options, tell


@click.command()
@backup_options
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(url: str | None, key_file: str | None, database: str | None, as_json: bool, dry_run: bool, yes: bool) -> None:  # noqa: FBT001
    """Remove the files of the log archive that no backup or safety snapshot on the primary's shelf needs.

    Nothing goes while no backup there is sound. Backups on other nodes' shelves are not seen: what only those need goes too. Exit code 0: done,
    or there is nothing to do; 1: no archive is kept; 9: declined.
    """
    with asked(url, key_file, database) as db:
        found = db.prune_archive(dry_run=True, told=tell(as_json))
        if not dry_run and found["files"]:
            if not yes:
                confirm(f"remove {in_words(found)} from the log archive of {db.name} for good?")
            found = db.prune_archive(told=tell(as_json))
    if as_json:
        click.echo(json.dumps({**found, "dry_run": dry_run}, indent=2))
    elif found["why_not"]:
        click.echo(f"{db.name}: nothing goes: {found['why_not']}")
    elif not found["files"]:
        click.echo(f"{db.name}: nothing to prune: all of the archive is after commit {found['seq']} of {found['needed_by']}")
    else:
        click.echo(f"{db.name}: {'would remove' if dry_run else 'removed'} {in_words(found)}")


def in_words(found: dict[str, Any]) -> str:
    return f"{found['files']} files ({size(found['bytes'])}) up to commit {found['seq']}, where {found['needed_by']} begins"

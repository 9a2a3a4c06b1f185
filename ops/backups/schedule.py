"""`twinlog backup schedule`: backups by themselves, by whichever node is primary."""

from __future__ import annotations

import json

import click

from .asking import asked, backup_options
from .status import show


@click.command()
@backup_options
@click.option("--interval-minutes", type=click.IntRange(1, 525_600), help="Minutes between two backups.")
@click.option("--max-copies", type=click.IntRange(0, 100_000), help="Older ones go; 0 keeps all.")
@click.option("--path", help="An absolute directory of every node that may be primary, or s3://BUCKET/PREFIX; '' for the default, _backups/<db> below its data.")
@click.option("--full-every", type=click.IntRange(1, 500), help="Of so many backups one is full, the others are incremental; 1: every one is full.")
@click.option("--enabled/--disabled", default=None, help="Disabling deletes no backup.")
@click.option("--show", "only_show", is_flag=True, help="Change nothing.")
def schedule(
    url: str | None, key_file: str | None, database: str | None, as_json: bool,  # noqa: FBT001
    interval_minutes: int | None, max_copies: int | None, path: str | None, full_every: int | None, enabled: bool | None, only_show: bool,  # noqa: FBT001
) -> None:
    """Change how a database is backed up by itself, and show it. What is not named stays as it is; the first time it is enabled."""
    with asked(url, key_file, database) as db:
        found = db.backup_status()
        if not only_show:
            given = {"interval_minutes": interval_minutes, "max_copies": max_copies, "path": path, "full_every": full_every, "enabled": enabled}
            default = f"_backups/{db.name}"
            held = {
                "interval_minutes": found["interval_minutes"],
                "max_copies": found["max_copies"],
                "path": "" if found["backup_path"] == default else found["backup_path"],
                "full_every": found["full_every"],
                "enabled": True if enabled is None else enabled,
            }
            found = db.schedule_backups(**{**held, **{key: value for key, value in given.items() if value is not None}})
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(db.name, found)

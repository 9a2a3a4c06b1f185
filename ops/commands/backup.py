"""`twinlog backup VERB`: gathers the verbs of ops/backups. Knows their names and nothing of what they do."""

from __future__ import annotations

import click

from ops.backups import delete, keygen, listing, now, restore, schedule, status, verify


@click.group()
def backup() -> None:
    """Make, list, verify, schedule, restore and delete backups."""


for verb in (now.now, listing.list_, status.status, schedule.schedule, verify.verify, restore.restore, delete.delete, keygen.keygen):
    backup.add_command(verb)

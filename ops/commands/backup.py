"""`twinlog backup VERB`: gathers the verbs of ops/backups. Knows their names and nothing of what they do."""

from __future__ import annotations

import click

from ops.backups import delete, get, keygen, listing, now, prune, restore, schedule, status, verify


@click.group()
def backup() -> None:
    """Make, list, verify, read, schedule, restore and delete backups."""


VERBS = (
    now.now, listing.list_, status.status, schedule.schedule, verify.verify, get.get, restore.restore, delete.delete, prune.prune, keygen.keygen,
)  # fmt: skip

for verb in VERBS:
    backup.add_command(verb)

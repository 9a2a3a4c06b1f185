"""`twinlog backup verify NAME`: could it be restored?"""

from __future__ import annotations

import json

import click

from ops.exit_codes import ExitCode
from ops.refusal import finish
from ops.tables import print_table

from .asking import asked, backup_options, node_option, tell


@click.command()
@click.argument("name")
@backup_options
@node_option
@click.option("--level", type=click.Choice(("manifest", "bytes", "content")), default="content", show_default=True,
              help="Names and sizes; every byte; every document and the state hash they come to.")
def verify(
    name: str, url: str | None, key_file: str | None, database: str | None, as_json: bool, node: str | None, level: str,  # noqa: FBT001
) -> None:
    """Hold the backup NAME against its manifest. Exit code 0: it can be restored, 7: it cannot, 1: there is none of that name."""
    with asked(url, key_file, database) as db:
        found = db.verify_backup(name, node, level=level, told=tell(as_json))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found["good"]:
        click.echo(f"{db.name}: {name} is good ({level})")
    else:
        rows = [[row["severity"], row["file"], row["what"], row["next_step"]] for row in found["findings"]]
        print_table(f"{name} is no good", ("severity", "file", "what", "next step"), rows)
        if found["findings_left_out"]:
            click.echo(f"and {found['findings_left_out']} more")
    finish(ExitCode.OK if found["good"] else ExitCode.FINDINGS)

"""`twinlog backup now`: a backup of one database, or of all."""

from __future__ import annotations

import json
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import finish, refusals
from ops.target import database_name, resolve

from .asking import backup_options, how, node_option, tell


@click.command()
@backup_options
@node_option
@click.option("--all", "every", is_flag=True, help="Every database, Twinlog's own _system too.")
@click.option("--incremental", is_flag=True, help="Only bytes that no earlier backup on the shelf holds; it needs those then.")
@click.option("--verify", is_flag=True, help="Read it again at once, down to its documents.")
def now(
    url: str | None, key_file: str | None, database: str | None, as_json: bool, node: str | None,  # noqa: FBT001
    every: bool, incremental: bool, verify: bool,  # noqa: FBT001
) -> None:
    """Make a backup now, beside whatever schedule there is; reads and writes go on.

    With --incremental and no sound backup to stand on, a full one is made, and the answer says so.

    Exit code 0: all were made (and verified), 1: none, 5: some were not and each is named, 7: one is not what it should be, 3: no node answers.
    """
    target = resolve(url, key_file)
    made: list[dict[str, Any]] = []
    failed: list[str] = []
    with refusals(), target.connect() as client:
        names = sorted(client.status(node)["databases"]) if every else [database_name(target, database)]
        for name in names:
            try:
                with refusals():
                    row = client[name].backup(node, incremental=incremental, told=tell(as_json))
                    if verify:
                        row["verified"] = client[name].verify_backup(row["name"], node, told=tell(as_json))
                made.append(row)
            except click.ClickException as error:
                if not every or error.exit_code == ExitCode.UNREACHABLE:
                    raise
                failed.append(f"{name}: {error.message}")
    for problem in failed:
        click.echo(f"twinlog: {problem}", err=True)
    if as_json:
        click.echo(json.dumps({"made": made, "failed": failed}, indent=2))
    else:
        for row in made:
            seen = "" if not row["verified"] else ", verified" if row["verified"]["good"] else ", and it is no good: see `twinlog backup verify`"
            click.echo(f"{row['database']}: {row['name']} ({how(row)}, commit {row['seq']}) in {row['path']}{seen}")
            if incremental and row["kind"] == "full":
                click.echo(f"twinlog: {row['database']}: no earlier backup there is sound, so it is a full one", err=True)
    finish(verdict(made, failed))


def verdict(made: list[dict[str, Any]], failed: list[str]) -> ExitCode:
    if any(row["verified"] and not row["verified"]["good"] for row in made):
        return ExitCode.FINDINGS
    if not failed:
        return ExitCode.OK
    return ExitCode.PARTIAL if made else ExitCode.FAILED

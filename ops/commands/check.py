"""`twinlog check DIR`: storage's checker over a data directory, offline, as a table or JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ops.exit_codes import ExitCode
from ops.refusal import finish, refusals
from ops.tables import print_table


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One finding a line, as JSON.")
def check(directory: Path, as_json: bool) -> None:  # noqa: FBT001
    """Verify every byte below DIRECTORY: a node's data directory, a database in it, or a copy of either.

    Reads only, needs no node, and is best run on a stopped node or a copy. Exit code 0: clean, 7: findings.
    """
    from storage import check_directory  # late: --help must not pay for the engine

    with refusals():
        findings = list(check_directory(directory))
    if as_json:
        for finding in findings:
            click.echo(json.dumps(finding.as_dict()))
    elif findings:
        print_table(f"{len(findings)} findings", ("severity", "file", "offset>", "what", "next step"),
                    [[str(cell) for cell in finding.as_row()] for finding in findings])
    else:
        click.echo(f"{directory}: clean")
    finish(ExitCode.FINDINGS if findings else ExitCode.OK)

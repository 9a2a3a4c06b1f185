"""`twinlog compact [DATABASE]`: rewrite the primary's files without what is stale, and say what that saved."""

from __future__ import annotations

import json
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, finish, refusals
from ops.tables import number, print_table, seconds, size
from ops.target import resolve, target_options


@click.command()
@click.argument("database", required=False)
@target_options
@click.option("--json", "json_wanted", is_flag=True, help="As JSON, one member a database.")
def compact(database: str | None, url: str | None, key_file: str | None, json_wanted: bool) -> None:  # noqa: FBT001
    """Compact DATABASE, or all, on the primary. Reads and writes go on meanwhile.

    Each node compacts its own files, by itself unless --no-compaction; this verb does it now, whatever the limits are.
    Exit code 1: something was left as it is, and the output says why.
    """
    with refusals(), resolve(url, key_file).connect() as client:
        names = client.list_database_names()
        if database is not None and database not in names:
            raise Refusal(f"there is no database {database!r}; there are: {', '.join(names) or 'none'}", ExitCode.NOT_FOUND)
        reports = {name: client[name].compact() for name in ([database] if database is not None else names)}
    if json_wanted:
        click.echo(json.dumps(reports, indent=2))
    else:
        print_table("compacted", ("database", "before>", "after>", "shards>", "time>"), [row(*item) for item in reports.items()])
    problems = [f"{name}: {finding}" for name, report in reports.items() for finding in report["findings"]]
    for problem in problems:
        click.echo(f"! {problem}", err=True)
    finish(ExitCode.FAILED if problems else ExitCode.OK)


def row(name: str, report: dict[str, Any]) -> tuple[str, ...]:
    return name, size(report["before"]), size(report["after"]), number(report["shards"]), seconds(report["seconds"])

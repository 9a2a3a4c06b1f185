"""`twinlog status`: every node side by side, and whether their content is equal at one and the same commit."""

from __future__ import annotations

import json

import click

from ops.refusal import finish
from ops.status import (
    as_json,
    ask_all,
    print_databases,
    print_nodes,
    print_pause,
    print_transactions,
    verdict,
)
from ops.target import resolve, target_options


@click.command()
@target_options
@click.option("--json", "json_wanted", is_flag=True, help="Everything, with full hashes.")
@click.option("--no-mark", is_flag=True, help="Do not write a MARK: no comparison, nothing is written.")
def status(url: str | None, key_file: str | None, json_wanted: bool, no_mark: bool) -> None:  # noqa: FBT001
    """Roles, epochs, positions, lag, and chain and state hash of every node at the same commit.

    The comparison is made at a MARK that the primary writes now. Exit code 0: all answer and are equal, 3: a node is
    missing, 4: two copies differ, 1: another alarm stands.
    """
    views = ask_all(resolve(url, key_file), mark=not no_mark)
    code, problems = verdict(views)
    if json_wanted:
        click.echo(json.dumps(as_json(views), indent=2))
    else:
        print_nodes(views)
        print_pause(views)
        click.echo()
        print_databases(views)
        print_transactions(views)
        for problem in problems:
            click.echo(f"! {problem}", err=True)
    finish(code)

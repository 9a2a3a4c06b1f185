"""`twinlog cluster pause`: maintenance mode; what automation asks for is refused on every node."""

from __future__ import annotations

import json
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import finish, refusals
from ops.target import resolve, target_options


@click.command()
@target_options
@click.option("--why", default="", help="The reason, shown in the status and in each refusal.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as JSON.")
def pause(url: str | None, key_file: str | None, why: str, as_json: bool) -> None:  # noqa: FBT001
    """Refuse promotions and switchovers that programs ask for, until `resume`. Your own commands work.

    One node is told and tells the others. Exit code 0: all nodes know, 5: some learn it when they come back, 3: no node answers.
    """
    with refusals(), resolve(url, key_file).connect() as client:
        answer = client.pause(why)
    told(answer, "paused", as_json=as_json)


def told(answer: dict[str, Any], now: str, *, as_json: bool) -> None:
    """Shows the outcome of a pause or of its end, and finishes with its code."""
    if as_json:
        click.echo(json.dumps(answer))
    else:
        missing = f"; not reached, told when they come back: {', '.join(answer['missing'])}" if answer["missing"] else ""
        click.echo(f"the cluster is {now}{missing}")
    finish(ExitCode.PARTIAL if answer["missing"] else ExitCode.OK)

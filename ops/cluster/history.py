"""`twinlog cluster history`: who led when, by the record of every node, and the reigns that stand in the databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, finish
from ops.status import ASK_OPTIONS
from ops.tables import number, print_table
from ops.target import Target, resolve, target_options


@click.command()
@target_options
@click.option("--last", type=click.IntRange(1), default=None, metavar="N", help="Show the newest N changes only.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def history(url: str | None, key_file: str | None, last: int | None, as_json: bool) -> None:  # noqa: FBT001
    """Every change of role and epoch, oldest first, and each database's reigns.

    Times are of each node's own clock; epochs give the order. Exit code 0: all nodes answered, 3: one did not, its changes are missing.
    """
    told, silent = ask_everybody(resolve(url, key_file))
    if not told:
        raise Refusal(f"no node answers: {'; '.join(silent)}", ExitCode.UNREACHABLE)
    changes = merged_changes(told)
    left_out = 0 if last is None else max(0, len(changes) - last)
    changes = changes[left_out:]
    reigns = merged_reigns(told)
    if as_json:
        click.echo(json.dumps({"changes": changes, "reigns": reigns, "silent": silent, "let_go": {one["node"]: one["let_go"] for one in told}}))
    else:
        show(changes, reigns)
        notes = [f"{one['node']}: {one['let_go']} older changes are not held any more" for one in told if one["let_go"]]
        notes += [f"{one['node']}: {one['unreadable']} lines of its record are unreadable" for one in told if one["unreadable"]]
        for note in notes + silent:
            click.echo(f"! {note}", err=True)
    finish(ExitCode.UNREACHABLE if silent else ExitCode.OK)


def ask_everybody(target: Target) -> tuple[list[dict[str, Any]], list[str]]:
    """What each node that answers tells, and who does not."""
    from twinlog import TwinlogError  # late: --help must not pay for it

    told, silent = [], []
    for host in target.hosts():
        try:
            with target.connect(**ASK_OPTIONS) as client:
                told.append(client.role_history(host))
        except TwinlogError as error:
            silent.append(f"{host} does not answer: {error}")
    return told, silent


def merged_changes(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of all nodes, oldest first; those of one node in the order of their numbers, whatever its clock did."""
    changes = []
    for one in told:
        latest = 0
        for change in one["changes"]:
            latest = max(latest, change["time_us"])
            changes.append((latest, {"node": one["node"], **change}))
    return [change for _, change in sorted(changes, key=lambda pair: (pair[0], pair[1]["node"], pair[1]["number"]))]


def merged_reigns(told: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """By database: each reign once, with the nodes whose copy has it."""
    found: dict[str, dict[tuple[int, int, str], list[str]]] = {}
    for one in told:
        for database, reigns in one["reigns"].items():
            for reign in reigns:
                key = (reign["epoch"], reign["first_seq"], reign["id"])
                found.setdefault(database, {}).setdefault(key, []).append(one["node"])
    return {
        database: [{"epoch": epoch, "id": reign_id, "first_seq": seq, "nodes": nodes} for (epoch, seq, reign_id), nodes in sorted(reigns.items())]
        for database, reigns in sorted(found.items())
    }


def show(changes: list[dict[str, Any]], reigns: dict[str, list[dict[str, Any]]]) -> None:
    rows = [[shown(change["time_us"]), change["node"], change["role"], number(change["epoch"]), change["why"]] for change in changes]
    print_table("roles", ("time (UTC)", "node", "role", "epoch>", "why"), rows)
    rows = [
        [database, number(reign["epoch"]), reign["id"], number(reign["first_seq"]), ", ".join(reign["nodes"])]
        for database, found in reigns.items() for reign in found
    ]
    if rows:
        click.echo()
        print_table("reigns", ("database", "epoch>", "id", "first commit>", "held by"), rows)


def shown(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]

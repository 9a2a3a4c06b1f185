"""`twinlog cluster reseed NODE DB`: one copy of a standby replaced from the primary."""

from __future__ import annotations

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, confirm, refusals
from ops.status import ask_all, print_nodes
from ops.target import resolve, target_options

from .asking import ask_options, leading, named
from .rejoin import report
from .streaming import wait_until_it_streams

TIMEOUT_S = 600.0


@click.command()
@click.argument("node")
@click.argument("database")
@target_options
@click.option("--timeout", default=TIMEOUT_S, show_default=True, type=click.FloatRange(0, 86_400), metavar="SECONDS", help="How long to wait until it follows.")
@ask_options
def reseed(node: str, database: str, url: str | None, key_file: str | None, timeout: float, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Replace the standby NODE's copy of DATABASE by the primary's; the old one is kept in salvage. A copy that the primary does not
    have is set aside.

    Exit codes as `rejoin`; 8: NODE has no such database.
    """
    target = resolve(url, key_file)
    views = ask_all(target, mark=False)
    chosen, primary = named(views, node), leading(views)
    if chosen.role != "standby":
        raise Refusal(f"{node} is {chosen.role}: only a standby's copy is replaced; `twinlog cluster rejoin` makes it one")
    if primary is None:
        raise Refusal("no primary answers: there is nothing to copy from", ExitCode.UNREACHABLE)
    if database not in chosen.databases:
        raise Refusal(f"{node} has no database {database!r}: {', '.join(chosen.databases) or 'it has none'}", ExitCode.NOT_FOUND)
    if not as_json:
        print_nodes(views)
    if not yes:
        has_it = database in primary.databases
        confirm(f"replace {node}'s copy of {database} by {primary.node}'s?" if has_it else f"set {node}'s copy of {database} aside, which {primary.node} does not have?")
    with refusals(), target.connect(retry_s=0) as client:
        client.reseed(chosen.host, database)
    report(node, {"database": database}, wait_until_it_streams(target, node, timeout), timeout, as_json=as_json)

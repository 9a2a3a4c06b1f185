"""`twinlog cluster verify`: are all copies equal? Chains and state hashes of all nodes, at one and the same commit of each database."""

from __future__ import annotations

import json
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, finish
from ops.status import MarkView, NodeView, ask_all
from ops.tables import number, print_table, short_hash
from ops.target import resolve, target_options

from .asking import leading


@click.command()
@target_options
@click.option("--db", "database", default=None, help="Show this database only.")
@click.option("--json", "as_json", is_flag=True, help="Everything, with full hashes.")
def verify(url: str | None, key_file: str | None, database: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Write a MARK into every database and compare what all nodes have there.

    Exit code 0: all nodes answered and are equal, 4: two copies differ, 3: a node did not answer, 8: no such database.
    """
    views = ask_all(resolve(url, key_file), mark=True)
    primary = leading(views)
    if primary is None:
        raise Refusal("no primary answers: nobody can write the MARK at which to compare; see `twinlog cluster status`", ExitCode.UNREACHABLE)
    if database is not None and database not in primary.databases:
        raise Refusal(f"there is no database {database!r}: {', '.join(primary.databases) or 'there is none'}", ExitCode.NOT_FOUND)
    marks = [mark for mark in primary.marks if database in (None, mark.database)]
    code, problems = judge(views, primary, marks)
    if as_json:
        click.echo(json.dumps({"equal": code is ExitCode.OK, "problems": problems, "databases": {mark.database: plain(mark) for mark in marks}}))
    else:
        show(marks)
        for problem in problems:
            click.echo(f"! {problem}", err=True)
    finish(code)


def judge(views: list[NodeView], primary: NodeView, marks: list[MarkView]) -> tuple[ExitCode, list[str]]:
    """Pure. A difference outweighs a silent node."""
    unequal = [f"{mark.database} differs between the nodes at commit {mark.seq} (INV-6)" for mark in marks if mark.equal is False]
    everybody = {primary.node, *(standby.node for standby in primary.standbys)}
    missing = [f"{view.host} does not answer: {view.problem}" for view in views if not view.reachable]
    if primary.mark_problem:
        missing.append(f"{primary.node} could not compare: {primary.mark_problem}")
    for mark in marks:
        silent = sorted(everybody - set(mark.answers))
        if silent:
            missing.append(f"{mark.database}: {', '.join(silent)} did not answer at commit {mark.seq}")
    return (ExitCode.UNEQUAL if unequal else ExitCode.UNREACHABLE if missing else ExitCode.OK), unequal + missing


def plain(mark: MarkView) -> dict[str, Any]:
    nodes = {node: {"seq": seq, "chain": chain, "state_hash": digest} for node, (seq, chain, digest) in mark.answers.items()}
    return {"compared_at": mark.seq, "equal": mark.equal, "nodes": nodes}


def show(marks: list[MarkView]) -> None:
    rows = []
    for mark in marks:
        verdict = {True: "yes", False: "NO", None: "nobody to compare with"}[mark.equal]
        rows += [[mark.database, node, number(seq), short_hash(chain), short_hash(digest), verdict] for node, (seq, chain, digest) in mark.answers.items()]
    print_table("copies", ("database", "node", "compared at>", "chain", "state hash", "equal"), rows)

"""`twinlog scrub [DATABASE]`: every node reads all its files, repairs what it can from another node, and says what it found.

Knows how to show a report; what one is, is the node's (`scrub` on the wire). The nodes are asked one after the other.
"""

from __future__ import annotations

import json
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import finish
from ops.status import ASK_OPTIONS
from ops.tables import number, print_table, size
from ops.target import Target, resolve, target_options

NOTE = "note"


@click.command()
@click.argument("database", required=False)
@target_options
@click.option("--json", "as_json", is_flag=True, help="Everything the nodes tell, as one JSON document.")
def scrub(database: str | None, url: str | None, key_file: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Read every byte of DATABASE, or of all databases, on every node of the URL, and repair what is damaged.

    Waits until all have ended. Exit code 0: clean, or all of it repaired; 7: something is damaged or will be written anew; 3: a node does not
    answer, whatever the others found.
    """
    target = resolve(url, key_file)
    answers = [answer for host in target.hosts() for answer in ask(target, host, database)]
    if as_json:
        click.echo(json.dumps(answers, indent=2))
    else:
        show(answers)
    finish(verdict(answers))


def ask(target: Target, host: str, database: str | None) -> list[dict[str, Any]]:
    """One entry a database: {node, database, report}; or one with a problem."""
    from twinlog import TwinlogError  # late: --help must not pay for it

    found: list[dict[str, Any]] = []
    try:
        with target.connect(**ASK_OPTIONS) as client:
            names = [database] if database else sorted(client.status(host)["databases"])
            for name in names:
                found.append({"node": host, "database": name, "report": client[name].scrub(host)})
    except TwinlogError as error:
        found.append({"node": host, "database": database, "problem": str(error)})
    return found


def verdict(answers: list[dict[str, Any]]) -> ExitCode:
    """A node that could not be asked outweighs what others found: nothing is known of it."""
    if any("problem" in answer for answer in answers):
        return ExitCode.UNREACHABLE
    stands = any(
        answer["report"]["damaged"]
        or answer["report"]["findings_left_out"]
        or any(finding["severity"] != NOTE for finding in answer["report"]["findings"])
        for answer in answers
    )
    return ExitCode.FINDINGS if stands else ExitCode.OK


def show(answers: list[dict[str, Any]]) -> None:
    """A line for each node and database, then every finding."""
    rows, findings = [], []
    for answer in answers:
        report = answer.get("report")
        if report is None:
            click.echo(f"! {answer['node']}: {answer['problem']}", err=True)
            continue
        rows.append([
            answer["database"], answer["node"], number(report["files"]), size(report["bytes"]),
            number(len(report["findings"]) + report["findings_left_out"]), number(report["repaired"]), number(len(report["damaged"])),
        ])
        told = {(f["file"], f["offset"]): f for f in [*report["findings"], *report["damaged"]]}
        findings += [
            [answer["node"], f["severity"], f["file"], str(f["offset"]) if f["offset"] >= 0 else "", f["what"], f["next_step"]]
            for f in told.values()
        ]
    if rows:
        print_table("scrubbed", ("database", "node", "files>", "bytes>", "findings>", "repaired>", "damaged>"), rows)
    if findings:
        click.echo()
        print_table("findings", ("node", "severity", "file", "offset>", "what", "next step"), findings)

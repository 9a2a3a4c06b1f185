"""A drill's report: the same facts as JSON for programs, Markdown for files, a table for the terminal.

    DIR/<time>-<scenario>-<target>/report.json   report.md   writes.jsonl (every write)   a.log b.log ...

Times in a report are seconds since its writers began. Nothing that exists is written over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.exit_codes import ExitCode
from ops.tables import print_table

from .limits import Limit
from .records import Facts, Write
from .verdict import Verdict

FORMAT = 1
JSON_FILE, MARKDOWN_FILE, WRITES_FILE = "report.json", "report.md", "writes.jsonl"
NAMES_MAX = 1000  # in the report; writes.jsonl has all
NAMES_SHOWN = 10
SAME_NAME_MAX = 1000


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for, beside what came of it. began: UTC, ISO 8601."""

    scenario: str
    title: str
    target: str
    began: str
    acks: int
    on_timeout: str
    seconds: float
    client: Mapping[str, float]
    machine: Mapping[str, Any]


def exit_code(verdict: Verdict, missed: tuple[str, ...]) -> ExitCode:
    """Unequal copies outweigh a missed limit."""
    if verdict.equal is False:
        return ExitCode.UNEQUAL
    return ExitCode.DRILL_MISSED if missed or verdict.problems or verdict.equal is None else ExitCode.OK


def as_plain(run: Run, facts: Facts, verdict: Verdict, limits: tuple[Limit, ...], missed: tuple[str, ...]) -> dict[str, Any]:
    """The report as JSON has it."""
    zero = facts.writing_began
    return {
        "format": FORMAT,
        "scenario": run.scenario,
        "title": run.title,
        "target": run.target,
        "began": run.began,
        "settings": {"acks": run.acks, "on_ack_timeout": run.on_timeout, "seconds": run.seconds, "client": dict(run.client)},
        "machine": dict(run.machine),
        "exit_code": int(exit_code(verdict, missed)),
        "passed": exit_code(verdict, missed) is ExitCode.OK,
        "missed": list(missed),
        "problems": list(verdict.problems),
        "measures": {name: _rounded(value) for name, value in verdict.measures().items()},
        "limits": [str(limit) for limit in limits],
        "writes": dict(verdict.outcomes),
        "errors": dict(verdict.errors),
        "lost": [_lost(write, zero) for write in (verdict.lost or ())[:NAMES_MAX]],
        "came_twice": list(verdict.came_twice or ())[:NAMES_MAX],
        "late_acknowledgements": list(verdict.late)[:NAMES_MAX],
        "longest_gap_at_s": None if verdict.longest_gap_at is None else _rounded(verdict.longest_gap_at - zero),
        "detected_s": [_rounded(value) for value in verdict.detected_s],
        "takeovers": [
            {"node": one.node, "at_s": _rounded(one.ordered_at - zero), "forced": one.forced, "command_s": _rounded(one.command_s),
             "first_accepted_s": _rounded(one.first_accepted_s), "recovered_s": _rounded(one.recovered_s)}
            for one in verdict.takeovers
        ],
        "reads_while_broken": dict(verdict.reads),
        "equal": verdict.equal,
        "hashes": {} if facts.proof is None else {node: {"seq": seq, "chain": chain, "state_hash": digest}
                                                  for node, (seq, chain, digest) in facts.proof.answers.items()},
        "documents": {copy.node: {"role": copy.role, "count": len(copy.documents)} for copy in facts.copies},
        "salvaged": {node: list(files) for node, files in facts.salvaged.items()},
        "events": [
            {"at_s": _rounded(event.began - zero), "took_s": _rounded(event.ended - event.began), "what": event.act.value if event.act else "repair",
             "node": event.node, "text": event.text}
            for event in facts.events
        ],
    }  # fmt: skip


def make_directory(out: Path, run: Run) -> Path:
    """A new directory for this run."""
    stamp = run.began.replace("-", "").replace(":", "").partition(".")[0].removesuffix("+0000")
    name = f"{stamp}-{run.scenario}-{run.target}"
    for number in range(1, SAME_NAME_MAX):
        directory = out / (name if number == 1 else f"{name}-{number}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        return directory
    raise FileExistsError(f"{out / name}: {SAME_NAME_MAX} reports of this name are there already")


def write_files(directory: Path, plain: Mapping[str, Any], facts: Facts) -> None:
    with (directory / WRITES_FILE).open("x") as file:
        for write in facts.writes:
            file.write(json.dumps(_write(write, facts.writing_began)) + "\n")
    with (directory / MARKDOWN_FILE).open("x") as file:
        file.write(markdown(plain))
    with (directory / JSON_FILE).open("x") as file:
        file.write(json.dumps(plain, indent=1) + "\n")


def markdown(plain: Mapping[str, Any]) -> str:
    """The report for people."""
    settings = plain["settings"]
    client = settings["client"]
    lines = [
        f"# Drill {plain['scenario']} on {plain['target']}: {outcome(plain)}",
        "",
        f"{plain['title'][0].upper()}{plain['title'][1:]}.",
        "",
        f"{plain['began']}; acks {settings['acks']}, on_ack_timeout {settings['on_ack_timeout']}; {client['writers']:g} writers, one write each "
        f"{client['pace_s'] * 1000:g} ms at most, client timeout_s {client['timeout_s']:g}; {plain['machine']['cores']} cores, load {plain['machine']['load']}.",
        "",
        *_bullets("Failed because", [*plain["problems"], *plain["missed"]]),
        "| measure | value | limit |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows(plain)),
        "",
        f"Writes: {_counts(plain['writes'])}. Errors of clients: {_counts(plain['errors'])}. Reads while something was broken: "
        f"{_counts(plain['reads_while_broken'])}.",
        "",
        *_bullets("Lost acknowledged writes", [f"{one['name']}, acknowledged at {one['ended_s']} s as {one['position']}" for one in plain["lost"]]),
        *_bullets("Writes that came twice", plain["came_twice"]),
        *_bullets("Set aside", [f"{node}: {file}" for node, files in plain["salvaged"].items() for file in files]),
        "| node | role | documents | at MARK | chain | state hash |",
        "|---|---|---|---|---|---|",
    ]
    for node, hashed in plain["hashes"].items():
        held = plain["documents"].get(node, {"role": "?", "count": "?"})
        lines.append(f"| {node} | {held['role']} | {held['count']} | {hashed['seq']} | {hashed['chain']} | {hashed['state_hash']} |")
    lines += ["", "| s | took s | what |", "|---|---|---|", *(f"| {one['at_s']} | {one['took_s']} | {one['text']} |" for one in plain["events"]), ""]
    return "\n".join(lines)


def print_report(plain: Mapping[str, Any]) -> None:
    print_table(f"{plain['scenario']} on {plain['target']}: {outcome(plain)}", ("measure", "value>", "limit"), rows(plain))
    for lost in plain["lost"][:NAMES_SHOWN]:
        print(f"lost: {lost['name']}, acknowledged at {lost['ended_s']} s as {tuple(lost['position'])}")
    if len(plain["lost"]) > NAMES_SHOWN:
        print(f"lost: and {plain['measures']['lost_writes'] - NAMES_SHOWN} more, named in {JSON_FILE}")


def rows(plain: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(measure, value, limit): what was measured or has a limit, then whether the copies are equal."""
    limits = {text.split()[0]: text.partition(" ")[2] for text in plain["limits"]}
    shown = [(name, "-" if value is None else f"{value:g}", limits.get(name, ""))
             for name, value in plain["measures"].items() if value is not None or name in limits]
    equal = {True: "yes", False: "NO", None: "not compared"}[plain["equal"]]
    return [*shown, ("copies equal", equal, "yes")]


def outcome(plain: Mapping[str, Any]) -> str:
    return "passed" if plain["passed"] else "COPIES DIFFER" if plain["exit_code"] == ExitCode.UNEQUAL else "FAILED"


def _lost(write: Write, zero: float) -> dict[str, Any]:
    return {"name": write.name, "sent_s": _rounded(write.sent - zero), "ended_s": _rounded(write.ended - zero), "position": write.position}


def _write(write: Write, zero: float) -> dict[str, Any]:
    return {**_lost(write, zero), "outcome": write.outcome.value, "error": write.error}


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if isinstance(value, float) else value


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _bullets(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", "", *(f"- {line}" for line in lines), ""] if lines else []

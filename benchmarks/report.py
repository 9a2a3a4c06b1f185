"""What was measured, and how it reads: medians with their spread, ratios of medians, Markdown and JSON. Pure.

A measure is one question (insert, 16 connections of 1) put to several contenders in turn, several rounds each. The ratios
of a row are its median over its peers'; every peer stands in the same measure of the same run. Nothing is compared
across runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

EXTRAS = {
    "p50_us": "p50 µs", "p95_us": "p95 µs", "p99_us": "p99 µs", "p999_us": "p99.9 µs", "max_us": "max µs",
    "server_us": "server CPU µs", "client_us": "client CPU µs", "generator_share": "generator busy", "late_us": "generator late µs", "sealed": "sealed",
    "at_25": "MB at 25 %", "at_50": "MB at 50 %", "at_75": "MB at 75 %", "at_100": "MB at 100 %", "final": "MB after reading",
    "anonymous": "largest anonymous MB", "rss": "largest RSS MB", "client_rss": "largest RSS MB of the client", "log_bytes": "log", "data_bytes": "data", "index_bytes": "index",
    "p95_ratio": "p95 ratio", "executions": "executions", "answer_ms": "ms of it the answer",
    "unsealed": "largest unsealed documents",
    "seconds": "seconds", "mb_per_s": "MB/s of log", "largest_kb": "largest kB", "per_second": "inserts per second", "drained_s": "s to drain",
    "p95_ms": "p95 ms", "max_ms": "max ms", "rounds": "rounds", "shipped_mb": "MB shipped", "ready_s": "s until it answers",
    "answers_s": "answers per second", "turned_away": "turned away at the client", "refused": "refused by the node",
}  # fmt: skip


SHARES = frozenset({"generator_share", "turned_away", "refused"})


@dataclass(frozen=True)
class Sample:
    """One round of one contender: the figure, and what else was seen (extras by the names in EXTRAS)."""

    value: float
    extras: dict[str, float] = field(default_factory=dict)


@dataclass
class Row:
    """One contender. peers: the contenders that it is set against. Behind a colon in a name stands what this row alone is about."""

    contender: str
    peers: tuple[str, ...] = ()
    samples: list[Sample] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(sample.value for sample in self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        values = [sample.value for sample in self.samples]
        return min(values), max(values)

    def extra(self, name: str) -> float | None:
        """The median over the rounds that have it; a maximum stays the maximum."""
        values = [sample.extras[name] for sample in self.samples if name in sample.extras]
        if not values:
            return None
        return max(values) if name == "max_us" else statistics.median(values)


@dataclass
class Measure:
    """One question. higher_is_better only words the ratio; it changes no figure."""

    name: str
    unit: str
    rows: list[Row]
    higher_is_better: bool = True

    def row(self, contender: str) -> Row | None:
        return next((row for row in self.rows if row.contender == contender and row.samples), None)

    def ratios(self, row: Row) -> dict[str, float]:
        """This row's median over that of each of its peers that was measured."""
        measured = {peer: self.row(peer) for peer in row.peers}
        return {name: row.median / peer.median for name, peer in measured.items() if peer is not None and peer.median}


@dataclass
class CaseReport:
    """One case: its measures, and what could not be measured and why."""

    name: str
    what: str
    measures: list[Measure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    series: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # over time, for the JSON alone


@dataclass
class Report:
    """A whole run. machine: label to text, in order."""

    machine: dict[str, str]
    command: str
    cases: list[CaseReport] = field(default_factory=list)


def number(value: float) -> str:
    """Three or more digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _ratio_text(measure: Measure, row: Row) -> str:
    ratios = measure.ratios(row)
    texts = []
    for peer in row.peers:
        if peer not in ratios:
            texts.append(f"{peer}: not measured")
            continue
        good = ratios[peer] >= 1 if measure.higher_is_better else ratios[peer] <= 1
        text = f"{number(ratios[peer])} × {peer.partition(':')[0]}"
        texts.append(text if good else f"**{text}**")
    return ", ".join(texts)


def _measure_lines(measure: Measure) -> Iterable[str]:
    rows = [row for row in measure.rows if row.samples]
    extras = [name for name in EXTRAS if any(row.extra(name) is not None for row in rows)]
    yield f"**{measure.name}** ({measure.unit}, {'more' if measure.higher_is_better else 'less'} is better)"
    yield ""
    yield "| " + " | ".join(["contender", "median", "lowest to highest", "ratios", *(EXTRAS[name] for name in extras)]) + " |"
    yield "|---" * (4 + len(extras)) + "|"
    for row in rows:
        low, high = row.spread
        cells = [row.contender, number(row.median), f"{number(low)} to {number(high)}", _ratio_text(measure, row)]
        for name in extras:
            value = row.extra(name)
            share = name in SHARES
            cells.append("" if value is None else f"{value * 100:.0f} %" if share else number(value))
        yield "| " + " | ".join(cells) + " |"
    yield ""


def markdown(report: Report) -> str:
    """The report as a page. Ratios in bold are those where the row is behind its peer."""
    lines = ["# Benchmark report", "", f"`{report.command}`", ""]
    lines += [f"- {label}: {text}" for label, text in report.machine.items()]
    lines.append("")
    for case in report.cases:
        lines += [f"## {case.name}", "", case.what, ""]
        for measure in case.measures:
            lines += _measure_lines(measure)
        lines += [f"- {note}" for note in case.notes]
        if case.notes:
            lines.append("")
    return "\n".join(lines)


def plain(report: Report) -> dict:
    """The report as plain values for JSON: every round, and the medians and ratios worked out."""
    value = asdict(report)
    for case, case_value in zip(report.cases, value["cases"], strict=True):
        for measure, measure_value in zip(case.measures, case_value["measures"], strict=True):
            for row, row_value in zip(measure.rows, measure_value["rows"], strict=True):
                if row.samples:
                    row_value.update(median=row.median, spread=row.spread, ratios=measure.ratios(row))
    return value

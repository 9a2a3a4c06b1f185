"""What the failover case makes of its rounds."""

from __future__ import annotations

from benchmarks.cases.failover import add_measures, percentile, reversed_until
from benchmarks.report import CaseReport, Sample, markdown
from benchmarks.report import Report as WholeReport


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 95), percentile(values, 100), percentile([7.0], 95)) == (95.0, 100.0, 7.0)


def test_only_what_came_after_the_moment_counts_oldest_first() -> None:
    rows = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert reversed_until(rows, 2.0) == [(3, 3.0), (4, 4.0)] and reversed_until([], 1.0) == []


def test_the_report_sets_the_medians_against_each_other() -> None:
    case = CaseReport("failover", "what")
    rounds = {"Twinlog": (100.0, 120.0, 400.0), "PostgreSQL": (200.0, 240.0)}
    found = {
        name: [Sample(value, {"answer_ms": 1.0, "from_kill_ms": value + 1, "all_writers_ms": value + 2}) for value in values]
        for name, values in rounds.items()
    }
    add_measures(case, found)
    first = case.measures[0]
    twinlog = first.row("Twinlog")
    assert twinlog is not None and twinlog.extra("p95_ms") == 400.0 and first.ratios(twinlog) == {"PostgreSQL": 120.0 / 220.0}
    assert "0.545 × PostgreSQL" in markdown(WholeReport({}, "command", [case]))

"""Medians, spreads and ratios of a report, and how they read."""

from __future__ import annotations

import json

import pytest

from benchmarks.report import CaseReport, Measure, Report, Row, Sample, markdown, number, plain


def row(contender: str, peer: str | None, *values: float, **extras: float) -> Row:
    return Row(contender, (peer,) if peer else (), [Sample(value, dict(extras)) for value in values])


def report_of(*rows: Row, higher_is_better: bool = True) -> Report:
    case = CaseReport("point", "What is asked.", [Measure("insert", "per second", list(rows), higher_is_better)], ["left out: X"])
    return Report({"machine": "two cores"}, "python -m benchmarks point", [case])


def test_the_ratio_is_of_medians_not_of_means():
    ours, theirs = row("ours", "theirs", 10, 20, 900), row("theirs", None, 5, 40, 41)
    measure = Measure("insert", "per second", [ours, theirs])
    assert measure.ratios(ours) == {"theirs": 20 / 40}
    assert ours.spread == (10, 900)


def test_without_its_peer_a_row_has_no_ratio():
    ours = row("ours", "theirs", 10)
    assert Measure("insert", "", [ours, row("theirs", None)]).ratios(ours) == {}
    assert "theirs: not measured" in markdown(report_of(ours, row("theirs", None)))


@pytest.mark.parametrize(("higher_is_better", "bold"), [(True, True), (False, False)])
def test_what_is_behind_its_peer_is_bold(higher_is_better: bool, bold: bool):
    text = markdown(report_of(row("ours", "theirs", 10), row("theirs", None, 40), higher_is_better=higher_is_better))
    assert ("**0.25 × theirs**" in text) is bold
    assert "0.25 × theirs" in text


def test_the_page_names_machine_command_and_what_was_left_out():
    text = markdown(report_of(row("ours", None, 10)))
    for part in ("- machine: two cores", "`python -m benchmarks point`", "- left out: X", "## point"):
        assert part in text


def test_every_table_row_has_as_many_cells_as_its_head():
    text = markdown(report_of(row("ours", "theirs", 1, 2, p50_us=3.0, max_us=9.0), row("theirs", None, 5, generator_share=0.25)))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert "25 %" in text


def test_a_maximum_is_the_maximum_of_all_rounds_and_other_extras_their_median():
    found = Row("ours", (), [Sample(1, {"max_us": value, "p50_us": value}) for value in (1.0, 2.0, 50.0)])
    assert (found.extra("max_us"), found.extra("p50_us"), found.extra("p99_us")) == (50.0, 2.0, None)


def test_json_has_every_round_and_what_was_worked_out():
    value = json.loads(json.dumps(plain(report_of(row("ours", "theirs", 10, 30), row("theirs", None, 40)))))
    ours = value["cases"][0]["measures"][0]["rows"][0]
    assert [sample["value"] for sample in ours["samples"]] == [10, 30]
    assert (ours["median"], ours["ratios"], ours["spread"]) == (20, {"theirs": 0.5}, [10, 30])


def test_numbers_have_the_digits_that_mean_something():
    assert [number(value) for value in (1234567.8, 99.96, 0.12345)] == ["1,234,568", "100", "0.123"]

"""Reports and history: what they say, that nothing is written over, and which runs are compared with which."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from ops.drills import report
from ops.drills.history import read_history, with_trends
from ops.drills.limits import Limit, missed
from ops.drills.records import Facts, Proof
from ops.drills.verdict import judge
from ops.exit_codes import ExitCode
from ops.main import main
from tests.drills.made_facts import HASH, whole, with_documents

LIMITS = (Limit("lost_writes", 0), Limit("longest_gap_s", 10))
RUN = report.Run(
    "kill-primary", "kill -9 of the primary", "local", "2026-03-01T10:00:00+00:00", 1, "degrade", 5.0,
    {"writers": 4, "pace_s": 0.02, "timeout_s": 2.0}, {"cores": 2, "load": [1.0, 1.0, 1.0]},
)  # fmt: skip
LOST = with_documents(whole(), a={"w0-18": None}, b={"w0-18": None})
UNEQUAL = replace(whole(), proof=Proof(70, True, {"a": HASH, "b": (70, "00c4a1", "0bad")}))


def plain_of(facts: Facts, run: report.Run = RUN) -> dict:
    verdict = judge(facts)
    return report.as_plain(run, facts, verdict, LIMITS, missed(LIMITS, verdict.measures()))


@pytest.mark.parametrize(("facts", "code"), [
    (whole(), ExitCode.OK),
    (LOST, ExitCode.DRILL_MISSED),
    (UNEQUAL, ExitCode.UNEQUAL),
    (replace(whole(), proof=None), ExitCode.DRILL_MISSED),
    (replace(whole(), problems=("a: not within 60 s: the node is no longer primary",)), ExitCode.DRILL_MISSED),
], ids=["whole", "lost", "unequal", "not compared", "a step failed"])
def test_how_a_drill_ends(facts, code):
    plain = plain_of(facts)
    assert plain["exit_code"] == code and plain["passed"] is (code is ExitCode.OK)


def test_the_files_of_a_run_name_every_lost_write_in_times_since_writing_began(tmp_path):
    directory = report.make_directory(tmp_path, RUN)
    report.write_files(directory, plain_of(LOST), LOST)
    kept = json.loads((directory / "report.json").read_text())
    assert kept["lost"] == [{"name": "w0-18", "sent_s": 1.8, "ended_s": 1.81, "position": [1, 19]}]
    assert kept["takeovers"][0]["at_s"] == 2.5
    assert kept["hashes"]["b"]["state_hash"] == HASH[2]
    text = (directory / "report.md").read_text()
    assert "FAILED" in text and "- lost_writes is 1, more than 0" in text and "- w0-18, acknowledged at 1.81 s" in text
    writes = [json.loads(line) for line in (directory / "writes.jsonl").read_text().splitlines()]
    assert len(writes) == len(LOST.writes) and {one["outcome"] for one in writes} == {"acknowledged", "unknown"}


def test_two_runs_of_one_second_have_a_directory_each(tmp_path):
    first, second = report.make_directory(tmp_path, RUN), report.make_directory(tmp_path, RUN)
    assert first != second
    report.write_files(first, plain_of(whole()), whole())
    with pytest.raises(FileExistsError):
        report.write_files(first, plain_of(whole()), whole())


def test_the_table_for_the_terminal_says_what_was_lost(capsys):
    report.print_report(plain_of(LOST))
    shown = capsys.readouterr().out
    assert "FAILED" in shown and "lost: w0-18" in shown


def test_a_trend_is_against_the_median_of_the_same_kind():
    def run(gap: float, **changes) -> tuple[str, dict]:
        plain = plain_of(whole())
        return "x", {**plain, **changes, "measures": {**plain["measures"], "longest_gap_s": gap}}

    other = {"target": "compose"}
    trends = [one.trend.get("longest_gap_s") for one in with_trends([run(2.0), run(4.0), run(90.0, **other), run(6.0), run(8.0)])]
    assert trends == [None, 2.0, None, 2.0, 2.0]  # 6 over the median of 2 and 4; 8 over that of 2, 4 and 6


def keep(tmp_path, facts: Facts, began: str) -> None:
    run = replace(RUN, began=began)
    report.write_files(report.make_directory(tmp_path, run), plain_of(facts, run), facts)


def test_history_lists_what_is_kept_and_names_what_cannot_be_read(tmp_path):
    keep(tmp_path, LOST, "2026-03-02T10:00:00+00:00")
    keep(tmp_path, whole(), "2026-03-01T10:00:00+00:00")
    runs, unreadable = read_history(tmp_path)
    assert [one.plain["passed"] for one in runs] == [True, False] and unreadable == []
    shown = CliRunner().invoke(main, ["drill", "history", "--out", str(tmp_path)])
    assert shown.exit_code == 0 and "FAILED (10)" in shown.output and "kill-primary" in shown.output
    plain = json.loads(CliRunner().invoke(main, ["drill", "history", "--out", str(tmp_path), "--json"]).stdout)
    assert [one["measures"]["lost_writes"] for one in plain] == [0, 1]

    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "report.json").write_text("{")
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "report.json").write_text('{"format": 9}')
    shown = CliRunner().invoke(main, ["drill", "history", "--out", str(tmp_path)])
    assert shown.exit_code == ExitCode.PARTIAL and "broken" in shown.output and "format 9" in shown.output

"""`twinlog backup`: every verb against a real pair, as an operator would, and honest exit codes."""

from __future__ import annotations

import json

import pytest

from ops.backups.listing import verified
from ops.backups.now import verdict as now_verdict
from ops.backups.restore import in_words, verdict
from ops.exit_codes import ExitCode

from .test_local_pair import directory, run  # noqa: F401 - a fixture


def lines(name: str, numbers: range) -> str:
    return "".join(f'{{"_id": {number}, "of": "{name}"}}\n' for number in numbers)


def test_every_verb_on_a_real_pair(directory, tmp_path):  # noqa: F811
    run("up")
    (tmp_path / "first.json").write_text(lines("first", range(500)))
    (tmp_path / "second.json").write_text(lines("second", range(500, 700)))
    run("import", "first.json", "--collection", "people")
    (made,) = json.loads(run("backup", "now", "--json", "--verify"))["made"]
    assert made["verified"]["good"] and made["database"] == "test"
    run("import", "second.json", "--collection", "people")
    assert made["name"] in run("backup", "list") and "proven" in run("backup", "list")

    run("backup", "restore", made["name"], code=ExitCode.DECLINED, input="")
    run("backup", "restore", "../test", "--yes", code=ExitCode.FAILED)
    run("backup", "restore", "backup_19990101_000000", "--yes", code=ExitCode.FAILED)
    done = json.loads(run("backup", "restore", made["name"], "--yes", "--json"))
    assert done["standbys"]["equal"] is True and set(done["standbys"]["nodes"]) == {"a", "b"}
    assert run("find", "people", "--count").strip() == "500"
    compared = json.loads(run("status", "--json"))
    assert compared["ok"] and compared["databases"]["test"]["equal"] is True

    (safety,) = json.loads(run("backup", "list", "--safety", "--json"))
    assert safety["name"] == done["safety"]
    assert "what was there" in run("backup", "restore", safety["name"], "--yes")
    assert run("find", "people", "--count").strip() == "700"
    run("backup", "restore", made["name"], "--as", "copy")
    assert run("find", "people", "--count", "--db", "copy").strip() == "500"

    shown = run("backup", "schedule", "--interval-minutes", "60", "--max-copies", "3")
    assert "every         60 min" in shown and "max copies    3" in shown
    run("backup", "schedule", "--max-copies", "4")
    status = json.loads(run("backup", "schedule", "--show", "--json"))
    assert (status["enabled"], status["interval_minutes"], status["max_copies"]) == (True, 60, 4)
    assert json.loads(run("backup", "schedule", "--disabled", "--json"))["enabled"] is False
    assert json.loads(run("backup", "status", "--json"))["total_backups"] >= 1
    assert set(json.loads(run("backup", "now", "--all", "--json"))["made"][0]) >= {"name", "state_hash"}

    run("backup", "delete", made["name"], code=ExitCode.DECLINED, input="")
    run("backup", "delete", made["name"], "--yes")
    run("backup", "verify", made["name"], code=ExitCode.FAILED)
    run("backup", "delete", "..", "--yes", code=ExitCode.FAILED)


def test_incremental_ones_and_what_is_in_them_on_a_real_pair(directory, tmp_path):  # noqa: F811
    run("up")
    (tmp_path / "first.json").write_text(lines("first", range(500)))
    (tmp_path / "second.json").write_text(lines("second", range(500, 520)))
    run("import", "first.json", "--collection", "people")
    (made,) = json.loads(run("backup", "now", "--incremental", "--json"))["made"]
    assert made["kind"] == "full", "there was none to stand on"
    run("import", "second.json", "--collection", "people")
    assert f"incremental to {made['name']}" in run("backup", "now", "--incremental", "--verify")
    newest, oldest = json.loads(run("backup", "list", "--json"))
    assert newest["needs"] == [oldest["name"]] and oldest["needed_by"] == [newest["name"]]
    assert 0 < newest["written_bytes"] < newest["size_bytes"]

    assert json.loads(run("backup", "get", newest["name"], "--list", "--json")) == {"people": 520}
    run("backup", "get", newest["name"], code=ExitCode.USAGE)
    run("backup", "get", newest["name"], "--collection", "nobody", code=ExitCode.FAILED)
    run("backup", "get", oldest["name"], "--collection", "people", "--id", "510", code=ExitCode.NOT_FOUND)
    found = run("backup", "get", newest["name"], "--collection", "people", "--id", "510", "--id", "600", code=ExitCode.PARTIAL)
    assert found == '{"_id":510,"of":"second"}\n'
    filtered = run("backup", "get", newest["name"], "--collection", "people", "--filter", '{"of": "second"}', "--limit", "7")
    assert sum(line.startswith('{"_id":') for line in filtered.splitlines()) == 7
    run("backup", "get", newest["name"], "--collection", "people", "-o", "all.jsonl.gz")
    run("backup", "get", newest["name"], "--collection", "people", "-o", "all.jsonl.gz", code=ExitCode.USAGE)
    run("import", "all.jsonl.gz", "--collection", "again")
    assert run("find", "again", "--count").strip() == "520"

    shown = run("backup", "schedule", "--interval-minutes", "60", "--full-every", "7")
    assert "one of 7, the others incremental" in shown
    assert json.loads(run("backup", "schedule", "--max-copies", "9", "--json"))["full_every"] == 7, "what is not named stays"
    run("backup", "schedule", "--disabled")
    run("backup", "prune", code=ExitCode.FAILED)
    run("backup", "delete", oldest["name"], "--yes", code=ExitCode.FAILED)
    assert len(json.loads(run("backup", "list", "--json"))) == 2
    assert run("backup", "delete", oldest["name"], "--with-dependents", "--yes").strip().endswith("are deleted")


@pytest.mark.parametrize(
    ("standbys", "code"),
    [
        (None, ExitCode.OK),
        ({"equal": None, "missing": {}}, ExitCode.OK),
        ({"equal": True, "missing": {}}, ExitCode.OK),
        ({"equal": True, "missing": {"c": "not connected"}}, ExitCode.UNREACHABLE),
        ({"equal": False, "missing": {"c": "not connected"}}, ExitCode.UNEQUAL),
    ],
)
def test_the_exit_code_of_a_restore_is_honest(standbys, code):
    assert verdict({"standbys": standbys}) is code


def test_the_exit_code_of_a_backup_is_honest():
    good, bad, plain = ({"verified": {"good": True}}, {"verified": {"good": False}}, {"verified": None})
    assert now_verdict([good, plain], []) is ExitCode.OK
    assert now_verdict([good, bad], ["x: refused"]) is ExitCode.FINDINGS
    assert now_verdict([plain], ["x: refused"]) is ExitCode.PARTIAL
    assert now_verdict([], ["x: refused"]) is ExitCode.FAILED


def test_what_the_list_says_of_a_verification():
    assert verified(None) == "never"
    assert verified({"at": "now", "level": "content", "good": True, "first": ""}) == "proven now"
    assert verified({"at": "now", "level": "bytes", "good": False, "first": ""}) == "bytes only now"
    assert verified({"at": "now", "level": "content", "good": False, "first": "x"}) == "NO GOOD now"


@pytest.mark.parametrize(
    ("estimate", "told"),
    [
        ({"backup_bytes": 1_500_000, "seconds": 2.5}, "it would copy 1,500,000 bytes and take about 2.5 s on the primary"),
        ({"backup_bytes": 1_500_000, "seconds": None}, "how long it takes cannot be told"),
        ({}, "how long it takes cannot be told"),
    ],
)
def test_a_plan_says_about_how_long_it_takes(estimate, told):
    plan = {"db": "shop", "backup": "backup_x", "from_seq": 1, "commits": 2, "bytes": 3, "files": 1, "seq": 3, "time_us": 0, "undone": 0}
    assert in_words(plan | estimate).endswith(f"; {told}")

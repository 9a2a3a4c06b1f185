"""What `twinlog scrub` concludes from the nodes' reports, and that a clean database is clean."""

from __future__ import annotations

import pytest

from ops.commands.scrub import show, verdict
from ops.exit_codes import ExitCode


def finding(severity: str) -> dict:
    return {"severity": severity, "file": "shop/shard_000.db", "offset": 64, "what": "its header", "next_step": "look"}


def answer(*severities: str, damaged: int = 0, left_out: int = 0) -> dict:
    report = {
        "files": 3, "bytes": 2048, "findings": [finding(severity) for severity in severities], "findings_left_out": left_out,
        "repaired": severities.count("note"), "damaged": [finding("error")] * damaged,
    }  # fmt: skip
    return {"node": "x:1", "database": "shop", "report": report}


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([answer()], ExitCode.OK),
        ([answer("note", "note")], ExitCode.OK),
        ([answer(), answer("warning")], ExitCode.FINDINGS),
        ([answer("error", damaged=1)], ExitCode.FINDINGS),
        ([answer(damaged=1)], ExitCode.FINDINGS),
        ([answer("note", left_out=1)], ExitCode.FINDINGS),
        ([answer("error"), {"node": "y:2", "database": None, "problem": "refused"}], ExitCode.UNREACHABLE),
        ([], ExitCode.OK),
    ],
)
def test_the_exit_code_is_honest(answers, code):
    assert verdict(answers) is code


def test_every_finding_is_shown_once(capsys):
    show([answer("error", damaged=1), {"node": "y:2", "database": None, "problem": "refused"}])
    shown = capsys.readouterr()
    assert shown.out.count("its header") == 1 and "shop" in shown.out and "2.0 KiB" in shown.out
    assert "y:2: refused" in shown.err

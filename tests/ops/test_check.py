"""`twinlog check` on a whole directory, on one database, on damage, on nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import twinlog
from ops.exit_codes import ExitCode
from ops.main import main


def run(*arguments):
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


@pytest.fixture
def data(tmp_path):
    """A data directory with one small database, closed."""
    with twinlog.open(tmp_path / "data") as client:
        client["shop"]["things"].insert_many([{"_id": number, "text": "x" * 20} for number in range(100)])
    return tmp_path / "data"


def test_a_sound_directory_and_a_sound_database_are_clean(data):
    for directory in (data, data / "shop"):
        result = run(directory)
        assert (result.exit_code, result.stderr) == (ExitCode.OK, "")
        assert "1 databases checked, 0 findings" in result.stdout


def test_a_flipped_byte_is_a_finding_that_names_the_file(data):
    log = next((data / "shop" / "commit").glob("*.log"))
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0x01
    log.write_bytes(content)
    result = run(data, "--json")
    assert result.exit_code == ExitCode.FINDINGS
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    assert any(log.name in finding["file"] and finding["next_step"] for finding in findings)
    assert log.name in run(data).stdout


def test_a_directory_without_a_database_is_refused(tmp_path):
    result = run(tmp_path)
    assert result.exit_code == ExitCode.FAILED
    assert "holds no database" in result.stderr


def test_checking_changes_nothing(data):
    before = {file: file.read_bytes() for file in data.rglob("*") if file.is_file()}
    run(data)
    assert {file: file.read_bytes() for file in data.rglob("*") if file.is_file()} == before

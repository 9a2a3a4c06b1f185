"""`twinlog export --dump` and `twinlog import DIR`: mongodump's directories from the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import twinlog
from ops.exit_codes import ExitCode
from ops.main import main
from ops.target import Target

URL = ["--url", "twinlog://localhost"]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch):
    with twinlog.open(":memory:") as made:
        monkeypatch.setattr(Target, "connect", lambda self, **options: made.session())
        monkeypatch.setattr(twinlog.Client, "__exit__", lambda *_: None)
        yield made


def run(*arguments: str, code: ExitCode = ExitCode.OK) -> str:
    result = CliRunner().invoke(main, [*arguments, *URL])
    assert result.exit_code == code, result.output
    return result.output


def test_a_dump_by_hand(client, tmp_path):
    client["shop"]["orders"].insert_many([{"_id": n, "ref": n} for n in range(20)])
    client["shop"]["orders"].create_index("ref", unique=True)
    client["shop"]["users"].insert_one({"_id": "ada"})
    target = str(tmp_path / "dump")
    assert "21 documents as dump" in run("export", "--db", "shop", "--dump", target, "--gzip")
    assert "exists" in run("export", "--db", "shop", "--dump", target, "--gzip", code=ExitCode.FAILED)
    told = json.loads(run("import", target, "--db", "copy", "--json").splitlines()[-1])
    assert (told["format"], told["inserted"], told["refused"]) == ("dump", 21, 0) and told["collections"]["orders"]["inserted"] == 20
    assert "ref_1" in client["copy"]["orders"].index_information()
    again = run("import", target, "--db", "copy", "--collection", "users", code=ExitCode.PARTIAL)
    assert "1 left out" in again


def test_an_index_that_is_not_known_here_is_named_and_counts(client, tmp_path):
    (tmp_path / "places.bson").write_bytes(b"")
    (tmp_path / "places.metadata.json").write_text('{"indexes": [{"key": {"at": "2dsphere"}, "name": "at_2d"}]}')
    client["db"]["places"].insert_one({"_id": 1})
    assert "at_2d" in run("import", str(tmp_path), "--db", "db", code=ExitCode.PARTIAL)


def test_one_collection_as_a_bson_file(client, tmp_path):
    client["shop"]["orders"].insert_many([{"_id": n} for n in range(5)])
    file = str(tmp_path / "orders.bson.zst")
    assert "5 documents as bson" in run("export", "orders", "--db", "shop", "-o", file)
    assert "5 inserted" in run("import", file, "--db", "copy")
    assert client["copy"]["orders"].count_documents({}) == 5

"""`twinlog kv`: the key-value store from the command line, with its exit codes."""

from __future__ import annotations

import json

from click.testing import CliRunner

from ops.exit_codes import ExitCode
from ops.main import main


def run(*arguments: object, given: bytes | None = None, code: ExitCode = ExitCode.OK) -> str:
    result = CliRunner().invoke(main, ["kv", *map(str, arguments)], input=given)
    assert result.exit_code == code, result.output
    return result.output


def test_the_store_by_hand(tmp_path):
    store = tmp_path / "store"
    assert "makes one" in run("get", store, "a", code=ExitCode.NOT_FOUND) and not store.exists()
    run("put", store, "username", "alice")
    run("put", store, "blob", "-", given=b"\xff\x00")
    assert "exists" in run("put", store, "username", "x", code=ExitCode.FAILED)
    run("update", store, "username", "bob")
    assert run("get", store, "username") == "bob"
    assert "no key" in run("update", store, "nobody", "x", code=ExitCode.NOT_FOUND)
    assert run("keys", store) == "blob\nusername\n" and run("count", store) == "2\n"
    assert sorted(run("foreach", store).splitlines()) == ["blob=\\xff\\x00", "username=bob"]
    assert run("exists", store, "blob") == "true\n" and run("exists", store, "x", code=ExitCode.NOT_FOUND) == "false\n"
    run("delete", store, "blob")
    (tmp_path / "in").write_bytes(b"file")
    run("putfile", store, "file", tmp_path / "in")
    run("getfile", store, "file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"file"
    assert "exists" in run("getfile", store, "file", tmp_path / "out", code=ExitCode.FAILED).lower()
    assert "bytes before" in run("compact", store)
    assert json.loads(run("verify", store, "--json"))["active_records"] == 2 and "2 keys" in run("verify", store)
    assert "nothing was changed" in run("clear", store, given=b"n\n", code=ExitCode.DECLINED)
    run("clear", store, "--yes")
    assert run("count", store) == "0\n"


def test_backup_and_restore_by_hand(tmp_path):
    store, file = tmp_path / "store", tmp_path / "b.json.gz"
    run("put", store, "a", "1")
    assert run("backup", store, file) == f"1 keys -> {file}\n"
    assert "not written over" in run("backup", store, file, code=ExitCode.FAILED)
    assert "backup_" in run("backup", store, tmp_path / "all", "--keep", 3) and len(list((tmp_path / "all").iterdir())) == 1
    run("update", store, "a", "2")
    assert "every key" in run("restore", tmp_path / "new", file, "--verify") and run("get", tmp_path / "new", "a") == "1"
    file.write_bytes(file.read_bytes()[:-9])
    assert "nothing was changed" in run("restore", store, file, code=ExitCode.FAILED) and run("get", store, "a") == "2"

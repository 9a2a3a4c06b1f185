"""A real pair whose backups and archive are in a bucket and encrypted: keys and connections reach the worker processes, and nothing secret the log."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from click.testing import CliRunner

from ops.exit_codes import ExitCode
from ops.main import main
from tests.ops.test_local_pair import directory, run  # noqa: F401 - a fixture

from .conftest import Store


def said(*arguments: str, code: ExitCode) -> str:
    """What a command that ends with this code says, its errors too."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def lines(numbers: range) -> str:
    return "".join(f'{{"_id": {number}, "of": "nobody shall read this"}}\n' for number in numbers)


def test_a_pair_with_its_backups_elsewhere(directory: Path, tmp_path: Path, store: Store) -> None:  # noqa: F811
    url = store.url("")
    archive, shelf = url.replace("/?", "/log?"), url.replace("/?", "/shop?")
    made = run("backup", "keygen", "backup.key")
    run("backup", "keygen", "backup.key", code=ExitCode.FAILED)
    run("up")
    run("down")
    with (directory / "cluster.yaml").open("a") as config:
        config.write(f"archive: {archive}\narchive_interval_ms: 100\nbackup_key_file: {tmp_path / 'backup.key'}\n")
    nodes = yaml.safe_load((directory / "cluster.yaml").read_text())["nodes"]
    run("config", "check", str(directory / "cluster.yaml"))
    (tmp_path / "backup.key").chmod(0o644)
    assert "chmod 600" in said("config", "check", str(directory / "cluster.yaml"), code=ExitCode.CONFIG)
    (tmp_path / "backup.key").chmod(0o600)
    run("up")
    (tmp_path / "a.json").write_text(lines(range(300)))
    (tmp_path / "b.json").write_text(lines(range(300, 500)))
    run("import", "a.json", "--collection", "people")
    run("backup", "schedule", "--disabled", "--path", "s3://key:secret@bucket/x", code=ExitCode.FAILED)
    run("backup", "schedule", "--disabled", "--path", shelf)
    assert json.loads(run("backup", "schedule", "--disabled", "--max-copies", "5", "--json"))["backup_path"] == shelf, "what is not named stays as it is"
    (row,) = json.loads(run("backup", "now", "--json", "--verify"))["made"]
    assert row["verified"]["good"] and row["path"] == f"s3://{store.bucket}/shop/{row['name']}"
    assert row["name"] in run("backup", "list")
    assert row["name"] in run("backup", "list", "--node", nodes["b"]["client"]), "the shelf is one for all nodes"
    run("import", "b.json", "--collection", "people")
    plan = json.loads(run("backup", "restore", "--to-latest", "--explain", "--json"))
    assert plan["commits"] >= 1
    done = json.loads(run("backup", "restore", row["name"], "--yes", "--json"))
    assert done["standbys"]["equal"] is True and run("find", "people", "--count").strip() == "300"
    run("backup", "restore", done["safety"], "--as", "copy")
    assert run("find", "people", "--count", "--db", "copy").strip() == "500"
    name = next(key for key in store.names() if key.startswith(f"shop/{row['name']}/") and key.endswith("database.json"))
    good = store.read(name)
    store.write(name, good[:-1] + bytes([good[-1] ^ 1]))
    run("backup", "verify", row["name"], code=ExitCode.FINDINGS)
    run("backup", "restore", row["name"], "--yes", code=ExitCode.FAILED)
    store.write(name, good)
    vault = tmp_path / "vault" / row["name"]
    for key in store.names():
        assert b"nobody shall" not in store.read(key)
        if key.startswith(f"shop/{row['name']}/"):
            target = vault / key.removeprefix(f"shop/{row['name']}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(store.read(key))
    assert "0 findings" in run("check", str(vault), "--key-file", "backup.key")
    assert "--key-file" in said("check", str(vault), code=ExitCode.FAILED)
    run("backup", "delete", row["name"], "--yes")
    secret = (tmp_path / "backup.key").read_text().splitlines()[-1]
    for written in directory.rglob("*"):
        if written.is_file():
            content = written.read_bytes()
            assert secret.encode() not in content and bytes.fromhex(secret) not in content, written
            assert b"secret-of-the-test" not in content, written
    assert secret not in made

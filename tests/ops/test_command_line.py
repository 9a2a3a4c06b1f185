"""The command line itself: help, exit codes, keys, users, configuration, choosing a target."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops import commands
from ops.documents import identifiers, sort_fields
from ops.exit_codes import ExitCode
from ops.main import VERBS, main
from ops.refusal import Refusal
from ops.target import Target, resolve


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `twinlog ARGUMENTS...` in an empty directory and without a cluster in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("TWINLOG_URL", "TWINLOG_CONFIG", "TWINLOG_NODE", "TWINLOG_DATA"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments, **options: CliRunner().invoke(main, [str(word) for word in arguments], **options)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_and_stands_in_the_list(run, verb):
    listed, helped = run("--help"), run(verb, "--help")
    assert (listed.exit_code, helped.exit_code) == (0, 0)
    assert f"  {verb} " in listed.output
    assert "Usage: " in helped.output


def test_every_command_is_a_verb(run):
    modules = {path.stem for path in Path(commands.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules == set(VERBS.values())
    assert run("nonsense").exit_code == ExitCode.USAGE and "No such command 'nonsense'" in run("nonsense").stderr


def test_status_and_switchover_stand_below_cluster_too(run):
    listed = run("cluster", "--help")
    assert listed.exit_code == 0 and all(f"  {verb} " in listed.output for verb in ("status", "switchover", "failover"))


def test_a_verb_imports_no_other_verb_and_no_library_of_its_own_kind():
    loads = "import sys; from ops.main import main; main(['keygen', '--help'], standalone_mode=False); print([name for name in sys.modules if name in ('rich', 'numpy', 'trio')])"
    ran = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_version_is_told(run):
    told = run("--version")
    assert told.exit_code == 0 and re.fullmatch(r"twinlog (\d+\.\d+\.\d+\S*|\(not installed\))\n", told.output)


def test_exit_codes_are_what_scripts_know():
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0, "FAILED": 1, "USAGE": 2, "UNREACHABLE": 3, "UNEQUAL": 4, "PARTIAL": 5, "CONFIG": 6, "FINDINGS": 7,
        "NOT_FOUND": 8, "DECLINED": 9, "DRILL_MISSED": 10, "NOT_HERE": 11, "NO_STANDBY": 12,
    }  # fmt: skip


def test_a_verb_without_a_cluster_says_the_three_ways_to_name_one(run):
    result = run("status")
    assert result.exit_code == ExitCode.USAGE
    assert all(way in result.stderr for way in ("--url", "TWINLOG_URL", "twinlog up"))


def test_a_cluster_is_named_by_flag_then_environment_then_the_nearest_pair(tmp_path, monkeypatch):
    pair = tmp_path / ".local-pair"
    pair.mkdir()
    (pair / "pair.json").write_text(json.dumps({"url": "twinlog://127.0.0.1:1/", "processes": {}}))
    below = tmp_path / "some" / "where"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    monkeypatch.delenv("TWINLOG_URL", raising=False)
    assert resolve(None, None).url == "twinlog://127.0.0.1:1/"
    monkeypatch.setenv("TWINLOG_URL", "127.0.0.1:2")
    assert resolve(None, None).url == "twinlog://127.0.0.1:2"
    assert resolve("twinlog://127.0.0.1:3/", None).url == "twinlog://127.0.0.1:3/"


def test_a_url_names_hosts_and_perhaps_a_database():
    target = Target("twinlog://ann:p%40w@x:1,[::1]:2/shop?key=f&pool=2", None, "--url")
    assert target.hosts() == ["x:1", "[::1]:2"]
    assert target.default_database() == "shop"
    assert Target("twinlog://x:1", None, "--url").default_database() is None


def test_a_key_file_is_private_and_never_written_over(run, tmp_path):
    first = run("keygen", "keys/client.key", "keys/cluster.key")
    assert first.exit_code == 0
    made = tmp_path / "keys" / "client.key"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    word, key_id, secret = made.read_text().split()
    assert (word, len(key_id), len(secret)) == ("twinlog-key-1", 32, 64)
    assert secret not in first.output, "a secret is never printed"
    again = run("keygen", "keys/client.key")
    assert again.exit_code == ExitCode.FAILED
    assert made.read_text().split() == [word, key_id, secret]


def test_a_user_is_kept_as_a_hash_and_changed_only_when_told(run, tmp_path):
    (tmp_path / "password").write_text("correct horse\nsecond line\n")
    add = ("user", "add", "users.yaml", "ann", "--password-file", "password")
    assert run(*add, "--role", "read").exit_code == 0
    text = (tmp_path / "users.yaml").read_text()
    assert "scrypt:" in text and "correct horse" not in text
    assert run(*add, "--role", "admin").exit_code == ExitCode.FAILED
    assert (tmp_path / "users.yaml").read_text() == text
    assert run(*add, "--role", "admin", "--replace").exit_code == 0
    assert run("user", "list", "users.yaml").output == "ann  admin\n"


@pytest.mark.parametrize("password", ["", "short", "\n"])
def test_a_weak_password_is_refused(run, tmp_path, password):
    (tmp_path / "password").write_text(password)
    result = run("user", "add", "users.yaml", "ann", "--role", "read", "--password-file", "password")
    assert result.exit_code == ExitCode.USAGE
    assert not (tmp_path / "users.yaml").exists()


def test_config_check_is_good_for_each_node_or_names_path_and_rule(run, tmp_path):
    run("keygen", "client.key", "cluster.key")
    text = (
        "cluster: c\nprimary: a\nnodes:\n"
        "  a: {client: '127.0.0.1:1', cluster: '127.0.0.1:2'}\n  b: {client: '127.0.0.1:3', cluster: '127.0.0.1:4'}\n"
        "client_keys: client.key\ncluster_key: cluster.key\n"
    )
    (tmp_path / "cluster.yaml").write_text(text)
    good = run("config", "check", "cluster.yaml")
    assert (good.exit_code, good.output) == (0, "cluster.yaml: good for node a\ncluster.yaml: good for node b\n")
    (tmp_path / "cluster.yaml").write_text(text + "shards: 0\n")
    bad = run("config", "check", "cluster.yaml")
    assert bad.exit_code == ExitCode.CONFIG
    assert "shards" in bad.stderr and "at least 1" in bad.stderr


def test_config_check_opens_the_key_files(run, tmp_path):
    (tmp_path / "node.yaml").write_text("client_keys: nowhere.key\n")
    result = run("config", "check", "node.yaml")
    assert result.exit_code == ExitCode.CONFIG
    assert "nowhere.key" in result.stderr


@pytest.mark.parametrize("arguments", [("--set", "shards"), ("--memory", "--data", "d")])
def test_serve_refuses_a_command_line_that_makes_no_sense(run, arguments):
    assert run("serve", *arguments).exit_code == ExitCode.USAGE


def test_serve_holds_a_flag_to_the_rule_of_its_setting(run):
    result = run("serve", "--data", "d", "--shards", "5000")
    assert result.exit_code == ExitCode.CONFIG
    assert "shards: 5000 must be at most 1024" in result.stderr


def test_an_id_is_extended_json_or_text():
    from bson import ObjectId

    digits = "0123456789abcdef01234567"
    assert identifiers("5") == [5, "5"]
    assert identifiers('"5"')[0] == "5"
    assert identifiers("plain text") == ["plain text"]
    assert identifiers(digits) == [ObjectId(digits), digits]
    assert identifiers(f'{{"$oid": "{digits}"}}')[0] == ObjectId(digits)


def test_sort_is_written_two_ways():
    assert sort_fields("-age, name") == sort_fields("age:-1,name:1") == [("age", -1), ("name", 1)]
    with pytest.raises(Refusal, match="down"):
        sort_fields("age:down")


class Compactable:
    """A client of two databases, one of which has a damaged shard."""

    def __init__(self, *, findings=()) -> None:
        self._findings = list(findings)

    def list_database_names(self):
        return ["logs", "shop"]

    def __getitem__(self, name):
        self._name = name
        return self

    def compact(self):
        findings = self._findings if self._name == "shop" else []
        return {"before": 3 * 2**20, "after": 2**20, "seconds": 1.25, "shards": 2, "findings": findings}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None


def test_compact_prints_before_and_after_and_says_what_stayed(run, monkeypatch):
    monkeypatch.setenv("TWINLOG_URL", "127.0.0.1:1")
    monkeypatch.setattr(Target, "connect", lambda self, **options: Compactable())
    result = run("compact")
    assert result.exit_code == 0
    assert all(word in result.output for word in ("logs", "shop", "3.0 MiB", "1.0 MiB", "1.2 s"))
    assert json.loads(run("compact", "shop", "--json").output)["shop"]["after"] == 2**20
    missing = run("compact", "shap")
    assert missing.exit_code == ExitCode.NOT_FOUND and "logs, shop" in missing.stderr
    monkeypatch.setattr(Target, "connect", lambda self, **options: Compactable(findings=["shard 1 is left as it is"]))
    stayed = run("compact")
    assert stayed.exit_code == ExitCode.FAILED and "! shop: shard 1 is left as it is" in stayed.stderr


def test_flags_of_compaction_become_settings():
    from ops.commands.serve import overrides_from

    flags = {"compaction": False, "compact_stale_ratio": "0.25", "compact_min_size": "8", "acks": None}
    assert overrides_from(flags, ()) == {"compaction": False, "compact_stale_ratio": "0.25", "compact_min_size": "8"}


def test_a_delay_is_of_the_node_that_is_named():
    from ops.commands.serve import overrides_from

    assert overrides_from({"node": "c", "delay_s": "60"}, ()) == {"node": "c", "nodes.c.delay_s": "60"}
    with pytest.raises(Refusal, match="--node"):
        overrides_from({"node": None, "delay_s": "60"}, ())

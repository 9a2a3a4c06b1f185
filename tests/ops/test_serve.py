"""`twinlog serve` as a process: it says where it listens, ends in order, and refuses what cannot be."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import twinlog
from ops.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[2]
END_SECONDS_MAX = 30


def serve(*flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "ops.main", "serve", "--client", "127.0.0.1:0", "--admin", "none", *flags]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


@contextmanager
def serving(*flags: str):
    """A node and its URL; ended by SIGTERM, which must be its orderly end."""
    process = serve(*flags)
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"serves clients on (\S+)", line):
                yield f"twinlog://{found[1]}/"
                process.send_signal(signal.SIGTERM)
                rest = process.stderr.read()  # to its end, so that nothing blocks
                assert process.wait(END_SECONDS_MAX) == 0, rest
                return
        raise AssertionError(f"the node ended at once: {''.join(said)}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_what_was_written_is_there_after_a_stop_and_a_start(tmp_path):
    with serving("--data", str(tmp_path / "data")) as url, twinlog.connect(url) as client:
        client["shop"]["things"].insert_one({"_id": 1})
    with serving("--data", str(tmp_path / "data"), "--sync-mode", "sync") as url, twinlog.connect(url) as client:
        assert client["shop"]["things"].find_one({"_id": 1}) == {"_id": 1}


def test_in_memory_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serving("--memory") as url, twinlog.connect(url) as client:
        client["shop"]["things"].insert_one({"_id": 1})
        assert client["shop"]["things"].count_documents({}) == 1
    assert not (ROOT / "memory").exists() and not list(tmp_path.iterdir())


def test_two_nodes_never_share_a_directory(tmp_path):
    with serving("--data", str(tmp_path / "data")):
        second = serve("--data", str(tmp_path / "data"))
        said = second.communicate(timeout=END_SECONDS_MAX)[1]
        assert second.returncode == ExitCode.FAILED
        assert "twinlog: " in said and "Traceback" not in said


def test_a_bad_setting_is_refused_with_its_path(tmp_path):
    process = serve("--data", str(tmp_path / "data"), "--set", "limits.cursors_max=0")
    said = process.communicate(timeout=END_SECONDS_MAX)[1]
    assert process.returncode == ExitCode.CONFIG
    assert "limits.cursors_max: 0 must be at least 1" in said


def test_key_and_users_files_are_named_by_the_environment(tmp_path, monkeypatch):
    """A name of a file that is not there is refused under the setting's name, so the name was taken; a flag goes over it."""
    for variable, setting, flag in (
        ("TWINLOG_CLIENT_KEYS_FILE", "client_keys", "--client-keys"),
        ("TWINLOG_CLUSTER_KEY_FILE", "cluster_key", "--cluster-key"),
        ("TWINLOG_USERS_FILE", "users", "--users"),
    ):
        with monkeypatch.context() as environment:
            environment.setenv(variable, str(tmp_path / "by-environment"))
            for flags, named in (((), "by-environment"), ((flag, str(tmp_path / "by-flag")), "by-flag")):
                process = serve("--data", str(tmp_path / "data"), *flags)
                said = process.communicate(timeout=END_SECONDS_MAX)[1]
                assert process.returncode == ExitCode.CONFIG and f"{setting}: " in said and f"/{named} cannot be read" in said, said
        assert f"`{variable}`" in (ROOT / "docs" / "settings.md").read_text()

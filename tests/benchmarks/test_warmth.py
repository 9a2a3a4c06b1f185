"""Files that are locked in the page cache: what is new is taken, what is gone is let go."""

from __future__ import annotations

from pathlib import Path

from benchmarks.warmth import Locked, kept_warm


def test_new_files_are_taken_and_those_that_are_gone_let_go(tmp_path: Path):
    (tmp_path / "below").mkdir()
    (tmp_path / "a").write_bytes(b"x" * 5_000)
    (tmp_path / "below" / "b").write_bytes(b"y" * 100)
    (tmp_path / "empty").write_bytes(b"")
    locked = Locked()
    locked.look(tmp_path)
    assert locked.bytes == 5_100
    (tmp_path / "a").unlink()
    (tmp_path / "below" / "b").write_bytes(b"y" * 300)
    locked.look(tmp_path)
    assert locked.bytes == 300
    (tmp_path / "commit").mkdir()
    (tmp_path / "commit" / "log").write_bytes(b"z" * 5_000)
    locked.look(tmp_path)
    assert locked.bytes == 300, "no question reads a commit log"


def test_a_process_says_what_it_holds(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    with kept_warm(tmp_path) as what:
        assert what.startswith(("3 MB of files were locked", "the files could not be locked"))

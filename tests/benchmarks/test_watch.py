"""Memory and files of a server, as they are looked at while it works."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.processes import Server
from benchmarks.watch import Watch, memory, sizes


class Nobody(Server):
    """A server that is this process."""

    def __init__(self) -> None:
        self.name = "nobody"

    @property
    def pid(self) -> int:
        return os.getpid()


def test_memory_that_is_taken_is_seen():
    before = memory(os.getpid())
    held = bytearray(os.urandom(1 << 20)) * 64
    after = memory(os.getpid())
    assert after["rss_mb"] - before["rss_mb"] > 50
    if "pss_mb" in after:
        assert after["anonymous_mb"] - before["anonymous_mb"] > 50
    assert len(held) == 64 << 20


def test_files_are_summed_by_kind_as_the_disk_holds_them(tmp_path: Path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "one.log").write_bytes(b"x" * 100_000)
    (tmp_path / "two.log").write_bytes(b"x" * 50_000)
    (tmp_path / "three.db").write_bytes(b"x" * 10_000)
    with (tmp_path / "holes.db").open("wb") as file:
        file.truncate(1 << 30)
    found = sizes(tmp_path, lambda path: Path(path).suffix)
    assert set(found) == {".log", ".db"}
    assert 150_000 <= found[".log"] <= 200_000
    assert 10_000 <= found[".db"] <= 100_000


def test_it_looks_at_the_beginning_and_at_the_end():
    documents = iter([0, 1000])
    with Watch(Nobody(), 600, lambda: {"documents": next(documents)}) as watch:
        pass
    assert [sight["documents"] for sight in watch.seen] == [0, 1000]
    assert watch.largest("documents") == 1000
    assert watch.at_share(0.25, 1000) is watch.seen[-1]
    assert watch.largest("never seen") == 0


@pytest.mark.parametrize(("share", "number"), [(0.25, 1), (0.5, 2), (1.0, 3), (2.0, 3)])
def test_the_first_look_past_a_share_is_taken(share: float, number: int):
    watch = Watch(Nobody(), 1, dict, [{"documents": count, "at": place} for place, count in enumerate((0, 30, 50, 100))])
    assert watch.at_share(share, 100)["at"] == number


def test_a_look_that_fails_leaves_the_memory():
    def look() -> dict[str, float]:
        raise OSError(5, "no answer")

    with Watch(Nobody(), 600, look) as watch:
        pass
    assert all(sight["missed"] == 5 and sight["rss_mb"] > 0 for sight in watch.seen)

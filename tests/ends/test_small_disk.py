"""A real small file system, filled to its last byte under load, then freed (INV-1, INV-7, INV-8): no crash, no loss, writing resumes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import twinlog
from storage import OsDisk
from storage.check import check_database
from tests.ends.small_disk import COLLECTION, DB, Load, Node, fill, mounted, remount

pytestmark = pytest.mark.loop


def numbers_of(node: Node) -> set[int]:
    with twinlog.connect(node.url) as client:
        return {document["n"] for document in client[DB][COLLECTION].find({}).batch_size(2000)}


def give_back(path: Path, mebibytes: int) -> None:
    """Shorten the ballast."""
    with path.open("r+b") as file:
        file.truncate(max(0, path.stat().st_size - mebibytes * 2**20))


@pytest.mark.parametrize("sync_mode", ["async", "sync"])
@pytest.mark.parametrize("memtable_mb", [1, 32])
def test_filled_to_the_last_byte_and_freed_nothing_is_lost(tmp_path: Path, sync_mode: str, memtable_mb: int) -> None:
    with mounted(tmp_path) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(24 * 2**20))
        node = Node(disk / "data", tmp_path / "node.log", "--sync-mode", sync_mode, "--set", f"memtable_mb={memtable_mb}")
        node.start()
        load = Load(node)
        try:
            load.wait_for_refusals(5)  # the writers filled it to the reserve
            fill(ballast)  # and somebody else the reserve
            load.wait_for_refusals(20)
            assert node.is_alive
            status = node.status()
            assert status["databases"][DB]["disk"]["state"] == "full" and not status["databases"][DB]["writable"]
            assert [alarm["kind"] for alarm in status["alarms"]] == ["disk-full"]
            ballast.unlink()
            load.wait_for_more(500)
            fill(ballast)
            load.wait_for_refusals(20)
            load.expects_reads = False
            node.kill()
            node.start()
            load.expects_reads = True
            load.wait_for_refusals(20)
            give_back(ballast, 24)
            load.wait_for_more(100)
            ballast.unlink()
            load.wait_for_more(100)
        finally:
            load.finish()
        assert load.unread == []
        assert load.acknowledged <= numbers_of(node)
        node.stop()
        assert [finding for finding in check_database(OsDisk(disk / "data"), DB) if finding.severity.name == "ERROR"] == []
        node.start()
        assert load.acknowledged <= numbers_of(node)
        node.stop()
        assert "Traceback" not in node.said()


def test_a_file_system_mounted_read_only_is_served_for_reading(tmp_path: Path) -> None:
    with mounted(tmp_path) as disk:
        node = Node(disk / "data", tmp_path / "node.log", "--sync-mode", "sync")
        node.start()
        with twinlog.connect(node.url) as client:
            client[DB][COLLECTION].insert_many([{"_id": n, "n": n} for n in range(100)])
        node.kill()
        remount(disk, "ro")
        node.start()
        assert numbers_of(node) == set(range(100))
        with twinlog.connect(node.url, retry_s=0.2) as client, pytest.raises(twinlog.errors.TwinlogError, match="read-only"):
            client[DB][COLLECTION].insert_one({"n": -1})
        node.stop()
        remount(disk, "rw")
        node.start()
        with twinlog.connect(node.url) as client:
            client[DB][COLLECTION].insert_one({"_id": 100, "n": 100})
        assert numbers_of(node) == set(range(101))
        node.stop()
        assert "Traceback" not in node.said()

"""A real node whose clients have taken every descriptor: it stays up, serves those it has, seals, and takes more when some have gone."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import twinlog
from tests.ends.small_disk import COLLECTION, DB, Node

LIMIT = 160


def test_a_node_without_descriptors_serves_seals_and_recovers(tmp_path: Path) -> None:
    node = Node(tmp_path / "data", tmp_path / "node.log", "--set", "memtable_records_max=1000", "--set", "shards=2")
    node.start(descriptors=LIMIT)
    host, port = node.url.removeprefix("twinlog://").removesuffix("/").split(":")
    with twinlog.connect(node.url, pool=1) as client:
        numbers = client[DB][COLLECTION]
        numbers.insert_one({"_id": "first"})
        with ExitStack() as crowd:
            for _ in range(2 * LIMIT):
                crowd.enter_context(socket.create_connection((host, int(port)), timeout=20))
            for start in range(0, 10_000, 500):
                numbers.insert_many([{"_id": n, "n": n} for n in range(start, start + 500)])
            assert numbers.count_documents({}) == 10_001
            assert numbers.find_one({"_id": 1234})["n"] == 1234
        with twinlog.connect(node.url, retry_s=30) as another:
            assert another[DB][COLLECTION].find_one({"_id": "first"})
        status = node.status()
        assert status["databases"][DB]["writable"] and status["alarms"] == []
    node.stop()
    said = node.said()
    assert "no file descriptor is left for new connections" in said
    assert "Traceback" not in said and "sealing failed" not in said

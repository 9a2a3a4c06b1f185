"""Queues seen from outside: each has a row, two gauges and a word in the log when it nears its bound."""

from __future__ import annotations

import logging
from pathlib import Path

import trio
import trio.testing

import storage
from node import wire
from node.config import load
from node.metrics import Metrics
from node.queue_watch import LOOK_EVERY_S, WARN_EVERY_S, QueueWatch
from node.server import Node

from .fakes import BareClient, document

OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
EXPECTED = {
    "delayed_bytes",
    "memtable_records", "memtable_bytes", "log_kept_bytes", "query_turns", "databases", "worker_jobs", "disk_calls", "answers_waiting",
    "replication_window_bytes", "links", "requests_waiting", "inserts_waiting", "requests_in_flight", "cursors", "logins_waiting",
    "connections", "connection_buffer_bytes", "total_buffer_bytes", "admin_connections",
}  # fmt: skip


class Tub:
    """A queue whose fill the test sets."""

    def __init__(self) -> None:
        self.value = 0
        self.metrics = Metrics()
        self.watch = QueueWatch(self.metrics)
        self.watch.add("tub", "litres", "it runs over", lambda: self.value, lambda: 100)


def _said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "node.queue_watch"]


async def test_a_queue_says_once_that_it_is_nearly_full_and_once_that_it_is_at_ease(caplog, autojump_clock):
    tub = Tub()
    for value, words in ((79, 0), (80, 1), (100, 1), (65, 1), (90, 1), (60, 1), (59, 2), (0, 2)):
        tub.value = value
        tub.watch.look()
        assert len(_said(caplog)) == words, value
    first, last = _said(caplog)
    assert first == "queue tub is nearly full: 80 of 100, 80% (litres); at its bound it runs over"
    assert last == "queue tub is at ease again: 59 of 100, 59%"
    assert {record.levelno for record in caplog.records if record.name == "node.queue_watch"} == {logging.WARNING}
    assert tub.metrics.nearly_full["tub"] == 1


async def test_a_queue_that_flaps_does_not_fill_the_log(caplog, autojump_clock):
    tub = Tub()
    for number in range(int(WARN_EVERY_S / LOOK_EVERY_S)):
        tub.value = 90 if number % 2 else 10
        tub.watch.look()
        await trio.sleep(LOOK_EVERY_S)
    assert len(_said(caplog)) == 2, "once in, once out"
    assert tub.metrics.nearly_full["tub"] > 20
    await trio.sleep(2 * WARN_EVERY_S)
    tub.value = 0
    tub.watch.look()
    tub.value = 90
    tub.watch.look()
    assert len(_said(caplog)) == 3, "after a while it is news again"


async def test_it_looks_by_itself(caplog, autojump_clock):
    tub = Tub()
    tub.value = 90
    async with trio.open_nursery() as nursery:
        await nursery.start(tub.watch.run)
        await trio.sleep(1.5 * LOOK_EVERY_S)
        assert len(_said(caplog)) == 1
        nursery.cancel_scope.cancel()


def test_what_is_gone_is_forgotten_and_no_bound_is_no_alarm(caplog):
    rows = [("a", 9.0, 10.0), ("b", 9.0, 0.0)]
    watch = QueueWatch(Metrics())
    watch.add_each("tub", "litres", "it runs over", lambda: rows)

    async def look() -> None:
        watch.look()

    trio.run(look)
    assert ["of a" in line for line in _said(caplog)] == [True]
    rows.clear()
    trio.run(look)
    assert not watch.fills() and len(_said(caplog)) == 1


async def test_every_queue_of_a_node_has_two_gauges_and_a_row_in_the_handbook(tmp_path):
    config = load(None, {"data": str(tmp_path), "listen.client": "127.0.0.1:0", "listen.admin": "127.0.0.1:0"})
    async with Node.open(config, seams=storage.real_seams(config.data)) as node:
        async with await trio.open_tcp_stream(*node.client_address) as stream:
            client = await BareClient(stream).open()
            await client.call(wire.Insert, "chat", "m", [document(id=1)])
            families = {family.name: family for family in node.metrics.collect()}
    values = {(s.labels["queue"], s.labels["of"]): s.value for s in families["twinlog_queue"].samples}
    bounds = {(s.labels["queue"], s.labels["of"]): s.value for s in families["twinlog_queue_bound"].samples}
    assert values.keys() == bounds.keys()
    of_standbys = {"replication_window_bytes"}
    assert {name for name, _ in values} == EXPECTED - of_standbys
    assert values["memtable_records", "chat"] == 2, "the collection, and its document"
    assert values["connections", ""] == 1
    no_processes_here = {("worker_jobs", "")}
    assert all(0 <= values[key] < 0.8 * bound for key, bound in bounds.items() if key not in no_processes_here)
    text = OPERATIONS.read_text()
    assert [name for name in EXPECTED if f"`{name}`" not in text] == []

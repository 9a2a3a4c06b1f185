"""Open cursors: batches bounded by bytes, what was killed while it was read, and the metrics' words."""

from __future__ import annotations

import pytest

from node.cursors import ANSWER_BYTES_MAX, CursorTable, OpenCursor
from node.metrics import Metrics
from storage import errors


class Source:
    """A storage cursor over a list; gives `piece` documents at a time."""

    def __init__(self, documents: list[bytes], piece: int = 1000) -> None:
        self.documents = documents
        self.piece = piece
        self.closed = False

    @property
    def done(self) -> bool:
        return not self.documents

    async def next_batch(self, count: int) -> list[bytes]:
        count = min(count, self.piece)
        taken, self.documents = self.documents[:count], self.documents[count:]
        return taken

    async def close(self) -> None:
        self.closed = True


def _table(cursors_max: int = 2) -> CursorTable:
    return CursorTable(cursors_max, 60.0, lambda size: b"\x05" * size)


async def test_a_batch_stays_below_the_limit_of_a_message_and_loses_nothing():
    documents = [bytes([number]) * (6 * 2**20) for number in range(5)]
    cursor = OpenCursor("me", None, Source(list(documents)))
    batches = []
    while not cursor.done:
        batches.append(await cursor.take(100))
    assert [document for batch in batches for document in batch] == documents
    assert max(sum(map(len, batch)) for batch in batches) <= ANSWER_BYTES_MAX and len(batches) == 3


async def test_one_document_of_the_largest_size_still_goes_out():
    cursor = OpenCursor("me", None, Source([b"x" * ANSWER_BYTES_MAX, b"y"]))
    assert [len(document) for document in await cursor.take(10)] == [ANSWER_BYTES_MAX]
    assert await cursor.take(10) == [b"y"] and cursor.done


async def test_no_rows_asked_reads_nothing():
    cursor = OpenCursor("me", None, Source([b"a"]))
    assert await cursor.take(0) == [] and not cursor.done


async def test_a_cursor_being_read_is_not_given_twice_and_a_killed_one_is_gone():
    table = _table()
    cursor = OpenCursor("me", None, Source([b"a"]))
    await table.keep(cursor)
    cursor.busy = True
    with pytest.raises(errors.BadRequest):
        table.find(cursor.id, "me")
    cursor.busy = False
    with pytest.raises(errors.CursorNotFound):
        table.find(cursor.id, "you")
    assert table.remove(cursor.id, "you") is None and table.holds(cursor)
    assert table.remove(cursor.id, "me") is cursor and not table.holds(cursor)


async def test_the_table_refuses_at_its_bound_by_name_and_closes_all():
    numbers = iter(range(1, 10))
    table = CursorTable(2, 60.0, lambda size: (2 * next(numbers)).to_bytes(size, "little"))
    sources = [Source([b"a"]) for _ in range(3)]
    for source in sources[:2]:
        await table.keep(OpenCursor("me", None, source))
    with pytest.raises(errors.Overloaded) as refused:
        await table.keep(OpenCursor("me", None, sources[2]))
    assert refused.value.fields["limit"] == 2 and len(table) == 2
    await table.close_all()
    assert [source.closed for source in sources] == [True, True, False] and len(table) == 0


def test_metrics_are_told_in_prometheus_words():
    metrics = Metrics()
    metrics.requests["insert"] += 3
    metrics.bounds["cursors_max"] += 1
    metrics.watch("cursors_open", "Open cursors", lambda: 7)
    metrics.watch_status(
        lambda: {
            "role": "primary", "epoch": 4, "alarms": [{}], "databases": {"chat": {"position": [4, 99]}},
            "standbys": [
                {"name": "b", "connected": True, "lag_commits": 2, "lag_bytes": 100, "lag_seconds": 0.5},
                {"name": "c", "connected": False, "lag_commits": None, "lag_bytes": None, "lag_seconds": None},
            ],
        }
    )  # fmt: skip
    lines = metrics.exposition().decode().splitlines()
    for line in (
        'twinlog_requests_total{op="insert"} 3.0',
        'twinlog_bounds_total{bound="cursors_max"} 1.0',
        "twinlog_cursors_open 7.0",
        'twinlog_role{role="primary"} 1.0',
        "twinlog_epoch 4.0",
        "twinlog_alarms 1.0",
        'twinlog_position_seq{db="chat"} 99.0',
        'twinlog_standby_lag_commits{standby="b"} 2.0',
        'twinlog_standby_connected{standby="c"} 0.0',
    ):
        assert line in lines
    assert not any('lag_bytes{standby="c"}' in line for line in lines), "what is not known is not told as 0"

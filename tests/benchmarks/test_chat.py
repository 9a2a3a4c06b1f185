"""The case chat: messages by seed and their shape, questions held against plain Python, the spool, and one small run without a peer."""

from __future__ import annotations

import re
import statistics
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import twinlog
from benchmarks import generator
from benchmarks.cases import chat as case_chat
from benchmarks.chat import spool, statements, writer
from benchmarks.chat.messages import BLOCK, Block, Chat, packed_date
from benchmarks.chat.questions import (
    QUESTIONS,
    Ask,
    Count,
    Distinct,
    Draws,
    Find,
    Group,
    Question,
    milliseconds,
    moment,
)
from benchmarks.chat.timing import Budget, Timings
from benchmarks.chat.words import ABSENT_LETTERS
from benchmarks.chosen import CHOSEN, Chosen
from benchmarks.contest import Run
from benchmarks.generator import LoadFailed
from benchmarks.report import CaseReport, Row, Sample
from node import wire
from storage import decode_document

DOCUMENTS = 2_000
EXECUTIONS = 5


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat()


@pytest.fixture(scope="module")
def block(chat: Chat) -> Block:
    return chat.block(0)


@pytest.fixture(scope="module")
def documents(block: Block) -> list[dict[str, Any]]:
    return block.documents(moment)[:DOCUMENTS]


# Messages.


def test_a_block_is_a_function_of_seed_and_number(chat: Chat, block: Block):
    again = Chat().block(0)
    assert again.contents == block.contents
    assert all(np.array_equal(getattr(again, name), getattr(block, name)) for name in ("ids", "ts", "authors", "channels", "likes", "replied"))
    assert chat.block(1).contents != block.contents
    assert Chat(seed=1).block(0).contents != block.contents


def test_ids_ascend_over_blocks_and_ts_nearly(chat: Chat, block: Block):
    other = chat.block(1)
    ids, ts = np.concatenate([block.ids, other.ids]), np.concatenate([block.ts, other.ts])
    assert (np.diff(ids) > 0).all()
    assert 0.005 < (np.diff(ts) < 0).mean() < 0.015


def test_a_message_has_about_200_bytes_and_is_a_document(block: Block):
    packed = [msgspec.msgpack.encode(document) for document in block.documents(packed_date)[:DOCUMENTS]]
    assert 180 <= statistics.fmean(map(len, packed)) <= 230
    assert decode_document(packed[0]) == block.documents(moment)[0]


def test_optional_fields_come_as_often_as_said(block: Block):
    documents = block.documents(int)
    shares = {name: sum(name in document for document in documents) / BLOCK for name in ("edited", "reply_to", "attachments")}
    assert shares == pytest.approx({"edited": 0.04, "reply_to": 0.10, "attachments": 0.03}, rel=0.1)
    assert all(document["reply_to"] < document["_id"] for document in documents if "reply_to" in document)


def test_words_come_as_often_as_words_do(block: Block):
    words = Counter(word.strip(",.!?").lower() for content in block.contents for word in content.split())
    ranked = [count for _, count in words.most_common(1_000)]
    assert 2 < ranked[9] / ranked[99] < 20, "the tenth word and the hundredth"
    assert statistics.fmean(len(content.split()) for content in block.contents) == pytest.approx(15, abs=1)
    text = "\n".join(block.contents)
    assert not any(letter in text for letter in ABSENT_LETTERS if letter != "x"), "x stands in the URLs' .example alone"
    assert "@" in text and "https://" in text and re.search(r"[.!?] [A-Z]", text)


def test_rows_of_copy_need_no_escapes(block: Block):
    assert not any(mark in content for content in block.contents for mark in ("\\", "\t", "\n", '"'))


# Questions.


def matches(document: dict[str, Any], filter: dict[str, Any]) -> bool:
    """Plain Python's word for the filters that the questions use."""
    for name, condition in filter.items():
        value = document[name]
        tests = condition if isinstance(condition, dict) else {"$eq": condition}
        for operator, wanted in tests.items():
            if operator == "$regex":
                good = re.search(wanted, value) is not None
            else:
                good = {"$eq": value == wanted, "$in": operator == "$in" and value in wanted}.get(operator)
                good = value >= wanted if operator == "$gte" else value < wanted if operator == "$lt" else good
            if not good:
                return False
    return True


def by_hand(ask: Ask, documents: list[dict[str, Any]]) -> object:
    """What ask.figure must give."""
    if isinstance(ask, Distinct):
        return sorted({document[ask.path] for document in documents})
    found = [document for document in documents if matches(document, ask.filter)]
    if isinstance(ask, Count):
        return len(found)
    if isinstance(ask, Group):
        numbers, likes = Counter(document["channel"] for document in found), Counter[str]()
        for document in found:
            likes[document["channel"]] += document["likes"]
        return sorted((name, count, likes[name]) if ask.likes else (name, count) for name, count in numbers.items())
    if ask.newest:
        return sorted((milliseconds(document[ask.newest]) for document in found), reverse=True)[: ask.limit]
    return min(len(found), ask.limit)


@pytest.fixture(scope="module")
def collection(documents: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[twinlog.Collection]:
    with twinlog.open(tmp_path_factory.mktemp("chat")) as client:
        found = client["bench"]["docs"]
        found.insert_many(documents)
        yield found


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_a_question_asks_what_plain_python_answers(question: Question, chat: Chat, documents: list[dict[str, Any]], collection: twinlog.Collection):
    plain = [{**document, "ts": milliseconds(document["ts"])} for document in documents]
    draws = Draws(chat, 1, DOCUMENTS, 3, plain)
    for _ in range(EXECUTIONS):
        ask, parameters = question.draw(draws)
        assert ask.figure(ask.run(collection)) == by_hand(ask, documents), ask
        assert question.sql.count("$") == 0 or f"${len(parameters)}" in question.sql


def test_parameters_differ_and_come_again_by_seed(chat: Chat, documents: list[dict[str, Any]]):
    plain = [{**document, "ts": milliseconds(document["ts"])} for document in documents]
    for question in QUESTIONS:
        drawn = []
        for seed in (3, 3, 4):
            draws = Draws(chat, 1, DOCUMENTS, seed, plain)
            drawn.append([question.draw(draws) for _ in range(EXECUTIONS)])
        assert drawn[0] == drawn[1]
        if drawn[0][0][1]:
            assert drawn[0] != drawn[2], question.name
            assert len({parameters for _, parameters in drawn[0]}) > 1, question.name


def test_both_servers_answers_come_to_one_figure():
    rows = [(b"general", b"3", b"7"), (b"b", b"1", b"0")]
    group = Group({}, likes=True)
    assert group.figure(group.read(rows, msgspec.json.decode)) == [("b", 1, 0), ("general", 3, 7)]
    find = Find({}, "ts")
    assert find.figure([{"ts": moment(1_700_000_000_123)}]) == find.figure(find.read([(b'{"ts": 1700000000123}',)], msgspec.json.decode))
    assert Count({}).read([(b"12",)], msgspec.json.decode) == 12


# Spool, statements, writer.


@pytest.mark.parametrize("kind", [spool.FRAMES, spool.COPY])
def test_the_spool_holds_every_message_once(kind: str, block: Block, tmp_path: Path):
    order = spool.Order("some", 0, 1, 400, 100)
    spool.make_part(tmp_path, kind, 0, 1, [order])
    paths = spool.parts_of(tmp_path, "some", kind)
    if kind == spool.FRAMES:
        requests = [wire.decode_request(frame[4:]) for frame in spool.frames_in(paths)]
        ids = [decode_document(bytes(raw))["_id"] for request in requests for raw in request.docs]
        assert len({request.request for request in requests}) == len(requests)
    else:
        ids = [int(line.split(b"\t")[0]) for message in spool.copies_in(paths) for line in message[5:].splitlines()]
    assert ids == block.ids[:400].tolist()


def test_parts_of_an_order_meet_without_a_gap():
    order = spool.Order("some", 3, 12, BLOCK, 1_000)
    assert [number for part in range(4) for number in order.share(part, 4)] == list(range(3, 12))


def test_a_cut_spool_is_refused(tmp_path: Path):
    spool.make_part(tmp_path, spool.FRAMES, 0, 1, [spool.Order("some", 0, 1, 100, 100)])
    path = spool.part_of(tmp_path, "some", spool.FRAMES, 0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LoadFailed, match="ends within a request"):
        list(spool.frames_in([path]))


def test_a_row_of_postgresql_is_read():
    body = struct.pack(">H", 3) + struct.pack(">I", 2) + b"ab" + struct.pack(">i", -1) + struct.pack(">I", 0)
    assert statements._fields(b"head" + body, 4) == (b"ab", None, b"")


def test_the_writer_sends_everything_until_it_is_stopped():
    sent: list[bytes] = []
    ms, spent = writer.paced(iter([b"a", b"b"]), sent.append, 0.0, [])
    assert (sent, len(ms), spent) == ([b"a", b"b"], 2, True)
    ms, spent = writer.paced(iter([b"a", b"b"]), sent.append, 0.0, [15])
    assert (len(sent), ms, spent) == (2, [], False)


# Timing and report.


@pytest.mark.parametrize(
    ("executions", "seconds", "spent"),
    [(0, 99.0, False), (1, 21.0, True), (19, 19.0, False), (20, 5.0, True), (20, 3.0, False), (300, 0.1, True)],
)
def test_a_budget_ends_where_it_says(executions: int, seconds: float, spent: bool):
    assert Budget(300, 4.0, 20, 20.0).is_spent(executions, seconds) is spent


def test_what_is_over_the_bars_is_named():
    quick, slow = Timings((0.5,) * 20), Timings((0.5,) * 10 + (40.0,) * 10)
    text = case_chat.over_bars({"a": {case_chat.OURS: quick}, "b": {case_chat.OURS: slow, case_chat.PEER: quick}})
    assert text == "1 of 2 questions under 1 ms at p50; over 15 ms at p95: b (40.0)"


def test_answers_that_differ_are_named():
    ours, theirs = {"a": [1], "b": [2], "c": [3]}, {"a": [1], "b": [9]}
    assert case_chat.agree({case_chat.OURS: ours}) == []
    assert case_chat.agree({case_chat.OURS: ours, case_chat.PEER: theirs}) == ["**the answers differ**: b"]
    assert "same answers" in case_chat.agree({case_chat.OURS: ours, case_chat.PEER: ours})[0]


def test_a_question_has_a_row_for_each_server():
    rows = list(case_chat.question_rows("q", {case_chat.OURS: Timings((2.0,)), case_chat.PEER: Timings((4.0,))}))
    assert rows == [
        Row("Twinlog: q", ("PostgreSQL: q",), [Sample(2.0, {"p95_us": 2_000, "p99_us": 2_000, "executions": 1, "p95_ratio": 0.5})]),
        Row("PostgreSQL: q", (), [Sample(4.0, {"p95_us": 4_000, "p99_us": 4_000, "executions": 1})]),
    ]


def test_a_small_run_without_a_peer_reports_everything(tmp_path: Path):
    try:
        generator.build()
    except generator.Unavailable as error:
        pytest.skip(str(error))
    scale = case_chat.Scale(5_000, Budget(2, 0.1, 1, 0.2, warmup=0), 1, 1.0, 0.5, 1, starts=1)
    case, token = CaseReport("chat", case_chat.WHAT), CHOSEN.set(Chosen(peers=()))
    try:
        case_chat.at_scale(scale, Run(short=True, rounds=1, seconds=1, workplace=tmp_path), case)
    finally:
        CHOSEN.reset(token)
    assert [note for note in case.notes if "refuses" in note or "failed" in note or "does not answer" in note] == []
    assert "left out: postgresql was not asked for" in case.notes
    warm, after, paced = (measure for measure in case.measures if ", answers, " in measure.name)
    assert [row.contender for row in warm.rows] == [f"Twinlog: {question.name}" for question in QUESTIONS]
    assert len(paced.rows) == len(QUESTIONS) and len(after.rows) == 2
    disk = next(measure for measure in case.measures if "on the disk" in measure.name)
    assert disk.rows[0].extra("index_bytes") > 0
    assert any("writes a second went on" in note for note in case.notes)

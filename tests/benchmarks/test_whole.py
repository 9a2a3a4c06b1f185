"""What comes out of a server is held against what was put in: a missing, altered or second document is noticed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from benchmarks import generator, templates
from benchmarks.contest import Run, started
from benchmarks.generator import Load, LoadFailed, lines, run
from benchmarks.processes import find_program
from benchmarks.report import CaseReport
from benchmarks.servers import COLLECTION, DB, PostgresServer, TwinlogServer
from benchmarks.templates import KEY_BASE, document, document_json
from benchmarks.whole import (
    Expected,
    RowShape,
    copied_shape,
    copy_in,
    copy_out,
    copy_rows,
    get_one,
    packed_shape,
    select_one,
    take_all,
)

DOCUMENTS = 3000


@pytest.fixture(params=["packed", "copied"])
def shape(request: pytest.FixtureRequest) -> RowShape:
    return packed_shape() if request.param == "packed" else copied_shape(document_json())


def row(shape: RowShape, number: int) -> bytes:
    """The row of that key, made without the code under test."""
    if shape.key_bytes == 8:
        return msgspec.msgpack.encode(document(KEY_BASE + number))
    body = b"%d\t%b\n" % (KEY_BASE + number, document_json())
    return b"d" + (len(body) + 4).to_bytes(4, "big") + body


def test_every_document_once_in_any_order_is_whole(shape: RowShape):
    expected = Expected(shape, 10)
    expected.take(b"".join(row(shape, number) for number in (7, 8, 9, 0)))
    expected.take(b"")
    expected.take(b"".join(row(shape, number) for number in (6, 5, 4, 3, 2, 1)))
    expected.check_whole()
    assert expected.count == 10


@pytest.mark.parametrize("numbers", [(0, 1), (0, 1, 1), (0, 1, 2, 2)], ids=["missing", "one twice, one missing", "one twice"])
def test_a_missing_or_a_second_document_is_noticed(shape: RowShape, numbers: tuple[int, ...]):
    expected = Expected(shape, 3)
    expected.take(b"".join(row(shape, number) for number in numbers))
    with pytest.raises(LoadFailed, match="different ones, of 3"):
        expected.check_whole()


def test_a_key_that_was_never_put_in_is_noticed(shape: RowShape):
    with pytest.raises(LoadFailed, match="not what was put in"):
        Expected(shape, 3).take(row(shape, 3))


def test_any_other_byte_is_noticed(shape: RowShape):
    """Every byte but those of the key, which say another key."""
    good = row(shape, 1)
    for at in (place for place in range(len(good)) if not shape.key_at <= place < shape.key_at + shape.key_bytes):
        bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises(LoadFailed):
            Expected(shape, 3).take(row(shape, 0) + bad)


def test_half_a_row_is_noticed(shape: RowShape):
    with pytest.raises(LoadFailed, match="no rows"):
        Expected(shape, 3).take(row(shape, 0)[:-1])


def test_the_rows_of_a_copy_are_those_documents():
    sent = b"".join(copy_rows(2500))
    texts = [line for line in sent.split(b"\n") if line]
    keys = [int(text.partition(b"\t")[0][-10:]) for text in texts]
    assert keys == list(range(KEY_BASE, KEY_BASE + 2500))
    assert {text.partition(b"\t")[2] for text in texts} == {document_json()}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinlogServer]:
    try:
        program = generator.build(tmp_path_factory.mktemp("built"))
    except generator.Unavailable as error:
        pytest.skip(str(error))
    server = TwinlogServer(tmp_path_factory.mktemp("node") / "data", seal_age_s=1)
    server.start()
    try:
        with server.connect() as client:
            client.create_database(DB)
        with lines(server.plain, 1) as opened:
            run(Load(templates.twinlog_insert(DB, COLLECTION, 1000), seconds=60, limit=DOCUMENTS // 1000), opened, program=program)
        yield server
    finally:
        server.stop()


def test_all_documents_of_a_node_come_out(node: TwinlogServer):
    passed: list[int] = []
    assert take_all(node.address, DB, COLLECTION, DOCUMENTS, passed.append) > 0
    assert passed[-1] == DOCUMENTS
    with pytest.raises(LoadFailed):
        take_all(node.address, DB, COLLECTION, DOCUMENTS + 1, passed.append)


def test_one_document_of_a_node(node: TwinlogServer):
    assert msgspec.msgpack.encode(document(KEY_BASE + 5)) in get_one(node.address, DB, COLLECTION, KEY_BASE + 5)
    assert b"Ada" not in get_one(node.address, DB, COLLECTION, KEY_BASE + DOCUMENTS)


def test_what_a_node_shows_and_has_sealed(node: TwinlogServer):
    assert 0 <= node.sealed_seq() <= node.visible_seq()
    assert node.visible_seq() >= DOCUMENTS // 1000


@pytest.mark.skipif(find_program("initdb") is None, reason="PostgreSQL is not installed")
def test_a_copy_in_and_out_of_postgresql():
    with Run(short=True, rounds=1, seconds=1).directory() as directory, started(CaseReport("", ""), lambda: PostgresServer(directory / "data")) as (server,):
        if server is None:
            pytest.skip("PostgreSQL cannot run here")
        assert isinstance(server, PostgresServer)
        server.make_table()
        copy_in(server.address, 2500, lambda documents: None)
        text = server.query(f"select doc from docs where id = {KEY_BASE}").encode()
        copy_out(server.address, text, 2500, lambda documents: None)
        assert b"Ada" in select_one(server.address, KEY_BASE + 2499)
        with pytest.raises(LoadFailed):
            copy_out(server.address, text, 2499, lambda documents: None)

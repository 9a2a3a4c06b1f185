"""Requests and answers survive the way there; anything else is BadMessage, with the id where it can be read."""

from __future__ import annotations

import typing

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from node.wire import (
    ABSENT,
    Abort,
    Aggregate,
    AnyRequest,
    Anywhere,
    Backup,
    BackupCollections,
    BackupJob,
    BackupStatus,
    BadMessage,
    Begin,
    Bulk,
    Check,
    Commit,
    Compact,
    Count,
    CreateDatabase,
    CreateIndexes,
    Delete,
    DeleteBackup,
    Distinct,
    DropCollection,
    DropDatabase,
    DropIndex,
    EstimatedCount,
    Explain,
    Failure,
    Fence,
    Find,
    FindAndModify,
    Get,
    Hello,
    Insert,
    Inside,
    KillCursor,
    ListBackups,
    ListCollections,
    ListDatabases,
    ListIndexes,
    Login,
    More,
    Pause,
    Ping,
    Promote,
    PruneArchive,
    ReadBackup,
    Rejoin,
    Replace,
    Reply,
    Request,
    Reseed,
    RestoreBackup,
    Resume,
    RoleHistory,
    SalvageDrop,
    SalvageList,
    SalvageNote,
    SalvageShow,
    ScheduleBackups,
    Scrub,
    Status,
    Switchover,
    Unfence,
    Update,
    VerifyBackup,
    decode_answer,
    decode_fields,
    decode_request,
    encode_answer,
    encode_batch,
    encode_fields,
    encode_request,
    is_absent,
)
from node.wire.request import BULK_PARTS_MAX, WRITES_MAX

raws = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
).map(lambda value: Raw(msgpack.packb(value)))
ids = st.integers(0, 2**63 - 1)
names = st.text(max_size=20)
positions = st.none() | st.lists(st.integers(0, 2**40), min_size=2, max_size=2)
write_ids = st.binary(max_size=16)
numbers = st.integers(0, 999)

REQUESTS: dict[type[Request], st.SearchStrategy[Request]] = {
    Hello: st.builds(Hello, ids, names),
    Login: st.builds(Login, ids, names, names),
    Ping: st.builds(Ping, ids),
    Get: st.builds(Get, ids, names, names, raws, positions),
    Find: st.builds(
        Find, ids, names, names, raws, raws, raws, numbers, numbers, numbers, positions, numbers, raws
    ),
    More: st.builds(More, ids, ids, st.integers(0, 999)),
    KillCursor: st.builds(KillCursor, ids, ids),
    Count: st.builds(Count, ids, names, names, raws, positions, numbers, numbers, numbers),
    EstimatedCount: st.builds(EstimatedCount, ids, names, names, positions),
    Distinct: st.builds(Distinct, ids, names, names, names, raws, numbers, positions),
    Aggregate: st.builds(Aggregate, ids, names, names, raws, numbers, numbers, raws, positions),
    Explain: st.builds(Explain, ids, names, names, names, raws, positions, numbers),
    ListIndexes: st.builds(ListIndexes, ids, names, names, positions),
    Insert: st.builds(Insert, ids, names, names, st.lists(raws, max_size=4), st.booleans(), write_ids),
    Replace: st.builds(Replace, ids, names, names, raws, raws, st.booleans(), write_ids, raws),
    Update: st.builds(
        Update, ids, names, names, raws, raws, st.booleans(), st.booleans(), raws, raws, write_ids
    ),
    FindAndModify: st.builds(
        FindAndModify, ids, names, names, raws, st.sampled_from(["update", "replace", "delete"]),
        raws, raws, raws, st.booleans(), st.booleans(), raws, write_ids,
    ),
    CreateIndexes: st.builds(
        CreateIndexes, ids, names, names, st.lists(st.lists(raws, min_size=2, max_size=2), min_size=1, max_size=3), write_ids
    ),
    DropIndex: st.builds(DropIndex, ids, names, names, names, write_ids),
    Delete: st.builds(Delete, ids, names, names, raws, st.booleans(), write_ids),
    Bulk: st.builds(
        Bulk,
        ids,
        names,
        names,
        st.lists(st.lists(raws, min_size=1, max_size=4), max_size=3),
        st.booleans(),
        write_ids,
    ),
    ListDatabases: st.builds(ListDatabases, ids, st.booleans()),
    ListCollections: st.builds(ListCollections, ids, names),
    DropCollection: st.builds(DropCollection, ids, names, names),
    CreateDatabase: st.builds(
        CreateDatabase, ids, names, st.none() | st.integers(0, 64), st.none() | st.booleans()
    ),
    DropDatabase: st.builds(DropDatabase, ids, names),
    Compact: st.builds(Compact, ids, names),
    Status: st.builds(Status, ids, st.booleans()),
    Begin: st.builds(Begin, ids, names, positions, st.integers(0, 2**40)),
    Anywhere: st.builds(Anywhere, ids, st.builds(ListDatabases, ids, st.booleans())),
    Inside: st.builds(Inside, ids, st.binary(min_size=16, max_size=16), st.builds(Delete, ids, names, names, raws)),
    Commit: st.builds(Commit, ids, names, st.binary(min_size=16, max_size=16), st.binary(max_size=64)),
    Abort: st.builds(Abort, ids, st.binary(min_size=16, max_size=16)),
    Promote: st.builds(Promote, ids, st.booleans(), st.booleans()),
    Switchover: st.builds(Switchover, ids, names, st.integers(1, 600_000), st.booleans()),
    Fence: st.builds(Fence, ids, names),
    Unfence: st.builds(Unfence, ids),
    Rejoin: st.builds(Rejoin, ids, st.booleans()),
    Reseed: st.builds(Reseed, ids, names),
    Pause: st.builds(Pause, ids, names),
    Resume: st.builds(Resume, ids),
    RoleHistory: st.builds(RoleHistory, ids),
    Check: st.builds(Check, ids),
    SalvageList: st.builds(SalvageList, ids),
    SalvageShow: st.builds(SalvageShow, ids, names, names, numbers, numbers),
    SalvageNote: st.builds(SalvageNote, ids, names, st.dictionaries(names, names | numbers | st.booleans(), max_size=3)),
    SalvageDrop: st.builds(SalvageDrop, ids, names),
    Scrub: st.builds(Scrub, ids, names, st.booleans(), st.integers(0, 10_000)),
    Backup: st.builds(Backup, ids, names, st.booleans()),
    ListBackups: st.builds(ListBackups, ids, names, st.booleans()),
    BackupStatus: st.builds(BackupStatus, ids, names),
    DeleteBackup: st.builds(DeleteBackup, ids, names, names, st.booleans()),
    VerifyBackup: st.builds(VerifyBackup, ids, names, names, st.sampled_from(["manifest", "bytes", "content"])),
    RestoreBackup: st.builds(RestoreBackup, ids, names, names, names, numbers, st.sampled_from(["", "latest", "seq", "time"]), numbers, st.booleans()),
    ScheduleBackups: st.builds(ScheduleBackups, ids, names, st.booleans(), numbers, numbers, names, numbers),
    BackupJob: st.builds(BackupJob, ids, numbers, numbers),
    BackupCollections: st.builds(BackupCollections, ids, names, names),
    ReadBackup: st.builds(
        ReadBackup, ids, names, names, names, raws, st.none() | st.lists(raws, max_size=3), st.none() | st.tuples(numbers, numbers).map(list), numbers
    ),
    PruneArchive: st.builds(PruneArchive, ids, names, st.booleans()),
}


def plain(message: msgspec.Struct) -> tuple[object, ...]:
    """A message's values with Raws as their bytes, whose equality is the one meant here."""

    def bare(value: object) -> object:
        if isinstance(value, Raw):
            return bytes(value)
        if isinstance(value, list):
            return [bare(part) for part in value]
        return plain(value) if isinstance(value, Request) else value

    return (type(message), *(bare(getattr(message, field)) for field in message.__struct_fields__))


def test_every_request_has_a_case_here() -> None:
    assert set(REQUESTS) == set(typing.get_args(AnyRequest))


@given(st.one_of(*REQUESTS.values()))
def test_requests_come_back_as_they_were(request: Request) -> None:
    assert plain(decode_request(encode_request(request))) == plain(request)


def test_requests_are_the_drawn_arrays() -> None:
    """Golden bytes: what version 1 of the protocol says. A change here is a change of the protocol's version."""
    document = Raw(bytes.fromhex("81a35f696405"))  # {"_id": 5}
    golden = [
        (Ping(7), "92a470696e6707"),
        (Hello(1, "c"), "93a568656c6c6f01a163"),
        (
            Insert(2, "d", "c", [document], True, b"\x01"),
            "97a6696e7365727402a164a1639181a35f696405c3c40101",
        ),
        (Get(3, "d", "c", Raw(b"\x05")), "96a367657403a164a16305c0"),
        (
            Find(4, "d", "c", Raw(b"\x80"), min_position=[1, 9]),
            "9da466696e6404a164a16380c0c000006592010900c0",
        ),
        (
            Update(6, "d", "c", Raw(b"\x80"), Raw(b"\x80"), True),
            "9ba675706461746506a164a1638080c3c2c0c0c400",
        ),
        (
            FindAndModify(7, "d", "c", Raw(b"\x80"), "delete", request=b"\x01"),
            "9dad66696e64616e646d6f6469667907a164a16380a664656c657465c0c0c0c2c2c0c40101",
        ),
        (Aggregate(8, "d", "c", Raw(b"\x90")), "99a961676772656761746508a164a163906500c0c0"),
        (Delete(5, "d", "c", Raw(b"\x80"), True), "97a664656c65746505a164a16380c3c400"),
        (Begin(8, "d"), "95a5626567696e08a164c000"),
        (
            Inside(9, bytes(16), Get(0, "d", "c", Raw(b"\x05"))),
            "94a6696e7369646509c410" + "00" * 16 + "96a367657400a164a16305c0",
        ),
        (Anywhere(12, Get(0, "d", "c", Raw(b"\x05"))), "93a8616e7977686572650c96a367657400a164a16305c0"),
        (Commit(10, "d", bytes(16), b"\x01"), "95a6636f6d6d69740aa164c410" + "00" * 16 + "c40101"),
        (Abort(11, bytes(16)), "93a561626f72740bc410" + "00" * 16),
    ]
    for request, expected in golden:
        assert encode_request(request).hex() == expected
    assert encode_answer(Reply(2, Raw(b"\x80"), 1, 9)).hex() == "95a57265706c790280" + "0109"
    assert encode_answer(Failure(2, 9, "E", "m", {})).hex() == "96a76661696c7572650209a145a16d80"


@given(ids, raws, st.integers(0, 2**40), st.integers(0, 2**62))
def test_replies_come_back_as_they_were(request_id: int, result: Raw, epoch: int, seq: int) -> None:
    reply = Reply(request_id, result, epoch, seq)
    assert plain(decode_answer(encode_answer(reply))) == plain(reply)


@given(
    ids, st.integers(0, 99999), names, names, st.dictionaries(names, names | st.integers(0, 9) | st.binary(max_size=4))
)
def test_failures_come_back_as_they_were(
    request_id: int, code: int, name: str, message: str, fields: dict[str, object]
) -> None:
    failure = Failure(request_id, code, name, message, fields)
    assert decode_answer(encode_answer(failure)) == failure


def test_options_at_the_end_may_be_left_out() -> None:
    request = decode_request(msgpack.packb(["find", 1, "d", "c", {}]))
    assert isinstance(request, Find)
    assert is_absent(request.sort) and is_absent(request.projection)
    assert (request.skip, request.limit, request.batch, request.min_position) == (0, 0, 101, None)
    request = decode_request(msgpack.packb(["find", 1, "d", "c", {}, [["a", 1]], None]))
    assert isinstance(request, Find)
    assert not is_absent(request.sort) and is_absent(request.projection)
    assert is_absent(ABSENT)


def test_encodings_of_before_fields_grew_at_their_end_are_still_read() -> None:
    find = decode_request(bytes.fromhex("9ba466696e6404a164a16380c0c0000065920109"))
    assert isinstance(find, Find) and find.min_position == [1, 9]
    assert find.max_time_ms == 0 and is_absent(find.hint)
    count = decode_request(msgpack.packb(["count", 1, "d", "c", {}, [1, 9]]))
    assert isinstance(count, Count) and count.min_position == [1, 9]
    assert (count.skip, count.limit, count.max_time_ms) == (0, 0, 0)
    replace = decode_request(msgpack.packb(["replace", 1, "d", "c", {}, {}, True, b"id"]))
    assert isinstance(replace, Replace) and replace.request == b"id" and is_absent(replace.sort)


BAD = {
    "action that there is not": (msgpack.packb(["findandmodify", 3, "d", "c", {}, "upsert"]), 3),
    "no index": (msgpack.packb(["createindexes", 3, "d", "c", []]), 3),
    "index without options": (msgpack.packb(["createindexes", 3, "d", "c", [[[]]]]), 3),
    "negative time": (msgpack.packb(["distinct", 3, "d", "c", "a", {}, -1]), 3),
    "nothing": (b"", -1),
    "not an array": (msgpack.packb({"op": "ping"}), -1),
    "unknown operation": (msgpack.packb(["explode", 12]), 12),
    "operation is no text": (msgpack.packb([5, 12]), 12),
    "no id": (msgpack.packb(["ping"]), -1),
    "negative id": (msgpack.packb(["ping", -1]), -1),
    "id too large": (msgpack.packb(["ping", 2**63]), -1),
    "id is text": (msgpack.packb(["ping", "1"]), -1),
    "a field too many": (msgpack.packb(["ping", 3, True]), 3),
    "a field missing": (msgpack.packb(["get", 3, "d", "c"]), 3),
    "wrong type": (msgpack.packb(["get", 3, 5, "c", 1]), 3),
    "negative limit": (msgpack.packb(["find", 3, "d", "c", {}, None, None, 0, -1]), 3),
    "position of three": (msgpack.packb(["get", 3, "d", "c", 1, [1, 2, 3]]), 3),
    "name too long": (msgpack.packb(["dropdatabase", 3, "d" * 600]), 3),
    "trailing byte": (msgpack.packb(["ping", 3]) + b"\x00", -1),
    "text not utf-8": (b"\x93\xadlistcollectio", -1),
    "bad utf-8": (b"\x93\xaflistcollections\x03\xa2\xff\xfe", 3),
    "write of no parts": (msgpack.packb(["bulk", 3, "d", "c", [[]]]), 3),
    "write of many parts": (msgpack.packb(["bulk", 3, "d", "c", [[0] * (BULK_PARTS_MAX + 1)]]), 3),
    "too many documents": (msgpack.packb(["insert", 3, "d", "c", [0] * (WRITES_MAX + 1)]), 3),
    "transaction of no id": (msgpack.packb(["abort", 3, b""]), 3),
    "what no transaction may be asked": (msgpack.packb(["inside", 3, bytes(16), ["promote", 0]]), 3),
    "a transaction inside": (msgpack.packb(["inside", 3, bytes(16), ["inside", 0, bytes(16), ["ping", 0]]]), 3),
    "array that claims 2^32": (b"\x95\xa6insert\x03\xa1d\xa1c\xdd\xff\xff\xff\xff", -1),
    "nested without end": (b"\x91" * 1_000_000, -1),
    "document nested without end": (b"\x95\xa3get\x03\xa1d\xa1c" + b"\x91" * 1_000_000, -1),
    "reserved byte": (b"\x95\xa3get\x03\xa1d\xa1c\xc1", -1),
}


@pytest.mark.parametrize(("data", "request_id"), BAD.values(), ids=BAD.keys())
def test_bad_requests_are_named(data: bytes, request_id: int) -> None:
    with pytest.raises(BadMessage) as caught:
        decode_request(data)
    assert caught.value.fields == {"id": request_id}
    assert len(caught.value.message) < 300
    assert caught.value.refusal == "BadRequest"


@given(st.one_of(*REQUESTS.values()), st.data())
def test_a_request_cut_or_prolonged_is_refused(request: Request, data: st.DataObject) -> None:
    encoded = encode_request(request)
    size = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(BadMessage):
        decode_request(encoded[:size])
    with pytest.raises(BadMessage):
        decode_request(encoded + b"\xc0")


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_a_message(data: bytes) -> None:
    for decode in (decode_request, decode_answer):
        try:
            message = decode(data)
        except BadMessage as error:
            assert set(error.fields) == {"id"}
        else:
            assert isinstance(message, msgspec.Struct)


def test_bad_answers_are_named() -> None:
    for data, request_id in (
        (msgpack.packb(["reply", 4]), 4),
        (msgpack.packb(["ping", 4]), 4),
        (msgpack.packb(["failure", 4, "code", "name", "message", {}]), 4),
        (b"\xc1", -1),
    ):
        with pytest.raises(BadMessage) as caught:
            decode_answer(data)
        assert caught.value.fields == {"id": request_id}


def test_an_answer_may_grow_fields_that_an_older_client_passes_over() -> None:
    answer = decode_answer(msgpack.packb(["reply", 4, {}, 1, 2, "new"]))
    assert isinstance(answer, Reply) and (answer.epoch, answer.seq) == (1, 2)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 300, 2**16 - 1, 2**16])
@pytest.mark.parametrize("cursor", [0, 5, 2**62])
def test_a_batch_of_documents_is_written_as_any_fields_are(count, cursor):
    documents = [b"\x81\xa3_id" + bytes([number % 128]) for number in range(count)]
    assert bytes(encode_batch(documents, cursor)) == bytes(encode_fields({"docs": [Raw(one) for one in documents], "cursor": cursor}))


def test_results_made_by_hand() -> None:
    raw = encode_fields({"n": 1, "ids": [Raw(b"\x05")], "none": None})
    assert decode_fields(raw) == {"n": 1, "ids": [5], "none": None}
    with pytest.raises(BadMessage):
        decode_fields(b"\xc1")


def test_a_password_shows_in_no_repr() -> None:
    assert "secret" not in repr(Login(1, "ann", "secret"))

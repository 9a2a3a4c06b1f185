"""Unique indexes: what collides, in every way of writing; drops, conflicts of options, lists."""

from __future__ import annotations

import pytest
import trio
from bson import Decimal128, Int64

from storage import MemoryDisk, canonical, decode_value, encode_document, operations
from storage.catalog import creation
from storage.declared import IndexSpec, read_spec
from storage.errors import BadDocument, BadIndex, BadName, DuplicateKey, IndexNotFound, ReadOnly
from storage.unique import ENTRIES_MAX, UniqueIndex
from tests.engine.cold_disk import ColdDisk
from tests.engine.model import check_entries, insert, new_database, opened, settled


def index(*fields: str, **options: object) -> UniqueIndex:
    spec = read_spec([[field, 1] for field in fields], {"unique": True, **options})
    return UniqueIndex(spec.changed(number=7))


def values(of: UniqueIndex, document: dict) -> list[tuple]:
    return sorted(of.entries(document).values(), key=repr)


@pytest.mark.parametrize(
    ("fields", "document", "expected"),
    [
        (["a"], {"a": 1}, [(1,)]),
        (["a"], {}, [(None,)]),
        (["a"], {"a": None}, [(None,)]),
        (["a"], {"a": [1, 2, 1.0]}, [(1,), (2,)]),
        (["a"], {"a": [[1, 2], 3]}, [(3,), ([1, 2],)]),
        (["a"], {"a": {"b": 1}}, [({"b": 1},)]),
        (["a.b"], {"a": {"b": 1}}, [(1,)]),
        (["a.b"], {"a": 5}, [(None,)]),
        (["a.b"], {"a": []}, [(None,)]),
        (["a.b"], {"a": [{"b": 1}, {"b": [2, 3]}, {}, 4]}, [(1,), (2,), (3,), (None,)]),
        (["a.b"], {"a": [[{"b": 1}]]}, [(None,)]),
        (["a", "b"], {"a": [1, 2], "b": 3}, [(1, 3), (2, 3)]),
        (["a.b", "a.c"], {"a": [{"b": 1, "c": 2}, {"b": 3}]}, [(1, 2), (3, None)]),
    ],
)
def test_a_document_has_the_entries_that_mongodb_gives_it(fields: list[str], document: dict, expected: list) -> None:
    assert values(index(*fields), document) == sorted(expected, key=repr)


def test_sparse_and_partial_indexes_leave_documents_out() -> None:
    sparse = index("a", "b", sparse=True)
    assert values(sparse, {"c": 1}) == [] and values(sparse, {"b": None}) == [(None, None)]
    assert values(index("a.b", sparse=True), {"a": [{}, {"b": 1}, 2]}) == [(1,)]
    partial = index("a", partialFilterExpression={"on": True, "n": {"$gt": 5}})
    assert values(partial, {"a": 1, "on": True, "n": 5}) == [] and values(partial, {"a": 1, "on": True, "n": 6}) == [(1,)]


def test_equal_values_have_one_entry_and_an_empty_array_is_no_null() -> None:
    one = index("a")
    keys = {next(iter(one.entries({"a": a}))) for a in (1, 1.0, Int64(1), Decimal128("1.00"))}
    assert len(keys) == 1
    others = [{"a": None}, {"a": []}, {"a": [[]]}, {"a": ""}, {"a": {}}, {"a": False}, {"a": 0}, {"a": b""}, {"a": "x" * 300}]
    assert len({next(iter(one.entries(document))) for document in others}) == len(others)
    assert len({*one.entries({"a": "x" * 10**6}), *one.entries({"a": "x" * 10**6 + "y"})}) == 2
    assert all(len(key) < 300 for key in one.entries({"a": "x" * 10**6}))
    pairs = index("a", "b")
    assert pairs.entries({"a": "x", "b": "yz"}).keys() != pairs.entries({"a": "xy", "b": "z"}).keys()


def test_what_an_index_cannot_take_is_refused_by_name() -> None:
    with pytest.raises(BadDocument, match="arrays") as parallel:
        index("a", "b").entries({"a": [1], "b": [2]})
    assert parallel.value.code == 171
    with pytest.raises(BadDocument, match="entries"):
        index("a").entries({"a": list(range(ENTRIES_MAX + 1))})


@pytest.mark.parametrize(
    ("keys", "options", "code"),
    [
        ([], {}, 67),
        ([["", 1]], {}, 67),
        ([["a.", 1]], {}, 67),
        ([["$a", 1]], {}, 67),
        ([["a", 0]], {}, 67),
        ([["a", True]], {}, 67),
        ([["a", "2d"]], {}, 67),
        ([["a", 1], ["a", -1]], {}, 67),
        ([[f"f{n}", 1] for n in range(33)], {}, 13103),
        ([["a", 1]], {"name": "*"}, 67),
        ([["a", 1]], {"name": "_id_"}, 197),
        ([["a", 1]], {"uniqe": True}, 197),
        ([["a", 1]], {"collation": {"locale": "en"}}, 67),
        ([["a", "hashed"]], {"unique": True}, 16764),
        ([["a", "text"]], {"unique": True}, 67),
        ([["a.0", 1]], {"unique": True}, 67),
        ([["a", 1]], {"sparse": True, "partialFilterExpression": {"a": 1}}, 67),
        ([["a", 1]], {"partialFilterExpression": {"a": {"$ne": 1}}}, 67),
        ([["a", 1]], {"partialFilterExpression": {"a": {"$exists": False}}}, 67),
        ([["a", 1]], {"partialFilterExpression": {"$nor": [{"a": 1}]}}, 67),
        ([["a", 1]], {"partialFilterExpression": {"$bad": 1}}, 67),
        ([["a", 1]], {"partialFilterExpression": 5}, 14),
        ([["a", 1], ["b", 1]], {"expireAfterSeconds": 5}, 67),
        ([["_id", 1]], {"expireAfterSeconds": 5}, 197),
        ([["_id", 1]], {"unique": True}, 197),
        ([["a", 1]], {"expireAfterSeconds": -1}, 67),
        ([["a", 1]], {"expireAfterSeconds": "5"}, 67),
        ([["a", 1]], {"name": "x" * 300}, 67),
        ([["a", 1]], {"unique": "yes"}, 14),
        (5, {}, 67),
        ([["a", 1]], 5, 14),
    ],
)
def test_bad_indexes_are_refused_with_mongodbs_code(keys: object, options: object, code: int) -> None:
    with pytest.raises(BadIndex) as refused:
        read_spec(keys, options)
    assert refused.value.code == code


def test_an_index_is_named_and_listed_as_mongodb_does() -> None:
    spec = read_spec([["a.b", 1.0], ["c", -1], ["t", "text"]], {"background": True, "sparse": True, "default_language": "en"})
    assert spec.name == "a.b_1_c_-1_t_text"
    assert spec.listed() == {
        "v": 2,
        "key": {"a.b": 1, "c": -1, "t": "text"},
        "name": spec.name,
        "sparse": True,
        "default_language": "en",
    }
    assert read_spec({"_id": 1}, {}).name == "_id_"


@pytest.mark.parametrize(
    ("keys", "options", "code"),
    [
        ([["a", 1]], {"unique": True}, None),
        ([["a", 1]], {}, 86),  # the same name, but not unique
        ([["b", 1]], {"name": "a_1"}, 86),
        ([["a", 1]], {"unique": True, "name": "other"}, 85),
        ([["a", 1]], {"unique": True, "expireAfterSeconds": 5}, 85),
        ([["a", 1]], {"name": "plain"}, None),
        ([["a", -1]], {"unique": True}, None),
    ],
)
async def test_what_stands_beside_an_index_and_what_does_not(keys: list, options: dict, code: int | None) -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await operations.create_index(database, "things", [["a", 1]], {"unique": True})
        if code is None:
            _, name = await operations.create_index(database, "things", keys, options)
            await settled(database, database.position.seq)
            assert name in [row["name"] for row in operations.list_indexes(database, "things")]
        else:
            with pytest.raises(BadIndex) as refused:
                await operations.create_index(database, "things", keys, options)
            assert refused.value.code == code


async def refused(call: object) -> DuplicateKey:
    with pytest.raises(DuplicateKey) as caught:
        await call
    return caught.value


async def test_every_way_of_writing_meets_the_index() -> None:
    things = "things"
    async with opened(MemoryDisk(), memtable_records_max=6) as engine:
        database = await new_database(engine)
        await operations.create_index(database, things, [["email", 1]], {"unique": True})
        await insert(database, {"_id": 1, "email": "x"}, {"_id": 2, "email": "y"})
        await database.sealing.seal_now()
        await insert(database, {"_id": 3, "email": "z"})
        taken = encode_document({"_id": 9, "email": "x"})
        now = operations.insert_now(database, things, [taken])
        assert now is not None and [type(row.error) for row in now.errors] == [DuplicateKey]
        error = now.errors[0].error
        assert str(error) == 'E11000 duplicate key error collection: db.things index: email_1 dup key: { email: "x" }'
        assert {key: decode_value(error.fields[key]) for key in ("key_pattern", "key_value")} == {
            "key_pattern": {"email": 1},
            "key_value": {"email": "x"},
        }
        assert operations.insert_each(database, things, [canonical(9)], [taken], [b""]) == (0, [0])
        many = await operations.insert(
            database, things, [encode_document({"_id": 10 + n, "email": e}) for n, e in enumerate("axbb")], ordered=False
        )
        assert (many.inserted, [row.index for row in many.errors]) == (2, [1, 3])
        await refused(operations.replace_one(database, things, {"_id": 3}, encode_document({"_id": 3, "email": "x"})))
        await refused(operations.replace_one(database, things, {"_id": 99}, encode_document({"_id": 99, "email": "y"}), upsert=True))
        await refused(operations.update(database, things, {"_id": 3}, {"$set": {"email": "x"}}))
        await refused(operations.update(database, things, {"_id": 50}, {"$set": {"email": "x"}}, upsert=True))
        await refused(operations.update(database, things, {}, {"$set": {"email": "q"}}, many=True))  # the second one meets the first
        await refused(
            operations.find_one_and(
                database, things, {"_id": 3}, action=operations.Action.UPDATE, change={"$set": {"email": "y"}}
            )
        )
        bulk = await operations.bulk(
            database,
            things,
            [
                ["insert", taken],
                ["update", {"_id": 3}, {"$set": {"email": "y"}}, {}],
                ["delete", {"email": "y"}, True],
                ["insert", taken],
            ],
            ordered=False,
        )
        assert [row.index for row in bulk.errors] == [1, 3]  # the update of all had moved the first document away from "x"
        await check_entries(database)
        assert operations.list_collections(database) == [things]
        with pytest.raises(BadName):
            await insert(database, {"_id": 1}, collection="$unique.1.email_1")


async def test_values_that_were_given_up_are_free_at_once() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await operations.create_index(database, "things", [["tags", 1]], {"unique": True})
        await insert(database, {"_id": 1, "tags": ["a", "b", "a"]}, {"_id": 2, "tags": "c"})
        await refused(operations.update(database, "things", {"_id": 2}, {"$set": {"tags": ["d", "b"]}}))
        await operations.update(database, "things", {"_id": 1}, {"$pull": {"tags": "b"}})
        await operations.update(database, "things", {"_id": 2}, {"$set": {"tags": ["d", "b"]}})
        await operations.delete(database, "things", {"_id": 1})
        result = await operations.insert(database, "things", [encode_document({"_id": 3, "tags": ["a", "c"]})])
        assert result.errors == []
        await check_entries(database)


async def test_an_index_over_documents_that_are_there_is_built_or_nothing_is_left_of_it() -> None:
    async with opened(MemoryDisk(), memtable_records_max=100) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "a": n, "b": n % 400} for n in range(700)))
        _, name = await operations.create_index(database, "things", [["a", 1]], {"unique": True})
        error = await refused(operations.create_index(database, "things", [["b", 1]], {"unique": True}))
        assert error.fields["index"] == "b_1"
        await settled(database, database.position.seq)
        assert [row["name"] for row in operations.list_indexes(database, "things")] == ["_id_", name]
        await check_entries(database)


async def test_writers_go_on_while_an_index_is_built() -> None:
    async with opened(MemoryDisk(), memtable_records_max=300) as engine:
        database = await new_database(engine)
        await insert(database, *({"_id": n, "a": n} for n in range(1500)))

        async def write() -> None:
            for n in range(0, 400):
                await operations.update(database, "things", {"_id": 1499 - n}, {"$inc": {"a": 10_000}})
                await operations.delete(database, "things", {"_id": n})
                await insert(database, {"_id": -1 - n, "a": n})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await operations.create_index(database, "things", [["a", 1]], {"unique": True})
        assert operations.list_indexes(database, "things")[1] == {"v": 2, "key": {"a": 1}, "name": "a_1", "unique": True}
        await check_entries(database)


async def test_dropping_an_index_or_its_collection_drops_the_entries() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        for field in "abc":
            await operations.create_index(database, "things", [[field, 1]], {"unique": True, "sparse": True})
        await insert(database, {"_id": 1, "a": 1, "b": 1, "c": 1})
        assert (await operations.drop_index(database, "things", "a_1")).deleted == 1
        assert (await operations.insert(database, "things", [encode_document({"_id": 2, "a": 1})])).errors == []
        await check_entries(database)
        with pytest.raises(IndexNotFound):
            await operations.drop_index(database, "things", "a_1")
        with pytest.raises(BadIndex, match="_id"):
            await operations.drop_index(database, "things", "_id_")
        assert (await operations.drop_index(database, "things", "*")).deleted == 2
        await operations.create_index(database, "things", [["b", 1]], {"unique": True, "sparse": True})
        await operations.drop_collection(database, "things")
        assert dict(database.catalog.ids) == {}
        await operations.create_index(database, "things", [["b", 1]], {"unique": True})
        await insert(database, {"_id": 1, "b": 1})
        await check_entries(database)


async def test_keys_of_the_catalog_document_that_are_not_known_are_kept() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await insert(database, {"_id": 1})
        database.commit([creation("things", database.catalog.ids["things"], fields={"a": 1, "b": 2}, future={"x": 1})])
        await operations.create_index(database, "things", [["a", 1]], {"unique": True})
        await operations.drop_index(database, "things", "a_1")
        entry = database.catalog.entries[database.catalog.ids["things"]]
        assert entry == {"_id": "things", "id": 1, "fields": {"a": 1, "b": 2}, "future": {"x": 1}}


@pytest.mark.parametrize("seed", [None, 1, 2])
async def test_cold_entries_are_read_first(seed: int | None) -> None:
    disk = ColdDisk(seed)
    async with opened(disk, cache_bytes=0) as engine:
        database = await new_database(engine)
        await operations.create_index(database, "things", [["a", 1]], {"unique": True})
        await insert(database, *({"_id": n, "a": n} for n in range(40)))
        await database.sealing.seal_now()
        docs = [encode_document({"_id": 100 + n, "a": n * 20}) for n in range(4)]
        result = await operations.insert(database, "things", docs, ordered=False)
        assert [row.index for row in result.errors][:2] == [0, 1]
        await refused(operations.update(database, "things", {"_id": 5}, {"$set": {"a": 6}}))
        await operations.update(database, "things", {"_id": {"$lt": 20}}, {"$inc": {"a": 1000}}, many=True)
        await operations.delete(database, "things", {"a": 1003})
        await database.sealing.seal_now()
        await operations.create_index(database, "things", [["_id", -1]], {"unique": True})
        await check_entries(database)
        assert disk.asked > 50


async def test_old_requests_recall_their_part_of_an_insert() -> None:
    async with opened(MemoryDisk()) as engine:
        database = await new_database(engine)
        await operations.create_index(database, "things", [["a", 1]], {"unique": True})
        docs = [encode_document({"_id": n, "a": n % 450}) for n in range(500)]
        first = await operations.insert(database, "things", docs, ordered=False, request=b"r" * 16)
        again = await operations.insert(database, "things", docs, ordered=False, request=b"r" * 16)
        assert first.inserted == again.inserted == 450 and again.replayed
        assert {row.index for row in first.errors} == set(range(450, 500)) >= {row.index for row in again.errors}


def test_an_entry_that_a_newer_version_wrote_is_kept_whole() -> None:
    entry = {"name": "a_1", "key": [["a", 1]], "unique": True, "number": 3, "state": "building", "newer": {"x": 1}}
    ready = IndexSpec(entry).changed(state=None)
    assert ready.entry == {key: value for key, value in entry.items() if key != "state"} and not ready.is_building


async def test_a_copy_holds_the_index_as_its_source_does() -> None:
    async with opened(MemoryDisk()) as here:
        source = await new_database(here)
        await insert(source, *({"_id": n, "a": n} for n in range(30)))
        await operations.create_index(source, "things", [["a", 1]], {"unique": True, "expireAfterSeconds": 9})
        await insert(source, {"_id": 99, "a": 99})
        await settled(source, source.mark())
        disk = MemoryDisk()
        for start in (2, 3):
            async with opened(disk, start=start, memtable_records_max=10) as there:
                target = await there.create_database(source.name, uuid=source.uuid, shards=source.shards)
                target.refuse_writes(ReadOnly("a copy"))
                while (run := await source.read_log(target.position.seq, 500)) and run.data:
                    await settled(target, target.append_frames(run.data))
                for database in (source, target):
                    if start == 2:
                        await database.mark_advance.wait_for(source.position.seq)
                if start == 2:
                    assert target.marks == source.marks and None not in target.marks.values()
                    await target.sealing.seal_now()
                    continue
                assert operations.list_indexes(target, "things") == operations.list_indexes(source, "things")
                target.refuse_writes(None)
                await settled(target, target.begin_reign(2))
                result = await operations.insert(target, "things", [encode_document({"_id": 100, "a": 7})])
                assert [row.error.fields["index"] for row in result.errors] == ["a_1"]
                await check_entries(target)

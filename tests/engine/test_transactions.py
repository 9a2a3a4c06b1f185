"""Transactions: own writes, a snapshot that does not move, conflicts by name, verbs of every kind inside, bounds and ends."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from storage import (
    MemoryDisk,
    canonical,
    decode_document,
    decode_value,
    encode_document,
    operations,
    transactions,
)
from storage.errors import (
    DiskFull,
    DuplicateKey,
    NoSuchTransaction,
    OperationNotSupportedInTransaction,
    Overloaded,
    ReadOnly,
    SnapshotTooOld,
    TransactionTooLarge,
    WriteConflict,
)
from storage.operations import Action
from storage.transaction_scope import OWN_ROWS_END
from tests.engine.model import check_entries, insert, new_database, opened, settled
from tests.engine.test_log_damage import disk_with

THINGS = "things"


async def found(db, collection: str = THINGS, spec: dict | None = None, **options) -> list[dict]:
    cursor = await operations.find(db, collection, spec or {}, **options)
    rows: list[dict] = []
    while not cursor.done:
        rows += [decode_document(data) for data in await cursor.next_batch(100)]
    return rows


async def values(db, collection: str = THINGS, spec: dict | None = None) -> dict:
    return {row["_id"]: row.get("n") for row in await found(db, collection, spec)}


async def set_n(db, key: object, n: int) -> operations.WriteResult:
    return await operations.update(db, THINGS, {"_id": key}, {"$set": {"n": n}})


async def test_a_transaction_sees_its_own_writes_and_others_see_them_after_the_commit() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, *({"_id": n, "n": n} for n in range(4)))
        await settled(db, db.position.seq)
        end = db.position
        tx = db.transactions.begin()
        await operations.insert(tx.scope, THINGS, [encode_document({"_id": 9, "n": 9})])
        await operations.insert(tx.scope, "others", [encode_document({"_id": 1, "n": 1})])
        await set_n(tx.scope, 1, 11)
        await operations.delete(tx.scope, THINGS, {"_id": 2})
        inside = {0: 0, 1: 11, 3: 3, 9: 9}
        assert await values(tx.scope) == inside
        assert await values(tx.scope, "others") == {1: 1}
        assert operations.list_collections(tx.scope) == ["others", THINGS]
        assert (db.position, await values(db)) == (end, {n: n for n in range(4)})
        result = await tx.commit()
        assert result.seq == end.seq + 1 == db.position.seq
        await settled(db, result.seq)
        assert await values(db) == inside
        assert await values(db, "others") == {1: 1}
        with pytest.raises(NoSuchTransaction, match="committed"):
            await values(tx.scope)


async def test_who_commits_second_meets_a_conflict_that_names_the_document() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, {"_id": "a", "n": 1}, {"_id": "b", "n": 1})
        first, second = db.transactions.begin(), db.transactions.begin()
        await set_n(first.scope, "a", 2)
        await set_n(second.scope, "a", 3)
        await first.commit()
        with pytest.raises(WriteConflict, match="'a'.*run it again") as met:
            await second.commit()
        assert decode_value(met.value.fields["key"]) == "a"
        assert met.value.fields["collection"] == f"{db.name}.{THINGS}"
        assert (db.transactions.open, db.transactions.bytes) == (0, 0)
        await settled(db, db.position.seq)
        assert await values(db) == {"a": 2, "b": 1}


async def test_a_snapshot_does_not_move_whatever_happens_outside() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, *({"_id": n, "n": n} for n in range(50)))
        tx = db.transactions.begin()
        before = await values(tx.scope)
        await operations.update(db, THINGS, {}, {"$inc": {"n": 100}}, many=True)
        await db.sealing.seal_now()
        await insert(db, {"_id": "later", "n": 1})
        await operations.drop_collection(db, THINGS)
        await insert(db, {"_id": 1, "n": -1})
        await db.sealing.seal_now()
        assert await values(tx.scope) == before == {n: n for n in range(50)}
        assert await operations.get(tx.scope, THINGS, b"\x07") is not None
        assert (await tx.commit()).seq == tx.position.seq


async def test_write_skew_is_allowed_as_snapshot_isolation_allows_it() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, {"_id": "a", "n": 1}, {"_id": "b", "n": 1})
        first, second = db.transactions.begin(), db.transactions.begin()
        for tx, key in ((first, "a"), (second, "b")):
            assert sum((await values(tx.scope)).values()) == 2  # each leaves one on duty, as it believes
            await set_n(tx.scope, key, 0)
        await first.commit()
        await second.commit()
        await settled(db, db.position.seq)
        assert await values(db) == {"a": 0, "b": 0}


async def test_a_collection_that_others_made_dropped_or_indexed_meanwhile_is_a_conflict() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, {"_id": 1, "n": 1})
        await insert(db, {"_id": 1, "n": 1}, collection="more")
        made, dropped, indexed = (db.transactions.begin() for _ in range(3))
        await operations.insert(made.scope, "new", [encode_document({"_id": 1})])
        await set_n(dropped.scope, 1, 2)
        await operations.update(indexed.scope, "more", {"_id": 1}, {"$set": {"n": 2}})
        await insert(db, {"_id": 2}, collection="new")
        await operations.drop_collection(db, THINGS)
        await operations.create_index(db, "more", [["n", 1]], {"unique": True})
        for tx, what in ((made, "db.new was created"), (dropped, "db.things was dropped"), (indexed, "db.more got other unique")):
            with pytest.raises(WriteConflict, match=what):
                await tx.commit()


async def test_unique_indexes_hold_inside_and_their_values_conflict() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await operations.create_index(db, THINGS, [["mail", 1]], {"unique": True})
        await insert(db, {"_id": 1, "mail": "a"})
        first, second = db.transactions.begin(), db.transactions.begin()
        refused = await operations.insert(first.scope, THINGS, [encode_document({"_id": 2, "mail": "a"})])
        assert isinstance(refused.errors[0].error, DuplicateKey)
        for tx, key in ((first, 2), (second, 3)):
            assert (await operations.insert(tx.scope, THINGS, [encode_document({"_id": key, "mail": "b"})])).inserted == 1
        await first.commit()
        with pytest.raises(WriteConflict, match="unique index 'mail_1'"):
            await second.commit()
        moving = db.transactions.begin()
        await settled(db, db.position.seq)
        moving = db.transactions.begin()
        await operations.delete(moving.scope, THINGS, {"_id": 1})
        await operations.insert(moving.scope, THINGS, [encode_document({"_id": 4, "mail": "a"})])
        await moving.commit()
        await settled(db, db.position.seq)
        await check_entries(db)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("rows", [3, 700])
async def test_queries_by_index_see_the_transactions_rows(sealed: bool, rows: int) -> None:
    async with opened(MemoryDisk(), index_rows_min=1) as engine:
        db = await new_database(engine)
        await insert(db, *({"_id": n, "n": n % 10} for n in range(800)))
        if sealed:
            await db.sealing.seal_now()
        await found(db, spec={"n": 3})  # wanted from now on
        await db.indexing.wait_built()
        await insert(db, {"_id": 900, "n": 4}, {"_id": 901, "n": 4})  # too few for a chunk
        tx = db.transactions.begin()
        await operations.update(db, THINGS, {"_id": {"$lt": 20}}, {"$set": {"n": 77}}, many=True)  # not for this snapshot
        await settled(db, db.position.seq)
        await found(db, spec={"n": 77})
        if sealed:
            await db.sealing.seal_now()  # the snapshot keeps the index that it began with
        held = {n: n % 10 for n in range(800)}
        for n in range(rows):
            await operations.update(tx.scope, THINGS, {"_id": n}, {"$set": {"n": 20 + n % 5}})
            held[n] = 20 + n % 5
        await operations.insert(tx.scope, THINGS, [encode_document({"_id": 1000, "n": 3})])
        await operations.delete(tx.scope, THINGS, {"_id": 13})
        await set_n(tx.scope, 900, 3)
        held.update({1000: 3, 900: 3, 901: 4})
        del held[13]
        view = tx.scope.view()
        assert view.has_index(view.catalog.ids[THINGS], {"n": 1})
        for n in (3, 4, 7, 21, 77):
            wanted = {key: value for key, value in held.items() if value == n}
            assert await values(tx.scope, spec={"n": n}) == wanted
            assert await operations.count(tx.scope, THINGS, {"n": n}) == len(wanted)
        ordered = await found(tx.scope, spec={"n": {"$gte": 0}}, sort=[["n", -1]], limit=5)
        assert [row["n"] for row in ordered] == sorted(held.values())[:-6:-1]
        assert set(await operations.distinct(tx.scope, THINGS, "n", {})) == set(held.values())
        cursor = await operations.aggregate(tx.scope, THINGS, [{"$group": {"_id": "$n", "c": {"$sum": 1}}}])
        groups = {row["_id"]: row["c"] for row in map(decode_document, await cursor.next_batch(100))}
        assert groups == {n: list(held.values()).count(n) for n in set(held.values())}
        await set_n(tx.scope, 5, 99)  # after the queries: nothing that they kept may go stale
        assert list(await values(tx.scope, spec={"n": 99})) == [5]
        assert (await found(tx.scope, spec={"n": {"$gte": 0}}))[-1] == {"_id": 5, "n": 99}  # natural order: of the last writes


async def test_a_cursor_inside_is_not_moved_by_later_writes_of_its_transaction() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, *({"_id": n, "n": 0} for n in range(5)))
        tx = db.transactions.begin()
        cursor = await operations.find(tx.scope, THINGS, {})
        seen = await cursor.next_batch(1)
        await operations.update(tx.scope, THINGS, {}, {"$set": {"n": 1}}, many=True)
        seen += await cursor.next_batch(100)
        assert [decode_document(data)["n"] for data in seen] == [0] * 5


async def test_every_verb_runs_inside() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, *({"_id": n, "n": n} for n in range(3)))
        tx = db.transactions.begin()
        scope = tx.scope
        upserted = await operations.update(scope, THINGS, {"_id": 7}, {"$set": {"n": 7}}, upsert=True)
        again = await operations.update(scope, THINGS, {"n": 7}, {"$inc": {"n": 1}}, many=True, upsert=True)
        assert (decode_value(upserted.upserted_id), again.matched) == (7, 1)
        writes = [["insert", encode_document({"_id": 8, "n": 8})], ["update", {"_id": 8}, {"$inc": {"n": 1}}, {}], ["delete", {"_id": 0}, False]]
        total = await operations.bulk(scope, THINGS, writes)
        assert (total.inserted, total.modified, total.deleted, total.seq) == (1, 1, 1, tx.position.seq)
        _, old = await operations.find_one_and(scope, THINGS, {"_id": 1}, action=Action.UPDATE, change={"$set": {"n": 10}})
        assert decode_document(old)["n"] == 1
        once = [await operations.update(scope, THINGS, {"_id": 2}, {"$inc": {"n": 1}}, request=b"r" * 16) for _ in range(2)]
        assert [result.replayed for result in once] == [False, True]
        assert await operations.estimated_count(scope, THINGS) == await operations.count(scope, THINGS, {}) == 4
        assert (await operations.explain(scope, THINGS, "find", {"filter": {"n": 1}}))["queryPlanner"]
        assert operations.insert_now(scope, THINGS, [encode_document({"_id": 9, "n": 9})]).inserted == 1
        assert operations.get_keys_now(scope, THINGS, [canonical(9), canonical(0)])[1] is None
        await tx.commit()
        await settled(db, db.position.seq)
        assert await values(db) == {1: 10, 2: 3, 7: 8, 8: 9, 9: 9}


async def test_what_no_transaction_can_hold_is_refused_by_name() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, {"_id": 1})
        scope = db.transactions.begin().scope
        for call in (
            operations.create_index(scope, THINGS, [["a", 1]]),
            operations.drop_index(scope, THINGS, "a_1"),
            operations.drop_collection(scope, THINGS),
            operations.aggregate(scope, THINGS, [{"$out": "other"}]),
            operations.aggregate(scope, THINGS, [{"$merge": {"into": "other"}}]),
        ):
            with pytest.raises(OperationNotSupportedInTransaction) as met:
                await call
            assert met.value.code == 263


async def test_a_transaction_is_bounded_by_what_one_commit_holds() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        tx = db.transactions.begin()
        assert (await operations.insert(tx.scope, THINGS, [encode_document({"_id": n}) for n in range(5_000)])).inserted == 5_000
        with pytest.raises(TransactionTooLarge, match="5002"):
            await operations.insert(tx.scope, THINGS, [encode_document({"_id": n}) for n in (5_001,)])
        for _ in range(8):  # the same documents again and again: row numbers run out, and begin anew
            await operations.update(tx.scope, THINGS, {}, {"$inc": {"n": 1}}, many=True)
        assert max(version[1] for version in tx.scope.shown().rows[tx.scope.catalog.ids[THINGS]].values()) < OWN_ROWS_END
        assert (await tx.commit()).seq == db.position.seq
        await settled(db, db.position.seq)
        assert await values(db) == dict.fromkeys(range(5_000), 8)
        large = db.transactions.begin()
        for n in range(2):
            doc = encode_document({"_id": f"l{n}", "b": b"x" * (8 * 2**20)})
            await operations.insert(large.scope, THINGS, [doc])
        with pytest.raises(TransactionTooLarge):
            await operations.insert(large.scope, THINGS, [doc.replace(b"l1", b"l2")])
        await large.commit()


async def test_the_number_and_the_memory_of_open_transactions_are_bounded() -> None:
    async with opened(MemoryDisk(), transactions_max=2, transactions_bytes_max=10_000) as engine:
        db = await new_database(engine)
        first, second = db.transactions.begin(), db.transactions.begin()
        with pytest.raises(Overloaded) as met:
            db.transactions.begin()
        assert (met.value.fields["bound"], met.value.fields["limit"]) == ("transactions_max", 2)
        doc = encode_document({"_id": 1, "b": b"x" * 6_000})
        await operations.insert(first.scope, THINGS, [doc])
        with pytest.raises(Overloaded, match="transactions_bytes_max|hold") as met:
            await operations.insert(second.scope, THINGS, [doc])
        first.abort()
        first.abort()
        assert db.transactions.bytes == 0
        await operations.insert(second.scope, THINGS, [doc])
        await second.commit()


async def test_a_transaction_over_its_time_ends_and_says_so(autojump_clock) -> None:
    async with opened(MemoryDisk(), transaction_time_limit_s=60.0, view_age_s=1.0) as engine:
        db = await new_database(engine)
        await insert(db, *({"_id": n, "n": n} for n in range(3)))
        short, long = db.transactions.begin(time_limit_s=5), db.transactions.begin(time_limit_s=1e9)
        await trio.sleep(10)
        assert db.transactions.open == 1
        for call in (lambda: db.transactions.get(short.id), short.check, lambda: operations.list_collections(short.scope)):
            with pytest.raises(NoSuchTransaction, match="time limit"):
                call()
        assert len(await values(db.transactions.get(long.id).scope)) == 3  # older than any view may become
        cursor = await operations.find(long.scope, THINGS, {})
        await trio.sleep(55)
        with pytest.raises(NoSuchTransaction, match="time limit"):
            await cursor.next_batch(1)
        with pytest.raises(NoSuchTransaction, match="restarted"):
            db.transactions.get(b"?" * 16)


async def test_the_oldest_transaction_ends_when_too_much_changed_since(monkeypatch) -> None:
    monkeypatch.setattr(transactions, "CHANGES_MAX", 100)
    monkeypatch.setattr(transactions, "GENERATION_CHANGES", 10)
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        old = db.transactions.begin()
        await operations.insert(old.scope, THINGS, [encode_document({"_id": "mine"})])
        for n in range(9):
            await insert(db, *({"_id": 10 * n + i} for i in range(10)))
        young = db.transactions.begin()
        assert old.is_open
        for n in range(9, 12):
            await insert(db, *({"_id": 10 * n + i} for i in range(10)))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(SnapshotTooOld):
            await old.commit()
        assert young.is_open
        assert db.transactions.changes <= 100
        young.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert db.transactions.changes == 0


async def test_a_commit_that_is_asked_again_gives_the_same_answer() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        db = await new_database(engine)
        tx = db.transactions.begin()
        await operations.insert(tx.scope, THINGS, [encode_document({"_id": 1, "n": 1})])
        result = await tx.commit(b"q" * 16)
        await settled(db, result.seq)
        assert db.transactions.committed(b"q" * 16).seq == result.seq
        assert db.transactions.committed(b"z" * 16) is None
    async with opened(disk, start=2) as engine:
        known = engine.database("db").transactions.committed(b"q" * 16)
        assert (known.seq, known.replayed) == (result.seq, True)


async def test_a_database_that_takes_no_writes_refuses_the_commit_and_it_may_be_asked_again() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        tx = db.transactions.begin()
        await operations.insert(tx.scope, THINGS, [encode_document({"_id": 1, "n": 1})])
        db.refuse_writes(ReadOnly("frozen"))
        reader = db.transactions.begin()
        assert await values(reader.scope) == {}
        await reader.commit()
        with pytest.raises(ReadOnly, match="frozen"):
            await tx.commit()
        db.refuse_writes(None)
        assert (await tx.commit()).seq == db.position.seq


async def test_transactions_end_with_their_database() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        tx = db.transactions.begin()
        await operations.insert(tx.scope, THINGS, [encode_document({"_id": 1})])
        await engine.drop_database("db")
        with pytest.raises(NoSuchTransaction, match="closed"):
            await tx.commit()
        with pytest.raises(NoSuchTransaction, match="closed"):
            db.transactions.begin()




async def test_a_power_cut_at_any_byte_of_a_transaction_leaves_all_of_it_or_nothing() -> None:
    disk = MemoryDisk()
    async with opened(disk) as engine:
        db = await new_database(engine)
        await operations.create_index(db, THINGS, [["n", 1]], {"unique": True})
        await insert(db, *({"_id": n, "n": n} for n in range(2)))
        appended = db.log_bytes
        tx = db.transactions.begin()
        await operations.insert(tx.scope, "made", [encode_document({"_id": n, "n": n}) for n in range(2)])
        await operations.update(tx.scope, THINGS, {}, {"$inc": {"n": 100}}, many=True)
        await settled(db, (await tx.commit()).seq)
        files = {path: disk.read_file(path) for path in disk._files}
        path, length = db.log.segments[-1][0], db.log_bytes - appended
    log = files[path].rstrip(b"\0")
    outcomes = []
    for cut in range(len(log) - length, len(log) + 1):
        async with opened(disk_with({**files, path: log[:cut]})) as engine:
            db = engine.database("db")
            state = (await values(db), await values(db, "made"))
            await check_entries(db)
            outcomes.append(state == ({0: 100, 1: 101}, {0: 0, 1: 1}))
            assert outcomes[-1] or state == ({0: 0, 1: 1}, {})
    assert outcomes == [False] * length + [True]


async def test_what_was_appended_but_not_yet_visible_at_begin_is_a_conflict_too() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, {"_id": 1, "n": 1})
        await set_n(db, 1, 2)  # not flushed
        tx = db.transactions.begin()
        assert tx.position.seq == db.position.seq - 1
        assert await values(tx.scope) == {1: 1}
        await settled(db, db.position.seq)
        await db.sealing.seal_now()
        await set_n(tx.scope, 1, 3)
        with pytest.raises(WriteConflict):
            await tx.commit()


async def test_a_standby_reads_at_its_snapshot_and_refuses_the_commit_of_writes() -> None:
    async with opened(MemoryDisk()) as engine, opened(MemoryDisk(), start=2) as other:
        db = await new_database(engine)
        await insert(db, {"_id": 1, "n": 1})
        standby = await other.create_database("db", uuid=db.uuid)
        standby.refuse_writes(ReadOnly("a standby"))
        standby.append_frames((await db.read_log(0, 2**20)).data)
        await settled(standby, db.position.seq)
        tx = standby.transactions.begin()
        seq = db.position.seq
        await insert(db, {"_id": 2, "n": 2})
        standby.append_frames((await db.read_log(seq, 2**20)).data)
        await settled(standby, db.position.seq)
        assert (await values(tx.scope), await values(standby)) == ({1: 1}, {1: 1, 2: 2})
        await set_n(tx.scope, 1, 5)
        with pytest.raises(ReadOnly, match="standby"):
            await tx.commit()
        await operations.delete(tx.scope, THINGS, {"_id": 1})
        await operations.insert(tx.scope, THINGS, [encode_document({"_id": 2})])
        standby.refuse_writes(None)
        with pytest.raises(WriteConflict, match="_id 2"):
            await tx.commit()


async def test_deletions_alone_may_use_the_reserve_of_a_full_disk() -> None:
    disk = MemoryDisk(capacity_bytes=30_000_000)
    async with opened(disk, free_bytes_min=1_000_000, log_segment_bytes=100_000, memtable_bytes_max=500_000) as engine:
        db = await new_database(engine)
        with pytest.raises(DiskFull):
            for n in range(10_000):
                await insert(db, {"_id": n, "b": "x" * 10_000})
        deleting, putting = db.transactions.begin(), db.transactions.begin()
        await operations.delete(deleting.scope, THINGS, {"_id": 1})
        await set_n(putting.scope, 2, 1)
        await deleting.commit()
        with pytest.raises(DiskFull):
            await putting.commit()
        assert putting.is_open


async def test_a_document_put_and_deleted_inside_leaves_no_trace() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, {"_id": 1, "n": 1})
        await db.sealing.seal_now()
        tx = db.transactions.begin()
        await operations.insert(tx.scope, THINGS, [encode_document({"_id": 2})])
        await operations.delete(tx.scope, THINGS, {"_id": 2})
        await operations.delete(tx.scope, THINGS, {"_id": 1})
        await operations.insert(tx.scope, THINGS, [encode_document({"_id": 1, "n": 5})])
        await operations.delete(tx.scope, THINGS, {"_id": 1})
        await settled(db, (await tx.commit()).seq)
        table = db.sealing.active.rows[db.catalog.ids[THINGS]]
        assert list(table) == [canonical(1)]
        await db.sealing.seal_now()
        assert await operations.estimated_count(db, THINGS) == 0


async def test_upserts_inside_see_what_the_transaction_wrote_while_they_searched() -> None:
    async with opened(MemoryDisk()) as engine:
        db = await new_database(engine)
        await insert(db, {"_id": 0, "n": 0})
        tx = db.transactions.begin()
        async with trio.open_nursery() as nursery:
            for n in range(6):
                change = {"$setOnInsert": {"n": n}}
                nursery.start_soon(partial(operations.update, tx.scope, THINGS, {"one": 1}, change, upsert=True))
        assert await operations.count(tx.scope, THINGS, {"one": 1}) == 1

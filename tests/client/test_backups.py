"""Backups by the client's faces: in this process and at a node, blocking and on trio."""

from __future__ import annotations

import pytest

import twinlog
from twinlog import errors


@pytest.fixture
def shop(engine_client):
    """Empty shelves and a database with something in it."""
    database = engine_client["shop"]
    for safety in (False, True):
        for row in database.list_backups(safety=safety):
            database.delete_backup(row["name"])
    database["things"].insert_many([{"_id": number} for number in range(20)])
    return database


def ids(database) -> list[int]:
    return sorted(document["_id"] for document in database["things"].find({}))


def test_what_was_backed_up_comes_back_and_can_be_undone(shop):
    steps: list[str] = []
    made = shop.backup(told=steps.append)
    assert made["database"] == "shop" and made["size_bytes"] > 0
    shop["things"].insert_one({"_id": 99})
    done = shop.restore_backup(made["name"], told=steps.append)
    assert done["state_hash"] == made["state_hash"] and ids(shop) == list(range(20))
    (safety,) = shop.list_backups(safety=True)
    assert safety["name"] == done["safety"]
    shop.restore_backup(safety["name"])
    assert ids(shop) == [*range(20), 99]
    shop["things"].insert_one({"_id": 100})
    assert [row["name"] for row in shop.list_backups()] == [made["name"]]


def test_beside_it_under_another_name(shop, engine_client):
    made = shop.backup()
    shop["things"].delete_one({"_id": 0})
    assert shop.restore_backup(made["name"], new_name="copy")["db"] == "copy"
    assert len(ids(engine_client["copy"])) == 20 and len(ids(shop)) == 19
    engine_client["copy"]["things"].insert_one({"_id": "new"})
    with pytest.raises(errors.OperationFailure, match="already"):
        shop.restore_backup(made["name"], new_name="copy")


def test_a_dropped_database_comes_back(shop, engine_client):
    made = shop.backup()
    engine_client.drop_database("shop")
    assert shop.restore_backup(made["name"])["safety"] == ""
    assert ids(shop) == list(range(20))


def test_verify_status_and_delete(shop):
    made = shop.backup()
    for level in ("manifest", "bytes", "content"):
        assert shop.verify_backup(made["name"], level=level) == {"good": True, "level": level, "findings": [], "findings_left_out": 0}
    status = shop.backup_status()
    assert status["total_backups"] == 1 and status["last_proven"]["name"] == made["name"]
    shop.delete_backup(made["name"])
    with pytest.raises(errors.OperationFailure) as refused:
        shop.delete_backup(made["name"])
    assert refused.value.details["name"] == "NoSuchBackup"
    with pytest.raises(errors.InvalidName):
        shop.restore_backup("../shop")
    with pytest.raises(ValueError, match="level"):
        shop.verify_backup(made["name"], level="all")


def test_a_database_in_this_process_has_no_schedule():
    with twinlog.open(":memory:") as client, pytest.raises(errors.InvalidOperation, match="nodes of a cluster"):
        client["shop"].schedule_backups(interval_minutes=60)


def test_a_directory_that_is_opened_again_has_what_was_restored(tmp_path):
    with twinlog.open(tmp_path) as client:
        client["shop"]["things"].insert_one({"_id": 1})
        name = client["shop"].backup()["name"]
        client["shop"]["things"].insert_one({"_id": 2})
        client["shop"].restore_backup(name)
    with twinlog.open(tmp_path) as client:
        assert ids(client["shop"]) == [1]
        assert [row["name"] for row in client["shop"].list_backups()] == [name]
        client["shop"]["things"].insert_one({"_id": 3})


# Incremental ones, and reading out of them.


def test_an_incremental_backup_says_what_it_needs(shop):
    full = shop.backup()
    shop["things"].insert_one({"_id": 99})
    made = shop.backup(incremental=True)
    assert (full["kind"], made["kind"], made["base"], made["needs"]) == ("full", "incremental", full["name"], [full["name"]])
    assert full["written_bytes"] == full["size_bytes"] and 0 < made["written_bytes"] < made["size_bytes"]
    assert [row["needed_by"] for row in shop.list_backups()] == [[], [made["name"]]]
    with pytest.raises(errors.OperationFailure) as refused:
        shop.delete_backup(full["name"])
    assert refused.value.details["fields"]["needed_by"] == [made["name"]]
    shop["things"].delete_many({})
    shop.restore_backup(made["name"])
    assert ids(shop) == [*range(20), 99]
    assert shop.delete_backup(full["name"], with_dependents=True) == [made["name"], full["name"]]


def test_documents_come_out_of_a_backup_without_a_restore(shop):
    shop["other"].insert_one({"_id": "a", "at": 1})
    name = shop.backup()["name"]
    shop["things"].delete_many({"_id": {"$lt": 10}})
    assert shop.backup_collections(name) == {"other": 1, "things": 20}
    assert sorted(found["_id"] for found in shop.backup_documents(name, "things")) == list(range(20))
    assert sorted(found["_id"] for found in shop.backup_documents(name, "things", {"_id": {"$lt": 10}})) == list(range(10))
    assert [found["_id"] for found in shop.backup_documents(name, "things", ids=[7, "none", 3])] == [7, 3]
    assert list(shop.backup_documents(name, "things", ids=[])) == []
    assert len(list(shop.backup_documents(name, "things", limit=7))) == 7
    assert list(shop.backup_documents(name, "other")) == [{"_id": "a", "at": 1}]
    assert ids(shop) == list(range(10, 20)), "and nothing was restored"
    shop["things"].insert_many(list(shop.backup_documents(name, "things", {"_id": {"$lt": 10}})))
    assert ids(shop) == list(range(20))
    with pytest.raises(errors.OperationFailure, match="no collection 'nothing'"):
        list(shop.backup_documents(name, "nothing"))
    with pytest.raises(ValueError, match="limit"):
        shop.backup_documents(name, "things", limit=-1)


def test_more_ids_than_one_request_takes(shop):
    shop["many"].insert_many([{"_id": number} for number in range(2_500)])
    name = shop.backup()["name"]
    assert [found["_id"] for found in shop.backup_documents(name, "many", ids=range(2_400, -1, -1))] == list(range(2_400, -1, -1))
    shop.drop_collection("many")


def test_without_an_archive_there_is_nothing_to_prune(shop):
    with pytest.raises(errors.OperationFailure, match="no log archive"):
        shop.prune_archive(dry_run=True)

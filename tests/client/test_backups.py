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

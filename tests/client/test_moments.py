"""Restores to a moment: a backup carried forward by the log archive, by the client's own verbs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import twinlog
from twinlog import errors


@pytest.fixture
def client(tmp_path):
    with twinlog.open(tmp_path / "data", archive=str(tmp_path / "archive"), archive_interval_s=3600.0) as opened:
        yield opened


def numbers(database) -> list[int]:
    return sorted(document["_id"] for document in database["things"].find())


def test_a_mistake_is_undone_to_the_commit_before_it(client):
    shop = client["shop"]
    for number in range(5):
        shop["things"].insert_one({"_id": number})
    made = shop.backup()
    for number in range(5, 20):
        shop["things"].insert_one({"_id": number})
    before = client.last_position("shop")[1]
    shop["things"].delete_many({})
    plan = shop.restore_backup(to=before, explain=True)
    assert (plan["backup"], plan["seq"], plan["commits"] > 14, plan["undone"] > 0) == (made["name"], before, True, True)
    assert plan["backup_bytes"] == made["size_bytes"] and 0.5 <= plan["seconds"] < 60
    assert numbers(shop) == [], "explaining does nothing"
    done = shop.restore_backup(to=before)
    assert (done["backup"], done["seq"]) == (made["name"], before) and numbers(shop) == list(range(20))
    shop["things"].insert_one({"_id": 99})
    again = shop.restore_backup(made["name"], to="latest")
    assert numbers(shop) == [*range(20), 99] and again["seq"] > before, "along the branch that was restored"
    assert numbers(shop) == [*range(20), 99] and shop.restore_backup(made["name"])["seq"] == made["seq"] and numbers(shop) == list(range(5))


def test_a_time_and_another_name(client):
    shop = client["shop"]
    shop["things"].insert_one({"_id": 1})
    shop.backup()
    shop["things"].insert_one({"_id": 2})
    middle = shop.restore_backup(to="latest", explain=True)["time_us"]
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=middle)
    shop["things"].insert_one({"_id": 3})
    shop.restore_backup(to=when, new_name="then")
    assert numbers(client["then"]) == [1, 2] and numbers(shop) == [1, 2, 3]
    client["then"]["things"].insert_one({"_id": 4})
    shop.restore_backup(to=when.replace(tzinfo=None))  # UTC, unless it says another
    assert numbers(shop) == [1, 2]


def test_what_cannot_be_reached_is_refused_and_nothing_is_touched(client, tmp_path):
    shop = client["shop"]
    shop["things"].insert_one({"_id": 1})
    with pytest.raises(errors.OperationFailure, match="no backup"):
        shop.restore_backup(to="latest")
    made = shop.backup()
    for to, told in ((10**9, "ends at commit|nothing after"), (datetime(2001, 1, 1, tzinfo=UTC), "older one"), (made["seq"] - 1, "older one")):
        with pytest.raises(errors.OperationFailure, match=told):
            shop.restore_backup(to=to)
        with pytest.raises(errors.OperationFailure, match=told):
            shop.restore_backup(made["name"], to=to)
    for wrong in ("yesterday", -1, True, 1.5):
        with pytest.raises(errors.ConfigurationError, match="latest"):
            shop.restore_backup(to=wrong)
    with pytest.raises(errors.ConfigurationError, match="explain"):
        shop.restore_backup(made["name"], explain=True)
    assert numbers(shop) == [1] and shop.list_backups(safety=True) == []
    with twinlog.open(tmp_path / "other") as plain:
        plain["shop"]["things"].insert_one({"_id": 1})
        plain["shop"].backup()
        with pytest.raises(errors.OperationFailure, match="archive"):
            plain["shop"].restore_backup(to="latest")

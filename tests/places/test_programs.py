"""A program's own databases with their backups elsewhere, by the client's verbs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import twinlog
from twinlog import errors

from .conftest import Place


def numbers(database) -> list[int]:
    return sorted(document["_id"] for document in database["things"].find())


def test_backups_and_moments_of_a_program(tmp_path: Path, place: Place) -> None:
    given = {"backup_path": place.path, "archive": place.path, "archive_interval_s": 3600.0, "backup_key_file": place.key_file}
    with twinlog.open(tmp_path / "data", **given) as client:
        shop = client["shop"]
        shop["things"].insert_many([{"_id": number} for number in range(10)])
        made = shop.backup()
        assert any(name.startswith(f"shop/{made['name']}/") for name in place.names())
        for level in ("manifest", "bytes", "content"):
            assert shop.verify_backup(made["name"], level=level)["good"]
        shop["things"].insert_one({"_id": 10})
        before = client.last_position("shop")[1]
        shop["things"].delete_many({})
        plan = shop.restore_backup(to=before, explain=True)
        assert plan["backup"] == made["name"] and plan["seq"] == before and numbers(shop) == []
        assert shop.restore_backup(to=before)["seq"] == before and numbers(shop) == list(range(11))
        (safety,) = shop.list_backups(safety=True)
        assert shop.restore_backup(safety["name"]) and numbers(shop) == []
        status = shop.backup_status()
        assert status["total_backups"] == 1 and status["last_proven"]["name"] == made["name"]
        shop.delete_backup(made["name"])
        assert shop.list_backups() == []


def test_the_key_that_is_missing_is_told_and_nothing_is_touched(tmp_path: Path, place: Place) -> None:
    if not place.key_file:
        pytest.skip("about encrypted places")
    with twinlog.open(tmp_path / "data", backup_path=place.path, backup_key_file=place.key_file) as client:
        client["shop"]["things"].insert_one({"_id": 1})
        made = client["shop"].backup()
    with twinlog.open(tmp_path / "data", backup_path=place.path) as client:
        shop = client["shop"]
        (row,) = shop.list_backups()
        assert row["name"] == made["name"] and "encrypted with key" in row["problem"] and "backup_key_file" in row["problem"]
        for attempt in (shop.verify_backup, shop.restore_backup):
            with pytest.raises(errors.OperationFailure, match="encrypted with key"):
                attempt(made["name"])
        assert numbers(shop) == [1] and shop.list_backups(safety=True) == []


def test_options_that_can_be_none_are_refused_when_it_is_opened(tmp_path: Path) -> None:
    open_key = tmp_path / "open.key"
    open_key.write_text("00" * 32)
    open_key.chmod(0o644)
    for given, said in (
        ({"backup_key_file": str(tmp_path / "none")}, "keygen"),
        ({"backup_key_file": str(open_key)}, "chmod 600"),
        ({"backup_path": "relative"}, "absolute"),
        ({"backup_path": "s3://key:secret@bucket/x"}, "credentials"),
        ({"archive": "s3://bucket/x?secret=1"}, "no option"),
    ):
        with pytest.raises(errors.ConfigurationError, match=said):
            twinlog.open(tmp_path / "data", **given)
    assert not os.path.exists(tmp_path / "data")

"""Backups over the client port: jobs, names, schedules that move with the primary, and the restore of a whole pair."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import storage
from node import wire
from node.backup_schedule import MINUTE_US, Schedule, shown_time, time_of
from node.server import Node
from storage import errors

from .fakes import BareClient, connect, document, open_rig, value
from .test_pair import _client, pair  # noqa: F401 - a fixture

MINUTE_S = 60


def seams_by_the_clock() -> storage.Seams:
    """Everything in memory; the wall clock is trio's."""
    disk = storage.MemoryDisk()
    draws = iter(range(1, 10**9))
    return storage.Seams(
        disk,
        lambda: 1_700_000_000_000_000 + int(trio.current_time() * 1e6) + next(draws) % 1_000,  # never the same twice
        lambda size: next(draws).to_bytes(8, "big").rjust(size, b"r")[-size:],
        storage.WorkHere(disk),
    )


@asynccontextmanager
async def rig_and_client(nursery, seams: storage.Seams | None = None):
    async with open_rig(seams=seams or seams_by_the_clock()) as rig, connect(rig, nursery) as client:
        await client.call(wire.Insert, "chat", "m", [document(id=number, text="x" * number) for number in range(50)])
        yield rig, client


async def ended(client: BareClient, kind: type, *values: Any, **named: Any) -> dict:
    """A job's result; its error is raised."""
    job = await client.call(kind, *values, **named)
    while job["running"]:
        job = await client.call(wire.BackupJob, job["job"], 5_000)
    if job["error"]:
        code, name, message, fields = job["error"]
        raise errors.from_wire(name, message, fields)
    return job["result"]


async def test_back_up_list_verify_status_delete(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        made = await ended(client, wire.Backup, "chat")
        assert made["name"].startswith("backup_20231114_") and made["files"] > 1 and made["verified"] is None
        assert made["path"] == f"_backups/chat/{made['name']}"
        second = await ended(client, wire.Backup, "chat")
        listed = (await client.call(wire.ListBackups, "chat"))["backups"]
        assert [row["name"] for row in listed] == [second["name"], made["name"]], "newest first"
        verified = await ended(client, wire.VerifyBackup, "chat", made["name"])
        assert verified == {"good": True, "level": "content", "findings": [], "findings_left_out": 0}
        listed = (await client.call(wire.ListBackups, "chat"))["backups"]
        assert listed[1]["verified"]["good"] is True and listed[0]["verified"] is None
        status = await client.call(wire.BackupStatus, "chat")
        assert (status["enabled"], status["total_backups"], status["running"]) == (False, 2, False)
        assert status["last_backup"]["name"] == second["name"] and status["next_backup_at"] is None
        assert status["last_proven"]["name"] == made["name"] and status["backup_path"] == "_backups/chat"
        await client.call(wire.DeleteBackup, "chat", made["name"])
        assert (await client.call(wire.BackupStatus, "chat"))["total_backups"] == 1
        with pytest.raises(errors.NoSuchBackup):
            await client.call(wire.DeleteBackup, "chat", made["name"])


@pytest.mark.parametrize("name", ["..", "../chat", "backup_20260415_120000/..", "backup_20260415_120000\\x", "chat", "", "backup_20260415_120000\0"])
async def test_a_name_that_is_a_path_is_refused(nursery, name, autojump_clock):
    async with rig_and_client(nursery) as (_, client):
        for kind in (wire.DeleteBackup, wire.VerifyBackup):
            with pytest.raises(errors.BadName):
                await client.call(kind, "chat", name)
            with pytest.raises(errors.BadName):
                await client.call(kind, "../chat", "backup_20260415_120000")


async def test_damage_in_a_backup_is_found_and_told(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        made = await ended(client, wire.Backup, "chat")
        disk = rig.engine.seams.disk
        path = next(f"{made['path']}/{name}" for name in disk.list_dir(made["path"]) if name.endswith(".db") and disk.size(f"{made['path']}/{name}") > 100)
        data = disk.read_file(path)
        disk.replace_file(path, data[:90] + bytes([data[90] ^ 4]) + data[91:])
        found = await ended(client, wire.VerifyBackup, "chat", made["name"])
        assert not found["good"] and path in found["findings"][0]["file"]
        (row,) = (await client.call(wire.ListBackups, "chat"))["backups"]
        assert row["verified"]["good"] is False and row["verified"]["first"]


async def test_a_job_that_fails_says_why_and_one_that_never_was_is_named(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        with pytest.raises(errors.NoSuchDatabase):
            await ended(client, wire.Backup, "nowhere")
        rig.engine.seams.disk.capacity_bytes = 1
        with pytest.raises(errors.DiskFull):
            await ended(client, wire.Backup, "chat")
        rig.engine.seams.disk.capacity_bytes = None
        assert (await client.call(wire.ListBackups, "chat"))["backups"] == [], "nothing half made"
        with pytest.raises(errors.BadRequest, match="no backup job"):
            await client.call(wire.BackupJob, 99)


# Schedules.


async def test_a_schedule_makes_proves_and_rotates(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        status = await client.call(wire.ScheduleBackups, "chat", True, 1, 3)
        assert (status["enabled"], status["interval_minutes"], status["max_copies"]) == (True, 1, 3)
        await trio.sleep(5)
        (first,) = (await client.call(wire.ListBackups, "chat"))["backups"]
        assert first["verified"]["good"] is True, "proven at once"
        status = await client.call(wire.BackupStatus, "chat")
        assert time_of(status["next_backup_at"]) == time_of(first["created_at"]) + MINUTE_US
        assert status["last_proven"]["name"] == first["name"] and status["last_failure"] is None
        await trio.sleep(5.5 * MINUTE_S)
        listed = (await client.call(wire.ListBackups, "chat"))["backups"]
        assert len(listed) == 3 and first["name"] not in [row["name"] for row in listed]
        times = [time_of(row["created_at"]) for row in listed]
        assert all(MINUTE_US <= later - earlier <= MINUTE_US + 3_000_000 for later, earlier in zip(times, times[1:]))
        assert b"twinlog_backups_made 6.0" in rig.metrics.exposition()
        told = await client.call(wire.Status)
        assert told["backups"]["chat"]["last_proven"]["name"] == listed[0]["name"]
        await client.call(wire.ScheduleBackups, "chat", False, 1)
        await trio.sleep(5 * MINUTE_S)
        assert len((await client.call(wire.ListBackups, "chat"))["backups"]) == 3


async def test_of_so_many_backups_one_is_full_and_rotation_keeps_what_is_needed(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        status = await client.call(wire.ScheduleBackups, "chat", True, 1, 2, "", 3)
        assert status["full_every"] == 3
        seen: dict[str, str] = {}
        for number in range(7):
            await trio.sleep(5 if number == 0 else MINUTE_S + 1)
            listed = (await client.call(wire.ListBackups, "chat"))["backups"]
            seen[listed[0]["name"]] = listed[0]["kind"]
            assert listed[0]["verified"]["good"] is True and len(listed) <= 2 + 2, "two, and what they need"
            await client.call(wire.Insert, "chat", "m", [document(id=1_000 + number)])
        kinds = list(seen.values())
        assert kinds == ["full", "incremental", "incremental"] * 2 + ["full"]
        assert listed[1]["kind"] == "incremental" and set(listed[1]["needs"]) <= {row["name"] for row in listed}
        assert all(row["needed_by"] for row in listed[2:]), "only those that others need stay beyond two"


async def test_a_damaged_base_is_told_and_the_next_backup_is_full(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        await client.call(wire.ScheduleBackups, "chat", True, 1, 0, "", 100)
        await trio.sleep(5)
        (full,) = (await client.call(wire.ListBackups, "chat"))["backups"]
        disk = rig.engine.seams.disk
        path = next(f"{full['path']}/{name}" for name in disk.list_dir(full["path"]) if name.endswith(".db") and disk.size(f"{full['path']}/{name}") > 100)
        data = disk.read_file(path)
        disk.replace_file(path, data[:90] + bytes([data[90] ^ 4]) + data[91:])
        await trio.sleep(MINUTE_S + 1)
        status = await client.call(wire.BackupStatus, "chat")
        assert path in status["last_failure"]["why"], "which file in which backup"
        await trio.sleep(MINUTE_S)
        newest, second, oldest = (await client.call(wire.ListBackups, "chat"))["backups"]
        assert [row["verified"]["good"] for row in (newest, second, oldest)] == [True, False, False]
        assert (newest["kind"], second["kind"]) == ("full", "incremental")
        assert (await client.call(wire.BackupStatus, "chat"))["last_proven"]["name"] == newest["name"]


async def test_what_was_proven_does_not_count_when_its_base_is_found_wanting_later(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        full = await ended(client, wire.Backup, "chat")
        await client.call(wire.Insert, "chat", "m", [document(id=1_000)])
        made = await ended(client, wire.Backup, "chat", True)
        assert (await ended(client, wire.VerifyBackup, "chat", made["name"]))["good"]
        assert (await client.call(wire.BackupStatus, "chat"))["last_proven"]["name"] == made["name"]
        rig.engine.seams.disk.replace_file(f"{full['path']}/database.json", b"{}")
        assert not (await ended(client, wire.VerifyBackup, "chat", full["name"]))["good"]
        listed = (await client.call(wire.ListBackups, "chat"))["backups"]
        assert [row["sound"] for row in listed] == [False, False] and listed[0]["verified"]["good"]
        assert (await client.call(wire.BackupStatus, "chat"))["last_proven"] is None


async def test_the_archive_goes_with_the_backups_once_the_shelf_is_full(nursery, autojump_clock, monkeypatch):
    monkeypatch.setattr("storage.backup.log_archive.FILE_BYTES_MAX", 1_000)
    archived = storage.EngineOptions(free_bytes_min=0, archive="_archive", archive_interval_s=1.0)
    async with open_rig(seams=seams_by_the_clock(), options=archived) as rig, connect(rig, nursery) as client:
        disk, number = rig.engine.seams.disk, 0

        def files() -> list[str]:
            (directory,) = [name for name in disk.list_dir("_archive") if name.startswith("chat.")]
            return [name for name in disk.list_dir(f"_archive/{directory}") if name.endswith(".log")]

        async def write() -> None:
            nonlocal number
            for _ in range(5):
                number += 1
                await client.call(wire.Insert, "chat", "m", [document(id=number, text="x" * 300)])
                await trio.sleep(1.1)

        await write()
        await client.call(wire.ScheduleBackups, "chat", True, 1, 3)
        before = files()
        await trio.sleep(MINUTE_S)
        await write()
        assert (await client.call(wire.BackupStatus, "chat"))["total_backups"] == 2
        assert set(before) <= set(files()), "three are kept, and until three are there nothing goes"
        for _ in range(4):
            await trio.sleep(MINUTE_S)
            await write()
        assert not set(before) & set(files())
        oldest = (await client.call(wire.ListBackups, "chat"))["backups"][-1]
        plan = await ended(client, wire.RestoreBackup, "chat", oldest["name"], to="latest", explain=True)
        assert plan["seq"] == rig.engine.databases["chat"].position.seq
        found = await ended(client, wire.PruneArchive, "chat", True)
        assert (found["needed_by"], found["seq"], found["why_not"]) == (oldest["name"], oldest["seq"], "")
        rig.member.refusal = errors.NotPrimary("elsewhere", primary="x:1")
        with pytest.raises(errors.NotPrimary):
            await client.call(wire.PruneArchive, "chat")


async def test_documents_are_read_out_of_a_backup_page_by_page(nursery, autojump_clock, monkeypatch):
    monkeypatch.setattr("storage.backup.reading.PAGE_ROWS_MAX", 7)
    async with rig_and_client(nursery) as (rig, client):
        full = await ended(client, wire.Backup, "chat")
        await client.call(wire.Insert, "chat", "m", [document(id=99)])
        made = await ended(client, wire.Backup, "chat", True)
        assert (made["kind"], made["base"]) == ("incremental", full["name"])
        assert (await client.call(wire.BackupCollections, "chat", full["name"])) == {"collections": [["m", 50]]}
        found, after, pages = [], None, 0
        while after is not None or not pages:
            page = await client.call(wire.ReadBackup, "chat", made["name"], "m", value({"_id": {"$gte": 20}}), after=after)
            assert len(page["docs"]) <= 7
            found, after, pages = found + [one["_id"] for one in page["docs"]], page["next"], pages + 1
        assert sorted(found) == [*range(20, 50), 99] and pages > 4
        page = await client.call(wire.ReadBackup, "chat", full["name"], "m", ids=[value(99), value(3)])
        assert [one["_id"] for one in page["docs"]] == [3]
        with pytest.raises(errors.BackupNeeded):
            await client.call(wire.DeleteBackup, "chat", full["name"])
        assert await client.call(wire.DeleteBackup, "chat", full["name"], True) == {"deleted": [made["name"], full["name"]]}
        with pytest.raises(errors.NoSuchBackup):
            await client.call(wire.ReadBackup, "chat", full["name"], "m")


async def test_a_schedule_is_resumed_after_a_restart_and_a_missed_run_is_made_up_for_once(nursery, autojump_clock):
    seams = seams_by_the_clock()
    async with rig_and_client(nursery, seams) as (rig, client):
        await client.call(wire.ScheduleBackups, "chat", True, 1, 0)
        await trio.sleep(5)
        mirror = json.loads(seams.disk.read_file("_backups/chat/_backup_config.json"))
        assert mirror == {"enabled": True, "interval_minutes": 1, "max_copies": 0, "path": "", "full_every": 1}
    await trio.sleep(7 * MINUTE_S)
    async with open_rig(seams=seams) as rig, connect(rig, nursery) as client:
        await trio.sleep(5)
        assert len((await client.call(wire.ListBackups, "chat"))["backups"]) == 2, "one for all that were missed"
        await trio.sleep(MINUTE_S + 10)
        assert len((await client.call(wire.ListBackups, "chat"))["backups"]) == 3


async def test_a_failure_is_told_and_tried_again_at_the_next_interval(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        rig.engine.seams.disk.capacity_bytes = 10**8
        await client.call(wire.ScheduleBackups, "chat", True, 1, 1)
        await trio.sleep(5)
        (good,) = (await client.call(wire.ListBackups, "chat"))["backups"]
        rig.engine.seams.disk.capacity_bytes = 1
        await trio.sleep(2 * MINUTE_S)
        status = await client.call(wire.BackupStatus, "chat")
        assert "free" in status["last_failure"]["why"]
        assert status["last_backup"]["name"] == good["name"], "the last good one stays"
        assert b"twinlog_backups_failed 2.0" in rig.metrics.exposition()
        assert (await client.call(wire.Status))["backups"]["chat"]["last_failure"] == status["last_failure"]
        rig.engine.seams.disk.capacity_bytes = 10**8
        await trio.sleep(MINUTE_S)
        status = await client.call(wire.BackupStatus, "chat")
        assert status["last_failure"] is None and status["last_backup"]["name"] != good["name"]


async def test_a_backup_that_cannot_be_restored_pushes_no_good_one_out(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        await client.call(wire.ScheduleBackups, "chat", True, 1, 1)
        await trio.sleep(5)
        (good,) = (await client.call(wire.ListBackups, "chat"))["backups"]
        disk, create = rig.engine.seams.disk, rig.engine.seams.disk.rename

        def rots(old: str, new: str) -> None:
            create(old, new)
            if old.endswith(".part"):
                disk.replace_file(f"{new}/database.json", b"{}")

        disk.rename = rots
        await trio.sleep(MINUTE_S)
        listed = (await client.call(wire.ListBackups, "chat"))["backups"]
        assert [row["verified"]["good"] for row in listed] == [False, True] and listed[1]["name"] == good["name"]
        status = await client.call(wire.BackupStatus, "chat")
        assert "cannot be restored" in status["last_failure"]["why"] and status["last_proven"]["name"] == good["name"]
        assert b"twinlog_backups_unproven 1.0" in rig.metrics.exposition()


async def test_a_bad_schedule_changes_nothing(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        for values in (("chat", True, 0), ("chat", True, 10**9), ("chat", True, 1, 10**9), ("chat", True, 1, 0, "relative"), ("chat", True, 1, 0, "/a/../b"), ("chat", True, 1, 0, "", 0), ("chat", True, 1, 0, "", 501)):
            with pytest.raises(errors.BadRequest):
                await client.call(wire.ScheduleBackups, *values)
        with pytest.raises(errors.NoSuchDatabase):
            await client.call(wire.ScheduleBackups, "chta", True, 1)
        with pytest.raises(errors.BadName):
            await client.call(wire.ScheduleBackups, "../chat", True, 1)
        assert storage.SYSTEM_DATABASE not in rig.engine.databases
        rig.member.refusal = errors.NotPrimary("elsewhere", primary="x:1")
        with pytest.raises(errors.NotPrimary):
            await client.call(wire.ScheduleBackups, "chat", True, 1)


async def test_two_databases_have_no_directory_in_common(nursery, autojump_clock, tmp_path):
    async with rig_and_client(nursery) as (rig, client):
        await client.call(wire.Insert, "other", "m", [document(id=1)])
        await client.call(wire.ScheduleBackups, "chat", True, 1, 0, str(tmp_path / "shelf"))
        with pytest.raises(errors.BadRequest, match="holds the backups of database 'chat'"):
            await client.call(wire.ScheduleBackups, "other", True, 1, 0, f"{tmp_path}/shelf/")
        await trio.sleep(5)
        (made,) = (await client.call(wire.ListBackups, "chat"))["backups"]
        assert (tmp_path / "shelf" / made["name"] / "_manifest.json").exists() and made["verified"]["good"]


async def test_what_is_in_system_is_not_for_clients(nursery, autojump_clock):
    async with rig_and_client(nursery) as (rig, client):
        await client.call(wire.ScheduleBackups, "chat", True, 1)
        assert (await client.call(wire.ListDatabases))["databases"] == ["chat"]
        assert (await client.call(wire.ListDatabases, True))["databases"] == ["_system", "chat"]
        seq = rig.engine.databases["_system"].position.seq
        out = value([{"$out": "backup_schedules"}])
        for kind, *values in (
            (wire.Insert, "_system", "backup_schedules", [document(id="x")]),
            (wire.Insert, "_system", "backup_schedules", [document(id="x"), document(id="y")]),
            (wire.Delete, "_system", "backup_schedules", value({})),
            (wire.DropCollection, "_system", "backup_schedules"),
            (wire.DropDatabase, "_system"),
            (wire.Begin, "_system"),
            (wire.Aggregate, "_system", "backup_schedules", out),
        ):
            with pytest.raises(errors.Unauthorized, match="Twinlog's own"):
                await client.call(kind, *values)
        assert rig.engine.databases["_system"].position.seq == seq


def test_when_the_next_backup_is_due():
    hourly, now = Schedule(enabled=True, interval_minutes=60), 10**15
    assert Schedule(enabled=False).next_us(None, None, now) is None
    assert hourly.next_us(None, None, now) == now, "never made: at once"
    assert hourly.next_us(now - 90 * MINUTE_US, None, now) == now - 30 * MINUTE_US
    assert hourly.next_us(now - 90 * MINUTE_US, now - 10 * MINUTE_US, now) == now + 50 * MINUTE_US, "after a failure"
    assert hourly.next_us(now + 10**15, None, now) == now + 60 * MINUTE_US, "a clock that was set back holds nothing up"
    assert time_of(shown_time(now)) == now and time_of("yesterday") is None


# A pair.


async def _until(what, *, seconds: float = 200.0) -> None:
    with trio.fail_after(seconds):
        while not await what():  # noqa: ASYNC110 - what() asks over the wire
            await trio.sleep(0.02)


async def test_the_restore_of_a_pair_and_its_undoing(pair):  # noqa: F811
    with trio.fail_after(300):
        async with Node.open(pair["a"]) as a, Node.open(pair["b"]) as b, _client(a) as client, _client(b) as other:
            await client.call(wire.Insert, "chat", "m", [document(id=number) for number in range(100)])
            made = await ended(client, wire.Backup, "chat")
            await client.call(wire.Insert, "chat", "m", [document(id=number) for number in range(100, 150)])
            with pytest.raises(errors.NotPrimary):
                await ended(other, wire.RestoreBackup, "chat", made["name"])
            done = await ended(client, wire.RestoreBackup, "chat", made["name"])
            assert done["standbys"]["equal"] is True and set(done["standbys"]["nodes"]) == {"a", "b"}
            assert done["standbys"]["hash"] == made["state_hash"] == done["state_hash"] and done["epoch"] == 2
            for one in (client, other):
                assert await one.read_here(wire.Count, "chat", "m", value({})) == {"n": 100}
            (safety,) = (await client.call(wire.ListBackups, "chat", True))["backups"]
            assert safety["name"] == done["safety"] and Path(a.config.data, safety["path"]).is_dir()
            assert (await client.call(wire.ListBackups, "chat"))["backups"][0]["name"] == made["name"]
            undone = await ended(client, wire.RestoreBackup, "chat", safety["name"])
            assert undone["standbys"]["equal"] is True and undone["standbys"]["hash"] == safety["state_hash"]
            assert await other.read_here(wire.Count, "chat", "m", value({})) == {"n": 150}
            written = await client.ask(wire.Insert, "chat", "m", [document(id=1000)])
            assert isinstance(written, wire.Reply), "acks: 1, and the standby follows again"
            copied = await ended(client, wire.RestoreBackup, "chat", made["name"], new_name="copy")
            assert copied["standbys"]["equal"] is True and copied["epoch"] == undone["epoch"]
            assert await other.read_here(wire.Count, "copy", "m", value({})) == {"n": 100}
            assert (await client.call(wire.Status))["alarms"] == []
            mine = await ended(other, wire.Backup, "chat")
            assert mine["database"] == "chat", "a standby copies what it has, onto its own shelf"
            assert (await ended(other, wire.VerifyBackup, "chat", mine["name"]))["good"]


async def test_a_promoted_standby_goes_on_with_the_schedule(pair):  # noqa: F811
    with trio.fail_after(300):
        async with Node.open(pair["b"]) as b, _client(b) as other:
            async with Node.open(pair["a"]) as a, _client(a) as client:
                await client.call(wire.Insert, "chat", "m", [document(id=1)])
                await client.call(wire.ScheduleBackups, "chat", True, 60, 5)

                async def made() -> bool:
                    status = await client.call(wire.BackupStatus, "chat")
                    return status["last_proven"] is not None

                await _until(made)

                async def mirrored() -> bool:
                    return Path(b.config.data, "_backups/chat/_backup_config.json").exists()

                await _until(mirrored)
                status = await other.call(wire.BackupStatus, "chat")
                assert (status["enabled"], status["total_backups"], status["next_backup_at"]) == (True, 0, None), "only the primary makes them"
            await other.call(wire.Promote)

            async def made_here() -> bool:
                status = await other.call(wire.BackupStatus, "chat")
                return status["total_backups"] == 1 and status["last_proven"] is not None

            await _until(made_here)
            status = await other.call(wire.BackupStatus, "chat")
            assert (status["interval_minutes"], status["max_copies"]) == (60, 5) and status["next_backup_at"]

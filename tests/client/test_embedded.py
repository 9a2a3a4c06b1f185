"""The embedded database: its life, its lock, its threads, and that both faces have the same calls."""

from __future__ import annotations

import inspect
import threading

import pytest

import twinlog
from twinlog import errors


def test_what_was_written_is_there_after_opening_again(tmp_path):
    path = tmp_path / "data"
    with twinlog.open(path) as client:
        client["shop"]["things"].insert_many([{"_id": number} for number in range(100)])
        position = client.last_position("shop")
    with twinlog.open(str(path), sync_mode="sync") as client:
        assert client["shop"]["things"].count_documents({}) == 100
        assert client["shop"]["things"].insert_one({"_id": 100}).position > position


def test_only_one_has_the_directory_open(tmp_path):
    with twinlog.open(tmp_path):
        with pytest.raises(errors.OperationFailure, match="open") as caught:
            twinlog.open(tmp_path)
        assert caught.value.details["name"] == "DirectoryInUse"
    twinlog.open(tmp_path).close()


def test_a_clusters_directory_is_for_reading_only(tmp_path):
    with twinlog.open(tmp_path) as client:
        client["shop"]["things"].insert_one({"_id": 1})
    (tmp_path / "role.json").write_text("{}")
    with twinlog.open(tmp_path) as client:
        assert client["shop"]["things"].find_one(1) == {"_id": 1}
        for write in (
            lambda: client["shop"]["things"].insert_one({"_id": 2}),
            lambda: client["other"]["things"].insert_one({"_id": 2}),
            lambda: client.drop_database("shop"),
        ):
            with pytest.raises(errors.NotPrimaryError, match="role.json") as caught:
                write()
            assert caught.value.details["name"] == "ReadOnly"


def test_many_threads_share_it(tmp_path):
    with twinlog.open(tmp_path) as client:
        things = client["shop"]["things"]

        def work(start):
            for number in range(start, start + 25):
                things.insert_one({"_id": number})
                assert things.find_one(number) == {"_id": number}

        threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 100, 25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert things.count_documents({}) == 100


def test_a_closed_database_says_so(tmp_path):
    client = twinlog.open(tmp_path)
    client.close()
    client.close()
    with pytest.raises(errors.InvalidOperation, match="closed"):
        client["shop"]["things"].find_one(1)


def test_options_are_the_engines_and_wrong_ones_are_refused(tmp_path):
    with pytest.raises(errors.ConfigurationError, match="shard_count"):
        twinlog.open(tmp_path, shard_count=3)
    with pytest.raises(errors.ConfigurationError, match="sync_mode"):
        twinlog.open(tmp_path, sync_mode="sometimes")
    with twinlog.open(tmp_path, shards=3) as client:
        client["shop"]["things"].insert_one({})
        client.create_database("wide", shards=5)
        assert {name: facts["shards"] for name, facts in client.status()["databases"].items()} == {"shop": 3, "wide": 5}
        with pytest.raises(errors.OperationFailure) as caught:
            client.create_database("wide", shards=6)
        assert caught.value.details["name"] == "DatabaseExists"


def test_names_that_could_be_paths_are_refused(tmp_path):
    with twinlog.open(tmp_path) as client:
        for name in ("..", "a/b", "", "_mine"):
            with pytest.raises(errors.InvalidName):
                client[name]["things"].insert_one({})


def test_operations_of_a_cluster_are_refused_by_name():
    with twinlog.open(":memory:") as client:
        with pytest.raises(errors.InvalidOperation, match="embedded"):
            client.promote("localhost")
        for name, arguments in {
            "fence": ("localhost",), "unfence": ("localhost",), "rejoin": ("localhost",), "reseed": ("localhost", "shop"),
            "pause": (), "resume": (), "role_history": (), "check": (),
        }.items():  # fmt: skip
            with pytest.raises(errors.InvalidOperation, match="embedded"):
                getattr(client, name)(*arguments)


async def test_an_error_of_the_callers_own_block_comes_out_as_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError):
        async with twinlog.open_async(tmp_path) as client:
            await client["shop"]["things"].insert_one({"_id": 1})
            raise ZeroDivisionError
    async with twinlog.open_async(tmp_path) as client:
        assert await client["shop"]["things"].find_one(1) == {"_id": 1}


TWINS = [
    (twinlog.Client, twinlog.AsyncClient),
    (twinlog.Database, twinlog.AsyncDatabase),
    (twinlog.Collection, twinlog.AsyncCollection),
    (twinlog.Transaction, twinlog.AsyncTransaction),
    (twinlog.Cursor, twinlog.AsyncCursor),
    (twinlog.CommandCursor, twinlog.AsyncCommandCursor),
    (twinlog.connect, twinlog.connect_async),
    (twinlog.open, twinlog.open_async),
]


@pytest.mark.parametrize(("blocking", "awaited"), TWINS, ids=lambda made: made.__name__)
def test_both_faces_have_the_same_calls_with_the_same_arguments(blocking, awaited):
    def calls(face):
        if inspect.isfunction(face):
            return {"": list(inspect.signature(face).parameters.values())}
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()]
            for name, member in vars(face).items()
            if inspect.isfunction(member) and not name.startswith("_")
        }

    assert calls(blocking) == calls(awaited)

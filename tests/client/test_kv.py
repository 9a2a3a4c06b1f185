"""The key-value face: SKV's functions, its backups, and the four ways in which a store is recovered."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import twinlog
from twinlog import errors
from twinlog.files import BadPackedFile

ANY = st.one_of(st.binary(max_size=40), st.text(max_size=20))


@pytest.fixture
def kv():
    with twinlog.open_kv(":memory:") as opened:
        yield opened


def content(store: twinlog.KeyValueStore) -> dict[bytes, bytes]:
    return dict(store.items())


def test_put_makes_update_changes_and_each_refuses_the_other_s_work(kv):
    kv.put("username", "alice")
    with pytest.raises(errors.KeyExists, match="update"):
        kv.put(b"username", b"bob")  # text and its UTF-8 are one key
    with pytest.raises(errors.KeyNotFound, match="nobody"):
        kv.update("nobody", "x")
    kv.update("username", b"\xff\x00")
    assert kv.get("username") == b"\xff\x00" and kv[b"username"] == b"\xff\x00"
    with pytest.raises(UnicodeDecodeError):
        kv.get_string("username")
    kv.delete("username")
    for call in (kv.get, kv.delete, kv.__getitem__):
        with pytest.raises(KeyError, match="there is no key 'username'"):
            call("username")
    assert kv.get_or_default("username", "x") == b"x" and kv.count() == 0


def test_the_store_is_a_mapping_and_has_skv_s_text_functions(kv):
    kv["a"], kv["b"], kv["a"] = "1", "2", "3"
    assert (len(kv), list(kv), "a" in kv, "c" in kv, kv.has(b"b")) == (2, [b"a", b"b"], True, False, True)
    del kv["b"]
    kv.put_string("name", "Ada")
    kv.update_string("name", "Åda")
    assert kv.get_string("name") == "Åda" and kv.get_or_default_string("none", "dark") == "dark" and kv.has_string("name")
    seen = {}
    kv.for_each_string(seen.__setitem__)
    assert seen == {"a": "3", "name": "Åda"} and kv.keys_string() == ["a", "name"]
    kv.delete_string("name")
    kv.clear()
    assert len(kv) == 0 and not kv.exists_string("a")


def test_a_batch_is_stored_whole_or_not_at_all(kv):
    kv.put_batch_string({"user1": "alice", "user2": "bob"})
    with pytest.raises(errors.KeyExists, match="user2.*nothing"):
        kv.put_batch({"user3": "x", "user2": "y"})
    kv.put_batch({})
    assert kv.get_batch_string(["user1", "user3", "user2"]) == {"user1": "alice", "user2": "bob"} and len(kv) == 2


@pytest.mark.parametrize("key", ["", b"", 7, None])
def test_a_key_that_is_none_is_refused(kv, key):
    with pytest.raises(errors.InvalidName, match="key"):
        kv.put(key, "x")
    with pytest.raises(errors.InvalidName, match="value"):
        kv.put("k", 7)


def test_files_are_values(kv, tmp_path):
    (tmp_path / "in").write_bytes(bytes(range(256)))
    kv.put_file("blob", tmp_path / "in")
    kv.get_file("blob", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == bytes(range(256))
    with pytest.raises(FileExistsError):
        kv.get_file("blob", tmp_path / "out")
    (tmp_path / "in").write_bytes(b"new")
    kv.update_file("blob", tmp_path / "in")
    assert kv.get("blob") == b"new"


@given(items=st.dictionaries(ANY.filter(len), ANY, max_size=8))
def test_any_bytes_come_back_from_a_backup(tmp_path_factory, items):
    directory = tmp_path_factory.mktemp("kv")
    with twinlog.open_kv(":memory:") as one, twinlog.open_kv(":memory:") as other:
        for key, value in items.items():
            one[key] = value
        assert one.backup(directory / "b.json") == len(one)
        assert other.restore(directory / "b.json") == len(one)
        assert content(other) == content(one) and other.verify_restore(directory / "b.json") == []


def test_a_backup_is_the_reference_s_bytes(kv, tmp_path):
    kv.put("username", "alice")
    assert kv.backup(tmp_path / "b.json") == 1
    text = (tmp_path / "b.json").read_text()
    assert re.fullmatch(
        r'\{\n    "version": "1\.0",\n    "created_at": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",\n    "total_records": 1,\n    "records": \[\n'
        r'        \{\n            "key": "username",\n            "value": "alice",\n            "encoding": "text"\n        \}\n    \]\n\}',
        text,
    )
    with pytest.raises(FileExistsError, match=re.escape("b.json")):
        kv.backup(tmp_path / "b.json")
    assert (tmp_path / "b.json").read_text() == text and list(tmp_path.iterdir()) == [tmp_path / "b.json"]


def test_a_restore_overwrites_keeps_the_rest_and_says_what_differs_later(kv, tmp_path):
    kv.put_batch({f"k{n}": b"\xfe" * n for n in range(2500)})  # more than one write of a restore
    kv.backup(tmp_path / "b.json.zst")
    kv.update("k1", "changed")
    kv.delete("k2")
    kv.put("later", "x")
    assert sorted(kv.verify_restore(tmp_path / "b.json.zst")) == [b"k1", b"k2"]
    assert kv.restore(tmp_path / "b.json.zst") == 2500
    assert kv.get("k1") == b"\xfe" and kv.get("k2") == b"\xfe\xfe" and kv.get("later") == b"x"
    assert kv.verify_restore(tmp_path / "b.json.zst") == []


@pytest.mark.parametrize("harm", ["cut", "bad base64", "one record gone", "not a backup", "cut .gz"])
def test_a_damaged_backup_changes_nothing(kv, tmp_path, harm):
    kv.put_batch({"a": b"\xff\x01", "b": "2"})
    kv.backup(tmp_path / "b.json")
    text = (tmp_path / "b.json").read_text()
    kv.update("b", "newer")
    file = tmp_path / "harmed.json"
    if harm == "cut":
        file.write_text(text[:-20])
    elif harm == "bad base64":
        file.write_text(text.replace('"/wE="', '"/w?="'))
    elif harm == "one record gone":
        kept = json.loads(text)
        kept["records"].pop()
        file.write_text(json.dumps(kept))
    elif harm == "not a backup":
        file.write_text("just text\n")
    else:
        file = tmp_path / "harmed.json.gz"
        file.write_bytes(gzip.compress(text.encode())[:-12])
    with pytest.raises((errors.OperationFailure, BadPackedFile), match="harmed"):
        kv.restore(file)
    assert content(kv) == {b"a": b"\xff\x01", b"b": b"newer"}


def test_timestamped_backups_never_collide_and_only_the_newest_stay(kv, tmp_path):
    kv.put("a", "1")
    (tmp_path / "mine.json").write_text("{}")
    made = [kv.backup_now(tmp_path / "all", packing=packing) for packing in ("", "", ".gz")]
    assert len(set(made)) == 3 and all(re.fullmatch(r"backup_[\d-]{10}_\d{6}(_\d)?\.json(\.gz)?", file.name) for file in made)
    last = kv.backup_now(tmp_path, keep=2), kv.backup_now(tmp_path, keep=2), kv.backup_now(tmp_path, keep=2)
    assert not last[0].exists() and last[1].exists() and last[2].exists() and (tmp_path / "mine.json").exists()
    with pytest.raises(errors.InvalidName):
        kv.backup_now(tmp_path, packing=".rar")


def test_verify_counts_and_compact_gives_space_back(tmp_path):
    with twinlog.open_kv(tmp_path / "store") as kv:
        kv.put_batch({f"k{n}": "v" * 100 for n in range(100)})
        stats = kv.verify()
        assert (stats.active_records, stats.average_data_size, stats.damaged) == (100, 100.0, ()) and stats.file_size > stats.data_size > 10_000
        assert 0 < stats.efficiency < 100 and stats.wasted_percent == 100 - stats.efficiency
        assert {"before", "after"} <= kv.compact().keys()
    opened = twinlog.open_kv(tmp_path / "store")
    opened.close_with_compact()
    with twinlog.open_kv(tmp_path / "store") as kv:
        assert len(kv) == 100


# The reference's four scenarios.


def test_scenario_accidental_deletion(kv, tmp_path):
    kv.put_string("important_key", "important")
    kv.put_string("other", "x")
    kv.backup(tmp_path / "backup_latest.json")
    kv.delete_string("important_key")
    kv.restore(tmp_path / "backup_latest.json")
    assert kv.get_string("important_key") == "important" and kv.count() == 2


def test_scenario_data_corruption(tmp_path):
    with twinlog.open_kv(tmp_path / "corrupted") as kv:
        kv.put_string("a", "1")
        kv.backup(tmp_path / "backup_latest.json")
    (tmp_path / "corrupted" / "kv" / "database.json").write_text("scribbled")
    with pytest.raises(errors.OperationFailure, match="damaged.*restore a backup"):
        twinlog.open_kv(tmp_path / "corrupted")
    with twinlog.open_kv(tmp_path / "recovered") as kv:
        kv.restore(tmp_path / "backup_latest.json")
        assert kv.get_string("a") == "1"


def test_scenario_migration_to_another_place(tmp_path):
    with twinlog.open_kv(tmp_path / "old_location") as old:
        old.put_batch({f"k{n}": str(n) for n in range(50)})
        old.backup(tmp_path / "migration.json")
        wanted = content(old)
    with twinlog.open_kv(tmp_path / "new_location") as new:
        new.restore(tmp_path / "migration.json")
        assert content(new) == wanted and new.verify_restore(tmp_path / "migration.json") == []
    shutil.copytree(tmp_path / "new_location", tmp_path / "moved")  # or the directory itself
    with twinlog.open_kv(tmp_path / "moved") as moved:
        assert content(moved) == wanted


def test_scenario_testing_with_production_data(tmp_path):
    with twinlog.open_kv(tmp_path / "production") as production, twinlog.open_kv(tmp_path / "test") as test:
        production.put_string("account", "100")
        production.backup(tmp_path / "prod_snapshot.json.gz")
        test.restore(tmp_path / "prod_snapshot.json.gz")
        test.update_string("account", "0")
        assert production.get_string("account") == "100"


def test_a_backup_that_others_write_during_is_of_one_state(tmp_path):
    """The count at its beginning is of the records that follow, whatever happens meanwhile."""
    with twinlog.open_kv(tmp_path / "store") as kv:
        kv.put_batch({f"k{n}": "v" for n in range(3000)})

        class Meddling:
            def __init__(self, stream) -> None:
                self.stream, self.writes = stream, 0

            def write(self, data: bytes) -> int:
                self.writes += 1
                kv[f"new{self.writes}"] = "x"
                return self.stream.write(data)

        with Path(tmp_path / "b.json").open("wb") as stream:
            assert kv.database.export_collection(Meddling(stream), "kv", "skv") == 3000
        found = json.loads((tmp_path / "b.json").read_text())
        assert found["total_records"] == len(found["records"]) == 3000 and len(kv) > 3000

"""Export and import by the client's faces: what comes back is what was there, and what cannot is named."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import pytest

import twinlog
from storage.exchange import Format
from twinlog import errors

KINDS = ["alos", "jsonl", "json", "zip"]
DOCS = {
    "orders": [{"_id": n, "total": n / 4, "lines": [{"sku": f"s{n}", "n": n}]} for n in range(1200)],
    "users": [{"_id": "ada", "name": "Ada"}, {"_id": "../x", "name": "Bob", "blob": b"\x00\xff"}, {"_id": 7.5}],
}


@pytest.fixture
def client():
    with twinlog.open(":memory:") as made:
        for name, docs in DOCS.items():
            made["shop"][name].insert_many([dict(doc) for doc in docs])
        yield made


def content(db) -> dict:
    return {name: sorted(db[name].find(), key=lambda doc: str(doc["_id"])) for name in db.list_collection_names()}


def wanted() -> dict:
    return {name: sorted(docs, key=lambda doc: str(doc["_id"])) for name, docs in DOCS.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pretty", [False, True])
def test_a_database_goes_through_every_format(client, kind, pretty):
    stream = io.BytesIO()
    assert client["shop"].export_database(stream, kind, pretty=pretty and kind == "json") == 1203
    stream.seek(0)
    result = client["copy"].import_database(stream, keep_ids=True)
    assert (result.format, result.total_inserted, result.total_errors) == (kind, 1203, 0)
    assert {name: one.inserted for name, one in result.collections.items()} == {"orders": 1200, "users": 3}
    assert content(client["copy"]) == wanted()


@pytest.mark.parametrize("kind", ["alos", "jsonl", "json", "mongo", "zip"])
async def test_a_collection_goes_through_every_format_on_trio_too(kind):
    async with twinlog.open_async(":memory:") as client:
        await client["shop"]["orders"].insert_many([dict(doc) for doc in DOCS["orders"]])
        stream = io.BytesIO()
        assert await client["shop"].export_collection(stream, "orders", kind) == 1200
        stream.seek(0)
        result = await client["copy"].import_collection(stream, "there", keep_ids=True, batch_size=100)
        assert (result.collection, result.inserted, result.errors) == ("there", 1200, 0)
        assert [doc async for doc in client["copy"]["there"].find().sort("_id")] == DOCS["orders"]
        stream.seek(0)
        whole = await client["copy"].import_database(stream, keep_ids=True, dry_run=True) if kind in ("alos", "zip") else None
        assert whole is None or whole.total_inserted == 1200


def test_new_ids_are_the_default_as_in_the_reference(client):
    stream = io.BytesIO()
    client["shop"].export_collection(stream, "users")
    for _ in range(2):
        stream.seek(0)
        assert client["copy"].import_collection(stream, "users").inserted == 3
    assert client["copy"]["users"].count_documents({}) == 6


def test_bad_lines_are_named_with_number_and_reason_and_good_ones_kept(client):
    lines = b'{"_id": 1}\n{"_id": 1}\nnot json\n{"_id": 2, "a": {"$date": "never"}}\n\n{"_id": 3}\n'
    told = []
    result = client["copy"].import_collection(io.BytesIO(lines), "c", keep_ids=True, on_bad=lambda *bad: told.append(bad))
    assert (result.inserted, result.errors) == (2, 3)
    assert [line for _, line, _ in sorted(told)] == [2, 3, 4]
    assert "not JSON" in dict((line, reason) for _, line, reason in told)[3]
    assert [doc["_id"] for doc in client["copy"]["c"].find()] == [1, 3]
    stopped = client["other"].import_database(io.BytesIO(b'{"_id": 1}\n'), keep_ids=True)
    assert stopped.total_errors == 1 and "name one" in stopped.bad[0][2]


def test_stop_on_error_keeps_what_was_written_before(client):
    lines = b"".join(b'{"_id": %d}\n' % n for n in range(10)) + b"bad\n" + b'{"_id": 99}\n'
    result = client["copy"].import_collection(io.BytesIO(lines), "c", keep_ids=True, batch_size=5, stop_on_error=True)
    assert (result.inserted, result.errors) == (10, 1)
    assert client["copy"]["c"].count_documents({"_id": 99}) == 0


def test_modes(client):
    first = b'{"_id": 1, "v": 1}\n{"_id": 2, "v": 1}\n'
    second = b'{"_id": 2, "v": 2}\n{"_id": 3, "v": 2}\n'
    db = client["copy"]
    db.import_collection(io.BytesIO(first), "c", keep_ids=True)
    refused = db.import_collection(io.BytesIO(second), "c", keep_ids=True, mode="replace")
    assert (refused.inserted, refused.errors) == (1, 1) and db["c"].find_one({"_id": 3}) is None
    assert db["c"].find_one({"_id": 2})["v"] == 2
    again = db.import_collection(io.BytesIO(second), "c", keep_ids=True, mode="upsert")
    assert (again.inserted, again.errors) == (2, 0) and db["c"].count_documents({}) == 3


def test_a_document_that_cannot_be_stored_is_left_out_by_line(client):
    long = json.dumps({"_id": 5, "pad": "x" * (17 * 2**20)}).encode()
    lines = b'{"_id": 4}\n' + long + b'\n{"_id": 6}\n'
    result = client["copy"].import_collection(io.BytesIO(lines), "c", keep_ids=True)
    assert (result.inserted, result.errors) == (2, 1)
    assert sorted(doc["_id"] for doc in client["copy"]["c"].find()) == [4, 6]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"flush_interval": 4_999}, "5000 to 600000"),
        ({"mode": "merge", "keep_ids": True}, "insert, upsert, replace"),
        ({"mode": "upsert"}, "keep_ids"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_options_outside_their_rules_are_refused(client, options, said):
    with pytest.raises(errors.ConfigurationError, match=said):
        client["copy"].import_collection(io.BytesIO(b""), "c", **options)


def test_what_a_format_cannot_carry_is_refused_by_name(client):
    with pytest.raises(errors.OperationFailure, match="no format"):
        client["shop"].export_collection(io.BytesIO(), "users", "xml")
    with pytest.raises(errors.OperationFailure, match="one collection"):
        client["shop"].export_database(io.BytesIO(), Format.MONGO)
    with pytest.raises(errors.InvalidDocument, match="key-value"):
        client["shop"].export_collection(io.BytesIO(), "orders", "skv")
    with pytest.raises(errors.InvalidDocument, match="zip"):
        client["copy"].import_database(io.BytesIO(b"PK\x03\x04" + bytes(100)))


def test_the_zip_archive_is_laid_out_as_the_reference_says(client):
    stream = io.BytesIO()
    client["shop"].export_collection_zip(stream, "users")
    with zipfile.ZipFile(stream) as archive:
        assert "users/ada.json" in archive.namelist()
        assert archive.read("users/ada.json").decode() == '{\n  "_id": "ada",\n  "name": "Ada"\n}\n'
        assert not any(".." in name for name in archive.namelist())


def test_any_stream_will_do(client, tmp_path):
    with gzip.open(tmp_path / "shop.alos.gz", "wb") as stream:
        client["shop"].export_database(stream, collections=["users"])
    with gzip.open(tmp_path / "shop.alos.gz", "rb") as stream:
        assert client["copy"].import_database(stream, keep_ids=True).total_inserted == 3
    assert content(client["copy"]) == {"users": wanted()["users"]}


def test_batches_that_travel_together_are_told_apart(client):
    """Five batches share a request: the first of equal ids stays, lines are those of the file, and so is the order."""
    lines = [b'{"_id": %d, "v": %d}' % (n, n) for n in range(5_500)]
    lines[1_500], lines[4_500], lines[2_000] = b'{"_id": 0, "v": "second"}', b'{"_id": 1400, "v": "second"}', b"bad"
    told, counts = [], []
    result = client["copy"].import_collection(
        io.BytesIO(b"\n".join(lines)), "c", keep_ids=True, on_bad=lambda _, line, __: told.append(line), on_batch=lambda so_far: counts.append(so_far.total_inserted)
    )
    assert (result.inserted, result.errors, sorted(told)) == (5_497, 3, [1_501, 2_001, 4_501])
    assert [doc["v"] for doc in client["copy"]["c"].find()] == [n for n in range(5_500) if n not in (1_500, 2_000, 4_500)]
    assert counts == sorted(counts) and len(counts) == 6 and counts[-1] == 5_497


class Breaking(io.BytesIO):
    """A stream that fails once it has given so much."""

    def read(self, size=-1):
        if self.tell() >= len(self.getvalue()):
            raise OSError("the cable is out")
        return super().read(min(size, 4_096))

    def seekable(self):
        return False


def test_what_was_read_before_a_stream_failed_is_written(client):
    lines = b"".join(b'{"_id": %d}\n' % n for n in range(10_500))
    with pytest.raises(OSError, match="cable"):
        client["copy"].import_collection(Breaking(lines), "c", keep_ids=True)
    assert client["copy"]["c"].count_documents({}) == 10_000, "the whole batches"


@pytest.mark.parametrize("options", [{"keep_ids": True}, {}, {"keep_ids": True, "mode": "upsert"}, {"keep_ids": True, "stop_on_error": True}, {"dry_run": True}])
async def test_many_lines_go_in_on_trio_in_every_mode(options):
    async with twinlog.open_async(":memory:") as client:
        lines = b"".join(b'{"a": {"$date": "2024-05-01T00:00:00Z"}, "_id": %d}\n' % n for n in range(4_200))
        result = await client["copy"].import_collection(io.BytesIO(lines), "c", **options)
        assert (result.inserted, result.errors) == (4_200, 0)
        found = [doc async for doc in client["copy"]["c"].find()]
        assert len(found) == (0 if options.get("dry_run") else 4_200)
        assert all(list(doc) == ["_id", "a"] for doc in found)
        if options.get("keep_ids"):
            assert [doc["_id"] for doc in found] == list(range(4_200))


@pytest.mark.parametrize("skip", [0, 1, 250, 299, 300, 5_000])
@pytest.mark.parametrize("limit", [0, 1, 2, 299, 301])
@pytest.mark.parametrize("batch", [1, 7, 300, 1_000])
def test_a_find_over_everything_is_cut_as_any_other(client, skip, limit, batch):
    wanted = DOCS["orders"][:300]
    few = client["shop"]["few"]
    few.insert_many([dict(doc) for doc in wanted])
    found = list(few.find().skip(skip).limit(limit).batch_size(batch))
    assert found == wanted[skip : skip + limit if limit else None] == list(few.find({"_id": {"$gte": 0}}).skip(skip).limit(limit))

"""mongodump's directories: what is written is read back equal, indexes too, and what is damaged is named."""

from __future__ import annotations

import datetime
import gzip
import io
import uuid

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

import twinlog
from storage.exchange import Export, Format
from twinlog import errors

EVERY = {
    "_id": ObjectId("0123456789ab0123456789ab"), "n": None, "t": True, "i": 7, "big": 2**40, "neg": -(2**63), "d": 1.5, "nan": float("inf"), "s": "Åda\0x",
    "b": b"\x00\xff", "b5": Binary(b"abc", 5), "b4": Binary(b"", 4), "u": uuid.UUID(int=7), "when": datetime.datetime(2020, 1, 2, 3, 4, 5, 678000), "dec": Decimal128("1.50"),
    "ts": Timestamp(1, 2), "re": Regex("^a", "i"), "min": MinKey(), "max": MaxKey(), "code": Code("f()"), "a": [1, [2, {"x": []}]], "m": {"$oid": "x", "": 1},
}  # fmt: skip


@pytest.fixture
def client():
    with twinlog.open(":memory:") as made:
        yield made


def content(db, name: str) -> list[dict]:
    return list(db[name].find().sort("_id"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_dump_comes_back_equal_with_its_indexes(client, tmp_path, packed):
    shop = client["shop"]
    shop["all"].insert_one(dict(EVERY))
    shop["orders"].insert_many([{"_id": n, "total": n / 4, "ref": f"r{n}"} for n in range(2500)])
    shop["orders"].create_index([("ref", 1)], unique=True)
    shop["orders"].create_index([("total", -1), ("ref", 1)], name="mine", sparse=True)
    shop["orders"].create_index("at", expireAfterSeconds=3600)
    shop["a/b %"].insert_one({"_id": 1})
    assert shop.export_dump(tmp_path / "dump", packed=packed) == {"a/b %": 1, "all": 1, "orders": 2500}
    names = {file.name for file in (tmp_path / "dump" / "shop").iterdir()}
    ending = ".gz" if packed else ""
    assert {f"orders.bson{ending}", f"orders.metadata.json{ending}", f"a%2Fb %25.bson{ending}"} <= names and len(names) == 6
    with pytest.raises(FileExistsError):
        shop.export_dump(tmp_path / "dump", packed=packed)
    for place in (tmp_path / "dump", tmp_path / "dump" / "shop"):
        copy = client[f"copy{len(str(place))}"]
        result = copy.import_dump(place)
        assert (result.total_inserted, result.total_errors, result.left_out) == (2502, 0, [])
        assert result.collections["orders"].inserted == 2500 and sorted(result.indexes["orders"]) == ["at_1", "mine", "ref_1"]
        for name in ("all", "orders", "a/b %"):
            assert content(copy, name) == content(shop, name)
        assert copy["orders"].index_information() == shop["orders"].index_information()
        with pytest.raises(errors.DuplicateKeyError):
            copy["orders"].insert_one({"ref": "r1"})


def test_what_mongodump_writes_is_read(client, tmp_path):
    """Files made by bson itself: int64 and int32, legacy types, metadata as mongodump has it, oplog.bson beside."""
    below = tmp_path / "dump" / "test"
    below.mkdir(parents=True)
    documents = [{"_id": Int64(1), "n": 5}, {"_id": 2, "ref": DBRef("other", 7), "old": Binary(b"x" * 16, 3)}]
    (below / "things.bson").write_bytes(b"".join(map(bson.encode, documents)))
    (tmp_path / "dump" / "oplog.bson").write_bytes(b"")
    (below / "things.metadata.json").write_text(
        '{"options":{},"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"},'
        '{"v":{"$numberInt":"2"},"key":{"n":{"$numberInt":"1"}},"name":"n_1","sparse":true},'
        '{"v":{"$numberInt":"2"},"key":{"place":"2dsphere"},"name":"place","2dsphereIndexVersion":{"$numberInt":"3"}}],'
        '"uuid":"0123","collectionName":"things","type":"collection"}'
    )
    result = client["here"].import_dump(tmp_path / "dump")
    assert result.total_inserted == 2 and result.indexes == {"things": ["n_1"]}
    assert [row[:2] for row in result.left_out] == [("things", "place")]
    assert content(client["here"], "things")[0] == {"_id": 1, "n": 5}
    assert client["here"]["things"].find_one({"_id": 2})["ref"] == {"$ref": "other", "$id": 7}


def test_a_stream_of_bson_is_told_by_its_first_bytes_and_goes_through_the_usual_verbs(client):
    client["a"]["x"].insert_many([{"_id": n} for n in range(10)])
    stream = io.BytesIO()
    assert client["a"].export_collection(stream, "x", "bson") == 10
    assert stream.getvalue() == b"".join(bson.encode({"_id": n}) for n in range(10))
    stream.seek(0)
    result = client["b"].import_collection(stream, "x", keep_ids=True)
    assert result.inserted == 10
    with pytest.raises(errors.OperationFailure, match="one collection"):
        client["a"].export_database(io.BytesIO(), "bson")


@pytest.mark.parametrize("size", [1, 3, 4, 5, 10, 10**6])
def test_damage_is_named_and_what_is_sound_goes_in(size):
    good = [bson.encode({"_id": n, "s": "text"}) for n in range(4)]
    bad = bytearray(good[1])
    bad[-3:-1] = b"\xff\xff"

    class Slow(io.BytesIO):
        def read(self, count: int = -1) -> bytes:
            return super().read(min(size, count) if count > 0 else count)

    def read(data: bytes) -> list:
        export = Export(Slow(data), Format.BSON)
        return [found if isinstance(found, dict) else found.reason for _, _, found in export.items()]

    assert [found["_id"] for found in read(b"".join(good))] == [0, 1, 2, 3]
    found = read(good[0] + bytes(bad) + good[2])
    assert (found[0]["_id"], found[2]["_id"]) == (0, 2) and "document 2" in found[1]
    for cut in range(1, len(good[1])):
        found = read(good[0] + good[1][:cut])
        assert found[0]["_id"] == 0 and len(found) == 2 and ("cut off" in found[1] or "ends inside" in found[1])
    for length in (0, 4, -1, 2**30):
        found = read(good[0] + length.to_bytes(4, "little", signed=True) + b"rest of it")
        assert len(found) == 2 and "nothing after it" in found[1]
    twice = bson.encode({"_id": 1, "a": 1, "b": 2}).replace(b"b\0", b"a\0")
    assert "twice" in read(twice)[0]


@given(st.binary(max_size=60))
def test_no_bytes_make_the_reading_fail(data):
    for _, number, found in Export(io.BytesIO(data), Format.BSON).items():
        assert number >= 1 and found is not None


@pytest.mark.parametrize(("metadata", "told"), [("{", "not JSON"), ('{"indexes": 3}', "array"), ('{"indexes": [{"name": "x"}]}', "key")])
def test_bad_metadata_is_refused_by_name(client, tmp_path, metadata, told):
    (tmp_path / "x.bson").write_bytes(bson.encode({"_id": 1}))
    (tmp_path / "x.metadata.json").write_text(metadata)
    with pytest.raises(errors.InvalidDocument, match=f"x.metadata.json.*{told}"):
        client["a"].import_dump(tmp_path)


def test_directories_that_are_no_dump_are_refused(client, tmp_path):
    with pytest.raises(errors.InvalidName, match="no directory"):
        client["a"].import_dump(tmp_path / "none")
    with pytest.raises(errors.InvalidName, match="nothing"):
        client["a"].import_dump(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with pytest.raises(errors.InvalidName, match="one, two"):
        client["a"].import_dump(tmp_path)
    (tmp_path / "one" / "x.bson.gz").write_bytes(gzip.compress(bson.encode({"_id": 1})))
    with pytest.raises(errors.InvalidName, match="'y'"):
        client["one"].import_dump(tmp_path, collections=["y"])
    assert client["one"].import_dump(tmp_path, collections=["x"], dry_run=True).total_inserted == 1
    assert client["one"].list_collection_names() == []

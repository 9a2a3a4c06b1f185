"""`twinlog import`: what goes in, what is left out and how that is said. The collection is a stand-in with one rule."""

from __future__ import annotations

import gzip
import json

import pytest
import zstandard
from bson import ObjectId
from click.testing import CliRunner

from ops.commands import import_
from ops.exit_codes import ExitCode
from ops.main import main
from ops.target import Target
from storage.values.documents import decode
from twinlog import InsertManyResult
from twinlog.errors import AutoReconnect, BulkWriteError, InvalidDocument
from twinlog.transfers import Transfers


class Shelf:
    """A collection that refuses a second document of one `_id`, and, like the client, a whole call for a `bad` one."""

    def __init__(self) -> None:
        self.documents: dict = {}
        self.batches: list[int] = []

    def insert_many(self, documents, *, ordered):
        assert not ordered, "one bad line must not hold back the lines after it"
        documents = [decode(document) if isinstance(document, bytes) else document for document in documents]
        if any("bad" in document for document in documents):
            raise InvalidDocument("field 'bad' is bad")
        self.batches.append(len(documents))
        errors = []
        for index, document in enumerate(documents):
            if document["_id"] in self.documents:
                errors.append({"index": index, "code": 11000, "errmsg": f"_id {document['_id']} is there"})
            else:
                self.documents[document["_id"]] = document
        if errors:
            raise BulkWriteError({"writeErrors": errors, "nInserted": len(documents) - len(errors)})
        return InsertManyResult([document["_id"] for document in documents], (1, 1))


class Store(Transfers, dict):
    """Client and database at once: any name is there."""

    __getitem__ = dict.__getitem__

    def __missing__(self, name):
        self[name] = Store() if name == "test" else Shelf()
        return self[name]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None


@pytest.fixture
def store(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    made = Store()
    monkeypatch.setattr(Target, "connect", lambda self, **options: made)
    return made


def run(*arguments, **options):
    return CliRunner().invoke(main, ["import", "--url", "twinlog://nowhere:1/", *map(str, arguments)], **options)


def lines(*documents) -> str:
    return "".join(document if isinstance(document, str) else json.dumps(document) + "\n" for document in documents)


def test_a_file_goes_into_the_collection_of_its_name_in_batches(store, tmp_path):
    (tmp_path / "people.json").write_text(lines(*({"_id": number} for number in range(25))))
    result = run("people.json", "--batch", 10)
    assert result.exit_code == 0, result.output
    assert store["test"]["people"].batches == [10, 10, 5]
    assert "people.json -> test.people: 25 inserted in" in result.stderr


def test_one_json_array_is_read_too(store, tmp_path):
    (tmp_path / "people.json").write_text(json.dumps([{"_id": 1}, {"_id": 2}]))
    assert run("people.json").exit_code == 0
    assert set(store["test"]["people"].documents) == {1, 2}


def test_each_line_left_out_is_named_and_the_others_go_in(store, tmp_path):
    text = lines({"_id": 1}, "{broken\n", {"_id": 1}, {"_id": 2, "bad": 1}, {"_id": 3})
    (tmp_path / "people.jsonl").write_text(text)
    result = run("people.jsonl", "--json")
    assert result.exit_code == ExitCode.PARTIAL
    assert set(store["test"]["people"].documents) == {1, 3}
    assert {line.split(": ")[0] for line in result.stderr.splitlines()} == {f"people.jsonl:{number}" for number in (2, 3, 4)}
    summary = json.loads(result.stdout)
    assert (summary["inserted"], summary["refused"], summary["into"]) == (2, 3, "test.people")


def test_stdin_needs_a_collection_unless_what_comes_says_it(store):
    refused = run("-", input="{}")
    assert refused.exit_code == ExitCode.PARTIAL and "name one" in refused.stderr
    tagged = '{"version": 1, "database": "x"}\n{"collection": "d", "doc": {"_id": 5}}\n'
    assert run("-", input=tagged).exit_code == 0
    assert set(store["test"]["d"].documents) == {5}
    assert run("-", "--collection", "c", input=lines({"_id": 1})).exit_code == 0
    assert set(store["test"]["c"].documents) == {1}


def test_a_file_that_is_not_there_is_an_error_and_not_an_empty_import(store):
    result = run("nowhere.json")
    assert result.exit_code == ExitCode.FAILED
    assert "nowhere.json" in result.stderr


def test_a_lost_cluster_says_how_far_it_came(store, tmp_path):
    (tmp_path / "people.json").write_text(lines(*({"_id": number} for number in range(25))))
    shelf = store["test"]["people"]
    whole = shelf.insert_many

    def lost_at_the_third(documents, *, ordered):
        if len(shelf.batches) == 2:
            raise AutoReconnect("the node is gone")
        return whole(documents, ordered=ordered)

    shelf.insert_many = lost_at_the_third
    result = run("people.json", "--batch", 10)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "20 inserted" in result.stderr and "the node is gone" in result.stderr


@pytest.mark.parametrize(
    ("file", "collection"),
    [("a/b/restaurants.json", "restaurants"), ("x.JSONL", "x"), ("my data.ndjson", "my_data"), ("a.b.json", "a.b"), ("plain", "plain"), ("x.jsonl.gz", "x"), ("y.zst", "y")],
)
def test_the_collection_is_the_files_name(file, collection):
    assert import_.collection_of(file) == collection


def test_packed_files_options_and_formats(store, tmp_path):
    (tmp_path / "people.json.gz").write_bytes(gzip.compress(lines({"_id": 1}, {"_id": 2}).encode()))
    assert run("people.json.gz", "--dry-run").exit_code == 0
    assert store["test"]["people"].documents == {}
    assert run("people.json.gz", "--new-ids").exit_code == 0
    assert all(isinstance(number, ObjectId) for number in store["test"]["people"].documents)
    (tmp_path / "many.zst").write_bytes(zstandard.compress(lines("bad\n", {"_id": 3}).encode()))
    assert run("many.zst", "--stop-on-error").exit_code == ExitCode.PARTIAL
    assert store["test"]["many"].documents == {}
    (tmp_path / "cut.zst").write_bytes(zstandard.compress(lines({"_id": 3}).encode())[:10])
    assert run("cut.zst").exit_code != 0

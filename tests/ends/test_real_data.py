"""Real mongoexport files through the client into a real pair: every field is there on both nodes, and the copies are equal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import twinlog
from storage import encode_document, read_documents
from tests.ends.pair_under_fire import DB, PairUnderFire

SHARED = Path(os.environ.get("TWINLOG_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FILES = sorted((SHARED / "data" / "mongoexport").glob("*.json"))


def contents(client: twinlog.Client, collection: str) -> list[bytes]:
    return sorted(encode_document(document) for document in client[DB][collection].find({}).batch_size(2000))


@pytest.mark.skipif(not FILES, reason=f"no mongoexport files below {SHARED}; set TWINLOG_SHARED")
def test_every_file_arrives_whole_on_both_nodes(tmp_path: Path) -> None:
    with PairUnderFire(tmp_path) as fire:
        expected = {}
        with fire.connect() as client:
            for file in FILES:
                with file.open("rb") as stream:
                    documents = [document for _, document in read_documents(stream)]
                result = client[DB][file.stem].insert_many(documents)
                assert len(result.inserted_ids) == len(documents) > 0
                expected[file.stem] = sorted(encode_document(document) for document in documents)
        fire.finish()
        marks = fire.wait_equal()
        assert marks["a"] == marks["b"]
        for address in fire.local.addresses().values():
            with twinlog.connect(f"twinlog://{address}/?key={fire.local.client_key}&read=any") as client:
                for name, documents in expected.items():
                    assert contents(client, name) == documents

"""Real mongoexport files through every format and back: equal state hashes, and the fields of the original as MongoDB's own reader has them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from bson import json_util

import twinlog

SHARED = Path(os.environ.get("TWINLOG_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FILES = sorted((SHARED / "data" / "mongoexport").glob("*.json"))
FORMATS = [
    ("alos", {}), ("jsonl", {}), ("jsonl", {"canonical": True}), ("json", {}), ("json", {"pretty": True}),
    ("mongo", {}), ("mongo", {"canonical": True}), ("zip", {}), ("bson", {}),
]  # fmt: skip
needs_files = pytest.mark.skipif(not FILES, reason=f"no mongoexport files below {SHARED}; set TWINLOG_SHARED")


@needs_files
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_format_brings_back_the_same_state(tmp_path: Path, file: Path) -> None:
    with twinlog.open(tmp_path / "data") as client:
        with file.open("rb") as stream:
            read = client["first"].import_collection(stream, file.stem, keep_ids=True)
        assert read.inserted > 0 and not read.errors
        wanted = client["first"].backup()["state_hash"]
        for number, (name, options) in enumerate(FORMATS):
            made, other = io.BytesIO(), client[f"again{number}"]
            assert client["first"].export_collection(made, file.stem, name, **options) == read.inserted
            made.seek(0)
            again = other.import_collection(made, file.stem, keep_ids=True, **({"format": name} if name == "bson" else {}))
            assert (again.inserted, again.errors) == (read.inserted, 0)
            assert other.backup()["state_hash"] == wanted, f"{name} {options}"


@needs_files
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_comes_out_is_what_mongoexport_wrote(tmp_path: Path, file: Path) -> None:
    original = [json_util.loads(line) for line in file.read_text().splitlines() if line.strip()]
    with twinlog.open(tmp_path / "data") as client:
        with file.open("rb") as stream:
            read = client["first"].import_collection(stream, file.stem, keep_ids=True)
        made = io.BytesIO()
        client["first"].export_collection(made, file.stem, "mongo", canonical=True)
    ours = {str(document["_id"]): document for document in map(json_util.loads, made.getvalue().splitlines())}
    assert len(ours) == read.inserted == len(original)
    for document in original:
        if "_id" in document:
            first = {"_id": document.pop("_id")}  # where MongoDB puts it, too
            assert list(ours[str(first["_id"])].items()) == [*first.items(), *document.items()]

"""What a salvage entry of a rewind is: its names, its manifest, its lines. Pure.

    <db>/salvage/rewound-<common seq>-<last seq>-<chain of the last, 8 hex digits>/
        documents.jsonl    the newest image of every document that was written there and not deleted afterwards
        deletions.jsonl    the documents whose last change was their deletion (only if there are any)
        superseded.jsonl   writes and deletions that later ones of the same commits made void (only if there are any)
        log/<segment>      the log segments as they were, with what came before the common point in the first
        manifest.json      written last: what was cut, counted
        applied.json       when it was put back, and what came of it (only if it was)

documents.jsonl is an export in the format `alos` (exchange/formats.py) and goes through `twinlog import` as it is. In all three the first
line is that format's header, and every other line one write, in the order of the commits:

    {"collection":"c","op":"write","epoch":2,"seq":17,"time":"2026-01-01T00:00:00.000001Z","_id":1,"doc":{"_id":1,...}}

A deletion has the op "delete" and no doc. Its `_id` is one of all that are equal: an integer where the number is whole.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import DamagedRecord, NewerFormat
from ..exchange.extjson import parse_line, to_json
from ..exchange.formats import VERSION

FORMAT = 1
DIRECTORY = "salvage"  # of a database
STAGING = "rewinding"  # in it: an entry that is being made; nothing has been cut yet
MANIFEST, APPLIED, LOG = "manifest.json", "applied.json", "log"
DOCUMENTS, DELETIONS, SUPERSEDED = "documents.jsonl", "deletions.jsonl", "superseded.jsonl"
PARTS = {"documents": DOCUMENTS, "deletions": DELETIONS, "superseded": SUPERSEDED}
PREFIX = "rewound-"
WRITE, DELETE = "write", "delete"
IDS_MAX = 1_000  # listed in a manifest, all collections together
CHANGES_MAX = 200  # of the catalog, listed in a manifest
_EPOCH = datetime.datetime(1970, 1, 1)


@dataclass(slots=True)
class CollectionCut:
    """What was cut of one collection: how many documents each way, and the first of their ids (Extended JSON)."""

    written: int = 0
    deleted: int = 0
    written_ids: list[Any] = field(default_factory=list)
    deleted_ids: list[Any] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Manifest:
    """manifest.json. Positions are [epoch, seq]; chains hex; times microseconds of the wall clock.

    rewritten: which of the ids were written again by the history that survived; None where it was not known when this was
    written, as always so far: standing.py tells it later. whole: False when not all that was cut could be read as commits; `why` says so, and log/ has the bytes.
    """

    database: str
    uuid: str
    cut_us: int
    common: list[int]
    common_chain: str
    first: list[int]
    last: list[int]
    last_chain: str
    first_us: int
    last_us: int
    reigns: list[dict[str, Any]]
    commits: int
    documents: int
    deletions: int
    superseded: int
    collections: dict[str, CollectionCut]
    ids_left_out: int
    catalog: list[dict[str, Any]]
    catalog_left_out: int
    log_bytes: int
    unreadable: int  # writes that are no documents
    whole: bool
    why: str = ""
    rewritten: dict[str, Any] | None = None
    format: int = FORMAT

    def encode(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=False, indent=1).encode() + b"\n"

    def entry_name(self) -> str:
        return f"{PREFIX}{self.common[1]}-{self.last[1]}-{self.last_chain[:8]}"


def decode_manifest(data: bytes, path: str) -> Manifest:
    """Raises DamagedRecord, NewerFormat."""
    try:
        values = json.loads(data)
        if values["format"] > FORMAT:
            raise NewerFormat(f"{path}: format {values['format']}, this Twinlog reads up to {FORMAT}; open it with a newer Twinlog")
        values["collections"] = {name: CollectionCut(**cut) for name, cut in values["collections"].items()}
        return Manifest(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedRecord(f"{path} cannot be read ({error}); the lines and the log beside it can", file=path) from error


def time_text(time_us: int) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    return f"{(_EPOCH + datetime.timedelta(microseconds=time_us)).isoformat(timespec='microseconds')}Z"


def header_line(database: str, time_us: int, collections: Sequence[str]) -> bytes:
    header = {"version": VERSION, "database": database, "created_at": time_text(time_us), "collections": list(collections)}
    return json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Line:
    """One write. doc: None of a deletion."""

    collection: str
    op: str
    epoch: int
    seq: int
    time: str
    id: Any
    doc: dict[str, Any] | None

    def encode(self) -> bytes:
        head = json.dumps({"collection": self.collection, "op": self.op, "epoch": self.epoch, "seq": self.seq, "time": self.time},
                          ensure_ascii=False, separators=(",", ":"))  # fmt: skip
        tail = to_json({"_id": self.id} if self.doc is None else {"_id": self.id, "doc": self.doc})
        return f"{head[:-1]},{tail[1:]}\n".encode()


def decode_line(text: bytes) -> Line | None:
    """None for the header. Raises BadDocument or DamagedRecord."""
    found = parse_line(text)
    if "op" not in found and "version" in found:
        return None
    try:
        return Line(found["collection"], found["op"], found["epoch"], found["seq"], found["time"], found["_id"], found.get("doc"))
    except KeyError as error:
        raise DamagedRecord(f"a salvaged line lacks {error}") from error


def id_json(value: Any) -> Any:
    """An `_id` as a part of Extended JSON."""
    return json.loads(to_json({"_id": value}))["_id"]

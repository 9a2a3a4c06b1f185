"""Salvage as a client sees it: what nodes set aside, and putting back what a rewind cut, by ordinary writes to the primary. Pure.

    page of an entry (from the node that has it) ── per collection ──> inserts or replacements, deletions (to the primary) ── next page
                                                                       └─ what is there already is compared: the same, or skipped and named

Applying twice changes nothing more: what went in is found as it is. Memory: one page, and NAMED_MAX notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from node.wire import (
    Bulk,
    Delete,
    Failure,
    Get,
    Insert,
    Reply,
    Request,
    SalvageDrop,
    SalvageList,
    SalvageNote,
    SalvageShow,
    is_absent,
)

from . import answers
from .call import failure_of
from .errors import ConfigurationError, OperationFailure
from .exchange import Exchange, Kind
from .scope import Scope
from .url import parse_node
from .values import document_bytes, read_document, read_value, value_bytes
from .verbs import CHUNK_WINDOW, Plan, ask, chunks, filter_bytes

MODES = ("missing", "upsert")
PARTS = ("documents", "deletions", "superseded")
NAMED_MAX = 1_000  # skipped and overwritten ids that a result names; further ones are counted
ASKED_AT_ONCE = 16  # gets under way
PAGE_ROWS = 500
_INSERT_DUPLICATE = "DuplicateKey"


@dataclass(slots=True)
class SalvageResult:
    """What applying an entry did. skipped: (collection, id, why) of the first of those that were left as they are.

    inserted: were missing; replaced: put over what was there (mode upsert); deleted; same: were as the entry has them already, nothing to do.
    overwritten: of the replaced and deleted, those that the surviving history had written since; named as skipped are."""

    entry: str
    mode: str
    dry_run: bool = False
    inserted: int = 0
    replaced: int = 0
    deleted: int = 0
    same: int = 0
    skipped_total: int = 0
    overwritten_total: int = 0
    deletions_left: int = 0  # deletions of the entry that were not asked for
    skipped: list[tuple[str, Any, str]] = field(default_factory=list)
    overwritten: list[tuple[str, Any]] = field(default_factory=list)

    def skip(self, row: dict[str, Any], why: str) -> None:
        self.skipped_total += 1
        if len(self.skipped) < NAMED_MAX:
            self.skipped.append((row["collection"], row["_id"], why))

    def overwrite(self, row: dict[str, Any]) -> None:
        self.overwritten_total += 1
        if len(self.overwritten) < NAMED_MAX:
            self.overwritten.append((row["collection"], row["_id"]))


def listing(scope: Scope, node: str | None) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, SalvageList(0), node))


def page(scope: Scope, name: str, node: str, *, part: str, offset: int, limit: int) -> Plan[dict[str, Any]]:
    """{entry, rows, next}; every row with its _id and doc as values."""
    if part not in PARTS:
        raise ConfigurationError(f"part={part!r}: {', '.join(PARTS)}")
    found = yield from _at(scope, SalvageShow(0, name, part, offset, limit), node)
    for row in found["rows"]:
        row["_id"] = read_value(row.pop("id"))
        row["doc"] = None if row["doc"] is None else read_document(row["doc"])
    return found


def drop(scope: Scope, name: str, node: str) -> Plan[int]:
    """The bytes that were set free."""
    return (yield from _at(scope, SalvageDrop(0, name), node))["bytes"]


def apply(scope: Scope, name: str, node: str, *, mode: str, deletes: bool, dry_run: bool, database: str | None) -> Plan[SalvageResult]:
    """Put an entry's documents back. Raises OperationFailure for one that is none of a rewind; a refusal on the way leaves what was written."""
    if mode not in MODES:
        raise ConfigurationError(f"mode={mode!r}: {', '.join(MODES)}")
    result = SalvageResult(name, mode, dry_run)
    into = database
    for part in ("documents", "deletions"):
        offset: int | None = 0
        while offset is not None:
            found = yield from page(scope, name, node, part=part, offset=offset, limit=PAGE_ROWS)
            into = into or found["entry"]["database"]
            rows, offset = found["rows"], found["next"]
            if part == "deletions" and not deletes:
                result.deletions_left = (found["entry"]["manifest"] or {}).get("deletions", len(rows))
                break
            for collection, some in _by_collection(rows):
                if part == "documents":
                    yield from _put(scope, into, collection, some, result)
                else:
                    yield from _delete(scope, into, collection, some, result)
    if not dry_run:
        facts = {"mode": mode, "deletes": deletes, "database": into or "", "inserted": result.inserted, "replaced": result.replaced,
                 "deleted": result.deleted, "same": result.same, "skipped": result.skipped_total}  # fmt: skip
        yield from _at(scope, SalvageNote(0, name, facts), node)
    return result


def _by_collection(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["collection"], []).append(row)
    yield from by_name.items()


def _put(scope: Scope, db: str, collection: str, rows: list[dict[str, Any]], result: SalvageResult) -> Plan[None]:
    """Documents that are there now are looked at first, so that each is told apart."""
    there = yield from _documents(scope, db, collection, rows)
    missing = [row for row, doc in zip(rows, there, strict=True) if doc is None]
    others = [(row, doc) for row, doc in zip(rows, there, strict=True) if doc is not None]
    changed = [row for row, doc in others if doc != bytes(document_bytes(row["doc"]))]
    result.same += len(others) - len(changed)
    if result.mode == "missing":
        for row in changed:
            result.skip(row, _why(row["now"]))
    elif changed:
        if not result.dry_run:
            yield from _replace(scope, db, collection, changed)
        result.replaced += len(changed)
        for row in changed:
            if row["now"] == "rewritten":
                result.overwrite(row)
    if missing:
        yield from _insert(scope, db, collection, missing, result)


def _why(now: str) -> str:
    return {
        "rewritten": "the history that survived has written it since",
        "unchanged": "it is there as it was before the entry's commits: nobody else has written it since",
    }.get(now, "another document of this _id is there")


def _insert(scope: Scope, db: str, collection: str, rows: list[dict[str, Any]], result: SalvageResult) -> Plan[None]:
    if result.dry_run:
        result.inserted += len(rows)
        return
    starts: list[int] = []

    def requests() -> Iterator[Request]:
        start = 0
        for chunk in chunks(bytes(document_bytes(row["doc"])) for row in rows):
            starts.append(start)
            start += len(chunk)
            yield Insert(0, db, collection, chunk, False, scope.write_id())

    for start, reply in zip(starts, (yield from _all(scope, db, Kind.WRITE, requests(), starts)), strict=True):
        inserted = answers.read(answers.INSERTED, reply)
        result.inserted += inserted.n
        for index, _, name, message, _ in inserted.errors:
            written_now = name == _INSERT_DUPLICATE
            result.skip(rows[start + index], f"it was refused: {message}" if not written_now else f"somebody wrote it, or a document that must be unique beside it, meanwhile: {message}")


def _replace(scope: Scope, db: str, collection: str, rows: list[dict[str, Any]]) -> Plan[None]:
    words = [value_bytes("replace"), value_bytes(True)]

    def requests() -> Iterator[Request]:
        for row in rows:
            write = [words[0], value_bytes({"_id": row["_id"]}), document_bytes(row["doc"]), words[1]]
            yield Bulk(0, db, collection, [write], False, scope.write_id())

    for row, reply in zip(rows, (yield from _all(scope, db, Kind.WRITE, requests(), None)), strict=True):
        for _, code, name, message, fields in answers.read(answers.BULK_DONE, reply).errors:
            raise OperationFailure(f"{collection} {row['_id']!r}: {message}", code, {"name": name, "errmsg": message, "fields": fields})


def _delete(scope: Scope, db: str, collection: str, rows: list[dict[str, Any]], result: SalvageResult) -> Plan[None]:
    """What the surviving history has written since is not deleted, but in the mode upsert."""
    there = yield from _documents(scope, db, collection, rows)
    chosen = []
    for row, doc in zip(rows, there, strict=True):
        if doc is None:
            result.same += 1
        elif row["now"] == "unchanged" or result.mode == "upsert":
            chosen.append(row)
            if row["now"] != "unchanged":
                result.overwrite(row)
        else:
            result.skip(row, f"its deletion: {_why(row['now'])}")
    result.deleted += len(chosen)
    if chosen and not result.dry_run:
        requests = (Delete(0, db, collection, filter_bytes({"_id": {"$eq": row["_id"]}}), False, scope.write_id()) for row in chosen)
        yield from _all(scope, db, Kind.WRITE, requests, None)


def _documents(scope: Scope, db: str, collection: str, rows: Sequence[dict[str, Any]]) -> Plan[list[bytes | None]]:
    """What stands under each id on the primary now."""
    requests = (Get(0, db, collection, value_bytes(row["_id"])) for row in rows)
    replies = yield from _all(scope, db, Kind.READ, requests, None)
    docs = [answers.read(answers.GOT, reply).doc for reply in replies]
    return [None if is_absent(doc) else bytes(document_bytes(read_document(doc))) for doc in docs]  # as this client writes it


def _all(scope: Scope, db: str, kind: Kind, requests: Iterator[Request], starts: list[int] | None) -> Plan[list[Reply]]:
    """Requests of one kind to their replies, in order; the first refusal is raised. starts: chunks, of which fewer are under way."""
    exchange = Exchange(kind, requests, db=db, window=ASKED_AT_ONCE if starts is None else CHUNK_WINDOW, timeout_s=scope.timeout_s)
    yield exchange
    for answer in exchange.answers:
        if isinstance(answer, Failure):
            raise failure_of(answer)
        scope.positions.observe(db, answer.epoch, answer.seq)
    return exchange.answers  # type: ignore[return-value]


def _at(scope: Scope, request: Request, node: str | None) -> Plan[dict[str, Any]]:
    """At the one node that has it; without one at any that answers, the primary first."""
    if node is None:
        exchange = yield from ask(scope, Kind.READ, request)
    else:
        exchange = yield from ask(scope, Kind.HERE, request, node=parse_node(node))
    return answers.read(answers.FACTS, exchange.answers[0])

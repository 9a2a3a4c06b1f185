"""Backups as plans: a request each, or a job that is begun and asked about until it has ended. Pure.

Jobs stay with the node that began them, so the questions go there. Losing the connection ends the asking and not the job. Nothing here is sent
again when its outcome is unknown: the list of backups tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from node.wire import (
    ABSENT,
    Backup,
    BackupCollections,
    BackupJob,
    BackupStatus,
    DeleteBackup,
    ListBackups,
    PruneArchive,
    ReadBackup,
    Request,
    RestoreBackup,
    ScheduleBackups,
    VerifyBackup,
)

from . import answers
from .errors import ConfigurationError
from .exchange import Exchange, Kind
from .scope import Scope
from .url import parse_node
from .values import read_document, refusal, value_bytes
from .verbs import Plan, ask, reply_of

WAIT_MS = 2_000
IDS_AT_ONCE = 1_000  # the node's bound
Told = Callable[[str], None]


def untold(_step: str) -> None:
    return


def back_up(scope: Scope, db: str, node: str | None, told: Told, *, incremental: bool = False) -> Plan[dict[str, Any]]:
    return (yield from _job(scope, Backup(0, db, incremental), node, told))


def list_backups(scope: Scope, db: str, node: str | None, *, safety: bool) -> Plan[list[dict[str, Any]]]:
    found = yield from _facts(scope, ListBackups(0, db, safety), node)
    return found["backups"]


def backup_status(scope: Scope, db: str, node: str | None) -> Plan[dict[str, Any]]:
    return (yield from _facts(scope, BackupStatus(0, db), node))


def delete_backup(scope: Scope, db: str, name: str, node: str | None, *, with_dependents: bool = False) -> Plan[list[str]]:
    found = yield from _facts(scope, DeleteBackup(0, db, name, with_dependents), node)
    return found["deleted"]


def backup_collections(scope: Scope, db: str, name: str, node: str | None) -> Plan[dict[str, int]]:
    found = yield from _facts(scope, BackupCollections(0, db, name), node)
    return dict(found["collections"])


def prune_archive(scope: Scope, db: str, told: Told, *, dry_run: bool) -> Plan[dict[str, Any]]:
    return (yield from _job(scope, PruneArchive(0, db, dry_run), None, told))


class BackupPages:
    """The documents of a backup, page by page, from one node: what is asked next follows from the answer before. Knows no transport."""

    def __init__(
        self,
        scope: Scope,
        db: str,
        name: str,
        collection: str,
        *,
        filter: Mapping[str, Any] | None,
        ids: Iterable[Any] | None,
        limit: int,
        node: str | None,
    ) -> None:
        self._scope, self._db, self._name, self._collection = scope, db, name, collection
        self._filter = ABSENT if filter is None else value_bytes(filter)
        self._ids = None if ids is None else [value_bytes(one) for one in ids]
        if limit < 0:
            raise ValueError(f"limit is 0 (all) or more, not {limit}")
        self._left = limit or None
        self._node = node
        self._at: str | None = None  # the node that answered
        self._after: list[int] | None = None
        self.done = self._ids == []

    def next_page(self) -> Plan[list[dict[str, Any]]]:
        """The next documents, perhaps none; `done` is set with the last."""
        some = None if self._ids is None else self._ids[:IDS_AT_ONCE]
        request = ReadBackup(0, self._db, self._name, self._collection, self._filter, some, self._after, self._left or 0)
        if self._at is None:
            exchange = yield from _asked(self._scope, request, self._node)
            self._at = exchange.answered_by  # where that shelf is
        else:
            exchange = yield from ask(self._scope, Kind.HERE, request, node=self._at)
        page = answers.read(answers.BACKUP_PAGE, reply_of(exchange, self._scope))
        documents = [read_document(data) for data in page.docs]
        if self._left is not None:
            self._left -= len(documents)
        self._after = page.next
        if page.next is None and self._ids is not None:
            self._ids = self._ids[IDS_AT_ONCE:]
        self.done = (page.next is None and not self._ids) or self._left == 0
        return documents


def verify_backup(scope: Scope, db: str, name: str, node: str | None, level: str, told: Told) -> Plan[dict[str, Any]]:
    if level not in ("manifest", "bytes", "content"):
        raise ValueError(f"level is manifest, bytes or content, not {level!r}")
    return (yield from _job(scope, VerifyBackup(0, db, name, level), node, told))


def restore_backup(
    scope: Scope, db: str, name: str, *, new_name: str, wait_s: float, to: str | int | datetime | None, explain: bool, told: Told
) -> Plan[dict[str, Any]]:
    kind, at = moment(to)
    if explain and not kind:
        raise ConfigurationError('explain=True says how a moment would be reached: give to="latest", a commit or a time')
    request = RestoreBackup(0, db, name, new_name, max(0, int(wait_s * 1000)), kind, at, explain)
    return (yield from _job(scope, request, None, told))


def moment(to: str | int | datetime | None) -> tuple[Literal["", "latest", "seq", "time"], int]:
    """Where a restore shall lead, as requests name it. A time without a zone is UTC's. Raises ConfigurationError."""
    match to:
        case None:
            return "", 0
        case "latest":
            return "latest", 0
        case bool():
            pass
        case int() if to >= 0:
            return "seq", to
        case datetime():
            whole = to if to.tzinfo is not None else to.replace(tzinfo=UTC)
            since = whole - datetime(1970, 1, 1, tzinfo=UTC)
            if since >= timedelta(0):
                return "time", since // timedelta(microseconds=1)
    raise ConfigurationError(f'to={to!r}: "latest", the number of a commit, or a datetime since 1970')


def schedule_backups(scope: Scope, db: str, *, enabled: bool, interval_minutes: int, max_copies: int, path: str, full_every: int = 1) -> Plan[dict[str, Any]]:
    return (yield from _facts(scope, ScheduleBackups(0, db, enabled, interval_minutes, max_copies, path, full_every), None))


def _job(scope: Scope, request: Request, node: str | None, told: Told) -> Plan[dict[str, Any]]:
    wait_ms = WAIT_MS if scope.timeout_s is None else min(WAIT_MS, int(scope.timeout_s * 500))
    exchange = yield from _asked(scope, request, node)
    at, job = exchange.answered_by, _read(scope, exchange)
    while job["running"]:
        told(job["step"])
        exchange = yield from ask(scope, Kind.HERE, BackupJob(0, job["job"], wait_ms), node=at)
        job = _read(scope, exchange)
    if job["error"] is not None:
        code, name, message, fields = job["error"]
        raise refusal(name, code, message, fields)
    return job["result"]


def _facts(scope: Scope, request: Request, node: str | None) -> Plan[dict[str, Any]]:
    exchange = yield from _asked(scope, request, node)
    return _read(scope, exchange)


def _asked(scope: Scope, request: Request, node: str | None) -> Plan[Exchange]:
    """One named node, or the primary."""
    if node is None:
        return (yield from ask(scope, Kind.ONCE, request))
    return (yield from ask(scope, Kind.HERE, request, node=parse_node(node)))


def _read(scope: Scope, exchange: Exchange) -> dict[str, Any]:
    return answers.read(answers.FACTS, reply_of(exchange, scope))

"""Operations on databases, collections and the node as plans. Pure.

Creating, dropping and promoting are not sent again when their outcome is unknown (Kind.ONCE, Kind.HERE): the error says so.
"""

from __future__ import annotations

from typing import Any

from node.wire import (
    Check,
    Compact,
    CreateDatabase,
    DropCollection,
    DropDatabase,
    Fence,
    ListCollections,
    ListDatabases,
    Pause,
    Ping,
    Promote,
    Rejoin,
    Reply,
    Request,
    Reseed,
    Resume,
    RoleHistory,
    Scrub,
    Status,
    Switchover,
    Unfence,
)

from . import answers
from .exchange import Kind
from .scope import Scope
from .url import parse_node
from .verbs import Plan, ask

COMPACT_TIMEOUT_S = 3600.0
SCRUB_WAIT_MS = 2_000


def list_database_names(scope: Scope) -> Plan[list[str]]:
    reply = yield from _reply(scope, Kind.READ, ListDatabases(0))
    return answers.read(answers.DATABASES, reply).databases


def create_database(scope: Scope, name: str, *, shards: int | None, crc: bool | None) -> Plan[None]:
    yield from _reply(scope, Kind.ONCE, CreateDatabase(0, name, shards, crc), db=name)


def drop_database(scope: Scope, name: str) -> Plan[None]:
    yield from _reply(scope, Kind.ONCE, DropDatabase(0, name))


def compact(scope: Scope, db: str) -> Plan[dict[str, Any]]:
    """Once: whoever loses the answer asks again, and the node goes on from where it is."""
    reply = yield from _reply(scope, Kind.ONCE, Compact(0, db), db=db)
    return answers.read(answers.FACTS, reply)


def list_collection_names(scope: Scope, db: str) -> Plan[list[str]]:
    reply = yield from _reply(scope, Kind.READ, ListCollections(0, db), db=db)
    return answers.read(answers.COLLECTIONS, reply).collections


def drop_collection(scope: Scope, db: str, collection: str) -> Plan[None]:
    yield from _reply(scope, Kind.ONCE, DropCollection(0, db, collection), db=db)


def ping(scope: Scope, node: str | None) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, Ping(0), node))


def status(scope: Scope, node: str | None, *, mark: bool) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, Status(0, mark), node))


def promote(scope: Scope, node: str, *, force: bool, automatic: bool) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, Promote(0, force, automatic), node))


def switchover(scope: Scope, to: str, *, timeout_s: float, automatic: bool) -> Plan[dict[str, Any]]:
    reply = yield from _reply(scope, Kind.ONCE, Switchover(0, to, max(1, int(timeout_s * 1000)), automatic))
    return answers.read(answers.FACTS, reply)


def fence(scope: Scope, node: str, why: str) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, Fence(0, why), node))


def unfence(scope: Scope, node: str) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, Unfence(0), node))


def rejoin(scope: Scope, node: str, *, reseed: bool) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, Rejoin(0, reseed), node))


def reseed(scope: Scope, node: str, db: str) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, Reseed(0, db), node))


def pause(scope: Scope, node: str | None, why: str) -> Plan[dict[str, Any]]:
    """Any node will do, and asking twice changes nothing but the time."""
    return (yield from _at(scope, Pause(0, why), node))


def resume(scope: Scope, node: str | None) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, Resume(0), node))


def role_history(scope: Scope, node: str | None) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, RoleHistory(0), node))


def check(scope: Scope, node: str | None) -> Plan[dict[str, Any]]:
    return (yield from _at(scope, Check(0), node))


def scrub(scope: Scope, db: str, node: str | None) -> Plan[dict[str, Any]]:
    """Begin a pass and ask on until it has ended: each question waits at the node, within the usual time for an answer."""
    wait_ms = SCRUB_WAIT_MS if scope.timeout_s is None else min(SCRUB_WAIT_MS, int(scope.timeout_s * 500))
    report = yield from _at(scope, Scrub(0, db, True, wait_ms), node)
    while report.get("running"):
        report = yield from _at(scope, Scrub(0, db, False, wait_ms), node)
    return report


def _at(scope: Scope, request: Request, node: str | None) -> Plan[dict[str, Any]]:
    """One named node, or any that answers, the primary first."""
    if node is None:
        reply = yield from _reply(scope, Kind.READ, request)
    else:
        reply = yield from _reply(scope, Kind.HERE, request, node=parse_node(node))
    return answers.read(answers.FACTS, reply)


def _reply(scope: Scope, kind: Kind, request: Request, *, db: str = "", node: str | None = None) -> Plan[Reply]:
    exchange = yield from ask(scope, kind, request, db=db, node=node)
    reply = exchange.answers[0]
    assert isinstance(reply, Reply), "ask() raises for a Failure"
    return reply

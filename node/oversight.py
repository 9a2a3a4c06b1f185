"""The verbs about the connection and the node itself: hello, ping, login, listings, status, promote. No socket."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from storage import operations

from . import wire
from .outcomes import Done
from .users import Logins, Role


class Oversight:
    """Over one engine and one member, under the node's name."""

    def __init__(self, engine: Any, member: Any, logins: Logins, node: str) -> None:
        self._engine = engine
        self._member = member
        self._logins = logins
        self._node = node
        self._version = _version()

    def hello_now(self, caller: Any, request: wire.Hello) -> Done:
        databases = {}
        if caller.role > Role.NONE:
            databases = {name: list(db.visible) for name, db in self._engine.databases.items()}
        answer = {
            "role": str(self._member.role.value),
            "primary": self._member.primary_address(),
            "node": self._node,
            "version": self._version,
            "protocol": 1,
            "databases": databases,
        }
        return Done(wire.encode_fields(answer))

    def ping_now(self, caller: Any, request: wire.Ping) -> Done:
        return Done(wire.EMPTY_MAP)

    async def login(self, caller: Any, request: wire.Login) -> Done:
        user = await self._logins.log_in(request.user, request.password, caller.peer)
        caller.become(user.name, user.role)
        return Done(wire.encode_fields({"role": user.role.name.lower()}))

    def list_databases_now(self, caller: Any, request: wire.ListDatabases) -> Done:
        return Done(wire.encode_fields({"databases": sorted(self._engine.databases)}))

    def list_collections_now(self, caller: Any, request: wire.ListCollections) -> Done:
        db = self._engine.databases.get(request.db)
        names = [] if db is None else list(operations.list_collections(db))
        return Done(wire.encode_fields({"collections": names}), *((0, 0) if db is None else db.visible))

    async def status(self, caller: Any, request: wire.Status) -> Done:
        marks = {}
        if request.mark:
            for name in sorted(self._engine.databases):
                marks[name] = await self._member.mark(name)
        return Done(wire.encode_fields(self.status_now(marks)))

    async def promote(self, caller: Any, request: wire.Promote) -> Done:
        await self._member.promote(force=request.force)
        return Done(wire.encode_fields({"role": str(self._member.role.value), "epoch": self._member.epoch}))

    def status_now(self, marks: dict[str, dict[str, tuple[int, int, str]]] | None = None) -> dict[str, Any]:
        """The node's view of itself and its peers; marks: what each node answered at a MARK, by database.

        {node, version, role, epoch, databases: {name: {position, chain, mark: {seq, hash, equal}, ...}}, standbys, alarms}
        """
        status = {"node": self._node, "version": self._version, **self._member.status()}
        for name, answers in (marks or {}).items():
            database = status["databases"].get(name)
            if database is not None and self._node in answers:
                seq, _, digest = answers[self._node]
                same = len({tuple(answer) for answer in answers.values()}) == 1
                equal = same if len(answers) > 1 else None
                database["mark"] = {"seq": seq, "hash": digest, "equal": equal, "nodes": _plain(answers)}
        return status


def _plain(answers: dict[str, tuple[int, int, str]]) -> dict[str, list[Any]]:
    return {node: list(answer) for node, answer in answers.items()}


def _version() -> str:
    try:
        return metadata.version("twinlog")
    except metadata.PackageNotFoundError:
        return "unpackaged"

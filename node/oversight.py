"""The verbs about the connection and the node itself: hello, ping, login, listings, status, compact, orders about roles. No socket."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

import trio

from storage import SYSTEM_DATABASE, BadRequest, NoSuchDatabase, ScrubReport, operations

from . import wire
from .health import readiness
from .outcomes import Done
from .users import Logins, Role

SWITCHOVER_MS_MAX = 600_000


class Oversight:
    """Over one engine and one member, under the node's name. transactions: how many are open, and how the others ended. stopping: whether
    requests are refused because the node ends."""

    def __init__(
        self,
        engine: Any,
        member: Any,
        logins: Logins,
        node: str,
        transactions: Callable[[], dict[str, int]],
        stopping: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._member = member
        self._logins = logins
        self._node = node
        self._transactions = transactions
        self._stopping = stopping
        self.backups: Callable[[], dict[str, Any]] = dict  # by database, for the status
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
            "protocol": wire.VERSION,
            "databases": databases,
            "delay_s": self._member.delay_s,
        }
        return Done(wire.encode_fields(answer))

    def ping_now(self, caller: Any, request: wire.Ping) -> Done:
        return Done(wire.EMPTY_MAP)

    async def login(self, caller: Any, request: wire.Login) -> Done:
        user = await self._logins.log_in(request.user, request.password, caller.peer)
        caller.become(user.name, user.role)
        return Done(wire.encode_fields({"role": user.role.name.lower()}))

    def list_databases_now(self, caller: Any, request: wire.ListDatabases) -> Done:
        names = [name for name in sorted(self._engine.databases) if request.system or name != SYSTEM_DATABASE]
        return Done(wire.encode_fields({"databases": names}))

    def list_collections_now(self, caller: Any, request: wire.ListCollections) -> Done:
        try:
            db = self._engine.database(request.db)
        except NoSuchDatabase:
            return Done(wire.encode_fields({"collections": []}), 0, 0)
        return Done(wire.encode_fields({"collections": list(operations.list_collections(db))}), *db.visible)

    async def status(self, caller: Any, request: wire.Status) -> Done:
        marks = {}
        if request.mark:
            for name in sorted(self._engine.databases):
                marks[name] = await self._member.mark(name)
        return Done(wire.encode_fields(self.status_now(marks)))

    async def compact(self, caller: Any, request: wire.Compact) -> Done:
        db = self._engine.database(request.db)
        report = await db.compacting.compact_now()
        return Done(wire.encode_fields(report.as_fields()), *db.visible)

    async def promote(self, caller: Any, request: wire.Promote) -> Done:
        await self._member.promote(force=request.force, automatic=request.automatic)
        return Done(wire.encode_fields({"role": str(self._member.role.value), "epoch": self._member.epoch}))

    async def switch_over(self, caller: Any, request: wire.Switchover) -> Done:
        if not 1 <= request.timeout_ms <= SWITCHOVER_MS_MAX:
            raise BadRequest(f"timeout_ms {request.timeout_ms}: 1 to {SWITCHOVER_MS_MAX}")
        epoch, stopped_s = await self._member.switch_over(request.to, request.timeout_ms / 1000, automatic=request.automatic)
        return Done(wire.encode_fields({"primary": request.to, "epoch": epoch, "stopped_s": round(stopped_s, 4)}))

    async def fence(self, caller: Any, request: wire.Fence) -> Done:
        return Done(wire.encode_fields(await self._member.fence(request.why)))

    async def unfence(self, caller: Any, request: wire.Unfence) -> Done:
        return Done(wire.encode_fields(await self._member.unfence()))

    async def rejoin(self, caller: Any, request: wire.Rejoin) -> Done:
        return Done(wire.encode_fields(await self._member.rejoin(reseed=request.reseed)))

    async def reseed(self, caller: Any, request: wire.Reseed) -> Done:
        self._member.reseed(request.db)
        await trio.lowlevel.checkpoint()
        return Done(wire.EMPTY_MAP)

    async def pause(self, caller: Any, request: wire.Pause) -> Done:
        return Done(wire.encode_fields(await self._member.pause(request.why)))

    async def resume(self, caller: Any, request: wire.Resume) -> Done:
        return Done(wire.encode_fields(await self._member.resume()))

    def role_history_now(self, caller: Any, request: wire.RoleHistory) -> Done:
        return Done(wire.encode_fields(self._member.role_history()))

    def check_now(self, caller: Any, request: wire.Check) -> Done:
        return Done(wire.encode_fields(self._member.check()))

    async def scrub(self, caller: Any, request: wire.Scrub) -> Done:
        scrubbing = self._engine.database(request.db).scrubbing
        if request.begin:
            scrubbing.begin()
        with trio.move_on_after(min(request.wait_ms, wire.SCRUB_WAIT_MS_MAX) / 1000):
            await scrubbing.finished()
        return Done(wire.encode_fields(scrubbing.report.as_plain()))

    def status_now(self, marks: dict[str, dict[str, tuple[int, int, str]]] | None = None) -> dict[str, Any]:
        """The node's view of itself and its peers; marks: what each node answered at a MARK, by database.

        {node, version, role, phase, epoch, ready, why_not_ready, stopping, failures, databases: {name: {position, chain, mark: {seq, hash, equal}, ...}}, standbys, alarms,
        transactions: {open, committed, aborted, conflict, ended}, salvage: {entries, bytes},
        backups: {name: {enabled, last_backup_at, last_proven, last_failure}}}
        Plain values within 64 bits with sign: chains and ids are hex.
        """
        status = {"version": self._version, **self._member.status(), "node": self._node, "transactions": self._transactions(), "backups": self.backups()}
        status["salvage"] = {"entries": self._engine.salvage.entries, "bytes": self._engine.salvage.bytes}
        for name, database in status["databases"].items():
            if "history" in database:
                database["history"] = [_reign(*row) for row in database["history"]]
            if (db := self._engine.databases.get(name)) is not None:
                database["scrub"] = _scrubbed(db.scrubbing.report)
                if (archive := db.archiving.state) is not None:
                    database["archive"] = archive.as_plain()
                    status["alarms"] += _archive_alarm(name, archive)
            answers = (marks or {}).get(name)
            if answers and self._node in answers:
                seq, _, digest = answers[self._node]
                same = len({tuple(answer) for answer in answers.values()}) == 1
                equal = same if len(answers) > 1 else None
                database["mark"] = {"seq": seq, "hash": digest, "equal": equal, "nodes": _by_node(answers)}
        status["standbys"] = _standbys(status)
        status["stopping"] = self._stopping()
        status["ready"], status["why_not_ready"] = readiness(status)
        return status


def _scrubbed(report: ScrubReport) -> dict[str, Any]:
    """What a glance at a node should show of the newest pass; the findings are the answer to Scrub."""
    return {
        "running": report.running,
        "ended_us": report.ended_us,
        "bytes": report.bytes,
        "findings": len(report.findings) + report.findings_left_out,
        "repaired": report.repaired,
        "damaged": len(report.damaged),
    }


def _archive_alarm(database: str, archive: Any) -> list[dict[str, Any]]:
    """A log that is not archived any more is an alarm for as long as that lasts."""
    if not archive.failure:
        return []
    message = f"the log is not archived to {archive.place} since commit {archive.seq}: {archive.failure}"
    return [{"kind": "archive-failing", "database": database, "peer": "", "message": message, "since_us": archive.failing_since_us}]


def _reign(epoch: int, reign_id: int, first_seq: int, chain: int) -> dict[str, Any]:
    return {"epoch": epoch, "id": f"{reign_id:016x}", "first_seq": first_seq, "chain": f"{chain:016x}"}


def _standbys(status: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a peer, its lag summed (commits, bytes) or the worst (seconds) over all databases; null when not known."""
    rows = []
    for name, peer in status.get("peers", {}).items():
        copies = [db["standbys"][name] for db in status["databases"].values() if name in db.get("standbys", {})]
        lags = [copy["lag"] for copy in copies if copy.get("known")]
        whole = bool(copies) and len(lags) == len(copies)
        rows.append(
            {
                "name": name,
                **peer,
                "streaming": bool(copies) and all(copy["streaming"] for copy in copies),
                "lag_commits": sum(lag["commits"] for lag in lags) if whole else None,
                "lag_bytes": sum(lag["bytes"] for lag in lags) if whole else None,
                "lag_seconds": max(lag["seconds"] for lag in lags) if whole else None,
            }
        )
    return rows


def _by_node(answers: dict[str, tuple[int, int, str]]) -> dict[str, dict[str, Any]]:
    return {
        node: {"seq": seq, "chain": f"{chain:016x}", "hash": digest} for node, (seq, chain, digest) in answers.items()
    }


def _version() -> str:
    try:
        return metadata.version("twinlog")
    except metadata.PackageNotFoundError:
        return "unpackaged"

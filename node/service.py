"""Requests in, answers out: which verb a request is, who may ask it, and when its answer may leave. No socket.

What can be done at once is done in place, within the caller's wake-up; what may wait runs as a task here. Writes are
answered when the member says they are acknowledged (INV-1): one call-back a write, no task. Databases that were written
to are flushed once a wake-up, by `end_of_wakeup`, which whoever feeds requests calls; writes of tasks are flushed by
`run` itself. Requests that wait are bounded over all connections (INV-8).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import trio

import storage
from storage import errors

from . import wire
from .answer_room import AnswerRoom
from .backup_clock import ProofConfig
from .backups import BackupDesk
from .batch import ROW_BYTES_MAX, InsertBatch, answer_runs
from .config import Limits
from .cursors import CursorTable
from .metrics import Metrics
from .outcomes import Done, Written, plain_fields
from .oversight import Oversight
from .quick import GET, INSERT, QuickRequest, ping_reply, requests
from .reads import Reads
from .salvage import salvage_verbs
from .transactions import Transactions
from .users import Logins, Role
from .writes import Writes

log = logging.getLogger(__name__)

RETRY_AFTER_MS = 100
ROUND_ANSWER_BYTES = 2**20  # of gets answered together; what is left is begun one by one, within each connection's bounds
FIRST_ANSWER_BYTES = 4 * 2**20  # what a read is taken to answer before any has: a batch of a find
LEAST_ANSWER_BYTES = 2**19  # and at any time: 512 reads are under way at once by default
HOUSEKEEPING_S = 5.0

# Reads whose answers may be large: they wait for room before they begin.
LARGE_ANSWERS = (wire.Get, wire.Find, wire.More, wire.Distinct, wire.Aggregate, wire.Inside, wire.SalvageShow, wire.ReadBackup)

# The least role for every operation. An operation that is not here does not exist.
LEAST_ROLE: dict[type[wire.Request], Role] = {
    wire.Hello: Role.NONE,
    wire.Login: Role.NONE,
    wire.Ping: Role.NONE,
    wire.Get: Role.READ,
    wire.Find: Role.READ,
    wire.More: Role.READ,
    wire.KillCursor: Role.READ,
    wire.Count: Role.READ,
    wire.EstimatedCount: Role.READ,
    wire.Distinct: Role.READ,
    wire.Aggregate: Role.READ,  # one with $out or $merge: as a write
    wire.Explain: Role.READ,
    wire.ListIndexes: Role.READ,
    wire.Begin: Role.READ,
    wire.Inside: Role.READ,  # and that of the request inside
    wire.Commit: Role.READ,  # what it commits was judged when it was written
    wire.Abort: Role.READ,
    wire.Anywhere: Role.READ,  # that of the read inside
    wire.ListDatabases: Role.READ,
    wire.ListCollections: Role.READ,
    wire.Status: Role.READ,
    wire.Insert: Role.READWRITE,
    wire.Replace: Role.READWRITE,
    wire.Update: Role.READWRITE,
    wire.FindAndModify: Role.READWRITE,
    wire.CreateIndexes: Role.READWRITE,
    wire.DropIndex: Role.READWRITE,
    wire.Delete: Role.READWRITE,
    wire.Bulk: Role.READWRITE,
    wire.DropCollection: Role.READWRITE,
    wire.CreateDatabase: Role.READWRITE,
    wire.DropDatabase: Role.ADMIN,
    wire.Compact: Role.ADMIN,
    wire.Promote: Role.ADMIN,
    wire.Switchover: Role.ADMIN,
    wire.Fence: Role.ADMIN,
    wire.Unfence: Role.ADMIN,
    wire.Rejoin: Role.ADMIN,
    wire.Reseed: Role.ADMIN,
    wire.Pause: Role.ADMIN,
    wire.Resume: Role.ADMIN,
    wire.RoleHistory: Role.ADMIN,
    wire.Check: Role.ADMIN,
    wire.Scrub: Role.ADMIN,
    wire.SalvageList: Role.ADMIN,
    wire.SalvageShow: Role.ADMIN,
    wire.SalvageNote: Role.ADMIN,
    wire.SalvageDrop: Role.ADMIN,
    wire.Backup: Role.ADMIN,
    wire.ListBackups: Role.ADMIN,
    wire.BackupStatus: Role.ADMIN,
    wire.DeleteBackup: Role.ADMIN,
    wire.VerifyBackup: Role.ADMIN,
    wire.RestoreBackup: Role.ADMIN,
    wire.ScheduleBackups: Role.ADMIN,
    wire.BackupJob: Role.ADMIN,
    wire.BackupCollections: Role.ADMIN,
    wire.ReadBackup: Role.ADMIN,
    wire.PruneArchive: Role.ADMIN,
}

# What no client may do in `_system`, whatever its role: its documents are written by the verbs that they belong to.
NOT_IN_SYSTEM = frozenset(kind for kind, role in LEAST_ROLE.items() if role is Role.READWRITE) | {wire.Begin, wire.DropDatabase}


class Caller(Protocol):
    """What the service needs of a connection. Every request taken is answered once, unless the caller is gone."""

    role: Role
    owner: str  # whose cursors these are: key and user
    peer: str  # the host it comes from
    scopes: set[trio.CancelScope]  # of its reads under way; cancelled when it goes
    room: AnswerRoom  # for the answers of its reads

    def answer(self, message: bytes) -> None: ...

    def answer_frames(self, frames: bytes, count: int) -> None: ...

    def abandon(self, error: wire.BadMessage, unbegun: int) -> None: ...

    def put_back(self, message: bytes) -> None: ...

    def become(self, user: str, role: Role) -> None: ...


@dataclass(frozen=True, slots=True)
class _Verb:
    """now: answers in place, or None when it would wait. later: may wait. At least one of them is there."""

    name: str
    role: Role
    now: Callable[[Any, Any], Done | Written | None] | None
    later: Callable[[Any, Any], Awaitable[Done | Written]] | None
    is_large: bool


class Service:
    """The verbs of one node, over its engine and its member. Only usable while `run` runs."""

    def __init__(
        self,
        engine: Any,
        member: Any,
        *,
        node: str,
        limits: Limits,
        logins: Logins,
        metrics: Metrics,
        random_bytes: Callable[[int], bytes],
        backups: storage.Backups | None = None,
        proof: ProofConfig | None = None,
    ) -> None:
        """backups, proof: how backups are made and proven, when not as by default."""
        self.first_role = logins.first_role
        self.metrics = metrics
        self.cursors = CursorTable(limits.cursors_max, limits.cursor_idle_s, random_bytes)
        self.room = AnswerRoom(limits.total_buffer_bytes, FIRST_ANSWER_BYTES, LEAST_ANSWER_BYTES)  # whoever sends answers settles it
        self.stopping = False
        self.under_way = 0  # requests taken and not answered
        self._engine = engine
        self._member = member
        self._limits = limits
        self._nursery: trio.Nursery | None = None
        self.waiting = 0  # of those, requests that run as tasks
        self._touched: dict[Any, None] = {}
        self._in_place = False  # within begin(): its caller ends the wake-up
        self._committing = False  # within the batch's commit()
        self._work = trio.Event()
        self._idle = trio.Event()
        writes = Writes(engine, member, self._touch)
        self._reads = Reads(engine, self.cursors, limits, writes)
        self.transactions = Transactions(engine, member, self.cursors, limits, self._reads, writes, metrics)
        self.oversight = Oversight(engine, member, logins, node, self.transactions.counts, lambda: self.stopping)
        self.backups = BackupDesk(engine, member, metrics, self._start_task, backups, proof)
        self.oversight.backups = self.backups.clock.as_fields
        self._verbs = self._build_verbs(self._reads, writes)
        self._batch = InsertBatch(
            engine,
            member,
            touched=self._touch,
            alone=self._begin_alone,
            refuse=self._refuse_quick,
            answered=self._less,
            start=self._start_task,
            waiting_max=limits.requests_max,
        )
        metrics.watch("requests_under_way", "Requests taken and not answered yet", lambda: self.under_way)
        metrics.watch("cursors_open", "Open cursors", lambda: len(self.cursors))

    def _build_verbs(self, reads: Reads, writes: Writes) -> dict[type[wire.Request], _Verb]:
        own, inside, desk = self.oversight, self.transactions, self.backups
        found: dict[type[wire.Request], tuple[Any, Any]] = {
            wire.Hello: (own.hello_now, None),
            wire.Login: (None, own.login),
            wire.Ping: (own.ping_now, None),
            wire.Get: (reads.get_now, reads.get),
            wire.Find: (None, reads.find),
            wire.More: (None, reads.more),
            wire.KillCursor: (None, reads.kill_cursor),
            wire.Count: (None, reads.count),
            wire.EstimatedCount: (None, reads.estimated_count),
            wire.Distinct: (None, reads.distinct),
            wire.Aggregate: (None, reads.aggregate),
            wire.Explain: (None, reads.explain),
            wire.ListIndexes: (None, reads.list_indexes),
            wire.ListDatabases: (own.list_databases_now, None),
            wire.ListCollections: (own.list_collections_now, None),
            wire.Status: (None, own.status),
            wire.Insert: (writes.insert_now, writes.insert),
            wire.Replace: (None, writes.replace),
            wire.Update: (None, writes.update),
            wire.FindAndModify: (None, writes.find_and_modify),
            wire.CreateIndexes: (None, writes.create_indexes),
            wire.DropIndex: (None, writes.drop_index),
            wire.Delete: (None, writes.delete),
            wire.Bulk: (None, writes.bulk),
            wire.DropCollection: (None, writes.drop_collection),
            wire.CreateDatabase: (None, writes.create_database),
            wire.DropDatabase: (None, writes.drop_database),
            wire.Compact: (None, own.compact),
            wire.Promote: (None, own.promote),
            wire.Switchover: (None, own.switch_over),
            wire.Fence: (None, own.fence),
            wire.Unfence: (None, own.unfence),
            wire.Rejoin: (None, own.rejoin),
            wire.Reseed: (None, own.reseed),
            wire.Pause: (None, own.pause),
            wire.Resume: (None, own.resume),
            wire.RoleHistory: (own.role_history_now, None),
            wire.Check: (own.check_now, None),
            wire.Scrub: (None, own.scrub),
            **salvage_verbs(self._engine),
            wire.Backup: (None, desk.backup),
            wire.ListBackups: (None, desk.list),
            wire.BackupStatus: (None, desk.status),
            wire.DeleteBackup: (None, desk.delete),
            wire.VerifyBackup: (None, desk.verify),
            wire.RestoreBackup: (None, desk.restore),
            wire.ScheduleBackups: (None, desk.schedule),
            wire.BackupJob: (None, desk.job),
            wire.BackupCollections: (None, desk.collections),
            wire.ReadBackup: (None, desk.read),
            wire.PruneArchive: (None, desk.prune),
            wire.Begin: (inside.begin_now, inside.begin),
            wire.Inside: (inside.inside_now, inside.inside),
            wire.Commit: (None, inside.commit),
            wire.Abort: (None, inside.abort),
        }
        assert found.keys() == LEAST_ROLE.keys() - {wire.Anywhere}, "every operation has a role and a verb"
        return {
            kind: _Verb(kind.__struct_config__.tag, LEAST_ROLE[kind], now, later, kind in LARGE_ANSWERS)
            for kind, (now, later) in found.items()
        }

    @property
    def inserts_waiting(self) -> int:
        """Single inserts that wait for room in a memtable."""
        return self._batch.waiting

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The tasks of requests that wait, and the flush after them, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._keep_house)
            nursery.start_soon(self.backups.clock.run)
            task_status.started()
            try:
                while True:
                    await self._work.wait()
                    self._work = trio.Event()
                    self.end_of_wakeup()
            finally:
                self._nursery = None
                with trio.CancelScope(shield=True):
                    await self.transactions.close_all()
                    await self.cursors.close_all()

    def begin(self, caller: Caller, message: bytes) -> None:
        """Take one request. Its answer comes by caller.answer, perhaps before this returns.

        Raises wire.BadMessage when not even the request's id can be read: the connection cannot go on.
        """
        self.under_way += 1
        try:
            request = wire.decode_request(message)
        except wire.BadMessage as error:
            if error.fields["id"] < 0:
                self.under_way -= 1
                raise
            self._refuse(caller, error.fields["id"], errors.BadRequest(error.message))
            return
        is_anywhere = type(request) is wire.Anywhere
        if is_anywhere:
            request = _read_inside(request)
        verb = self._verbs[type(request)]
        self.metrics.requests[verb.name] += 1
        if verb.role > Role.READ and not self._committing:
            self._commit_batch()  # what one connection sent is done in its order
        self._in_place = True
        try:
            self._check(caller, verb)
            if type(request) in NOT_IN_SYSTEM and request.db == storage.SYSTEM_DATABASE:
                raise errors.Unauthorized(f"{storage.SYSTEM_DATABASE} is Twinlog's own: {verb.name} is not for clients there")
            if not is_anywhere and type(request) in wire.PRIMARY_READS:
                self._member.check_leads()
            outcome = None if verb.now is None else verb.now(caller, request)
            if outcome is None:
                self._start(caller, request, verb)
            else:
                self._finish(caller, request.id, outcome)
        except errors.TwinlogError as error:
            self._refuse(caller, request.id, error)
        except OSError as error:
            self._refuse(caller, request.id, errors.of_disk(error, verb.name))
        except Exception:
            log.exception("a %s request met a bug", verb.name)
            self._refuse(caller, request.id, _bug(verb))
        finally:
            self._in_place = False

    def begin_round(self, callers: Sequence[Caller], messages: Sequence[bytes]) -> None:
        """Take the requests of one look at all connections; each stands beside its caller. Requests in their usual form take a short
        way: gets and pings are answered together, single inserts gathered until end_of_wakeup(). A caller whose
        message cannot be read is told by abandon(), and what it sent after that is let go."""
        rows: Sequence[QuickRequest | None] = [None] * len(messages) if self.stopping else requests(messages)
        answered: list[Caller] = []
        frames: list[bytes] = []
        gets: list[int] = []
        lost: set[Caller] = set()
        inserts = 0
        leads = self._member.leads
        for number, row in enumerate(rows):
            caller = callers[number]
            if row is not None:
                kind = row[0]
                if kind == GET:
                    if leads and caller.role >= Role.READ:
                        gets.append(number)
                        continue
                elif kind == INSERT:
                    if caller.role >= Role.READWRITE and len(messages[number]) <= ROW_BYTES_MAX and row[2] != storage.SYSTEM_DATABASE:
                        inserts += 1
                        self.under_way += 1
                        self._batch.add(caller, messages[number], row)
                        continue
                else:
                    answered.append(caller)
                    frames.append(ping_reply(row[1]))
                    continue
            if lost and caller in lost:
                continue
            try:
                self.begin(caller, messages[number])
            except wire.BadMessage as error:
                lost.add(caller)
                caller.abandon(error, sum(other is caller for other in callers[number:]))
        counts = self.metrics.requests
        if inserts:
            counts["insert"] += inserts
        if frames:
            counts["ping"] += len(frames)
            answer_runs(answered, frames)
        if gets:
            self._get(callers, messages, rows, gets)

    def _get(
        self, callers: Sequence[Caller], messages: Sequence[bytes], rows: Sequence[Any], gets: Sequence[int]
    ) -> None:
        found = self._reads.get_frames([rows[number] for number in gets], ROUND_ANSWER_BYTES)
        for number in gets[len(found) :]:
            callers[number].put_back(messages[number])
        if None not in found:
            self.metrics.requests["get"] += len(found)
            answer_runs([callers[number] for number in gets[: len(found)]], found)
            return
        for number, frame in zip(gets, found):
            if frame is None:
                self.begin(callers[number], messages[number])
            else:
                self.metrics.requests["get"] += 1
                callers[number].answer_frames(frame, 1)

    def refuse(self, caller: Caller, message: bytes, error: errors.TwinlogError) -> None:
        """Answer a request by error, whatever it is. Raises wire.BadMessage as begin does."""
        request_id = wire.decode_request(message).id
        self.under_way += 1
        self._refuse(caller, request_id, error)

    def end_of_wakeup(self) -> None:
        """Flush every database written to since the last time. Answers that this sets free are given in place."""
        self._commit_batch()
        while self._touched:
            touched, self._touched = self._touched, {}
            for db in touched:
                db.flush()
        self._batch.ask()

    def _commit_batch(self) -> None:
        self._committing = self._in_place = True
        try:
            self._batch.commit()
        finally:
            self._committing = self._in_place = False

    def _begin_alone(self, caller: Caller, message: bytes) -> None:
        """The general way for a request that was counted already."""
        self._less(1)
        self.metrics.requests["insert"] -= 1
        self.begin(caller, message)

    def _refuse_quick(self, caller: Caller, request_id: bytes, error: errors.TwinlogError) -> None:
        self.under_way += 1
        self._refuse(caller, wire.decode_fields(request_id), error)

    def stop(self) -> None:
        """Refuse requests from now on by ShuttingDown; those under way go on."""
        self.stopping = True

    async def drained(self) -> None:
        """Until no request is under way."""
        while self.under_way:
            self._idle = trio.Event()
            await self._idle.wait()

    def _check(self, caller: Caller, verb: _Verb) -> None:
        if self.stopping:
            raise errors.ShuttingDown("this node is stopping; connect to another one, or to this one soon again")
        if caller.role < verb.role:
            if caller.role is Role.NONE:
                raise errors.Unauthorized(f"{verb.name} needs a user of role {verb.role.name.lower()}; log in first")
            raise errors.Unauthorized(
                f"{verb.name} needs the role {verb.role.name.lower()}, this user has {caller.role.name.lower()};"
                f" log in as another user"
            )

    def _start(self, caller: Caller, request: wire.Request, verb: _Verb) -> None:
        """Let the request wait in a task of its own."""
        if self.waiting >= self._limits.requests_max:
            raise errors.Overloaded(
                f"{self.waiting} requests wait already, the limit is {self._limits.requests_max} (limits.requests_max);"
                f" try again soon",
                bound="requests_max", limit=self._limits.requests_max, retry_after_ms=RETRY_AFTER_MS,
            )  # fmt: skip
        if self._nursery is None:
            raise errors.ShuttingDown("this node is stopping or has not started; try again soon")
        self.waiting += 1
        scope = trio.CancelScope()
        if verb.role <= Role.READ:  # what changes something is finished even if nobody waits for the answer
            caller.scopes.add(scope)  # before the task runs: the caller may be gone by then
        self._nursery.start_soon(self._run_request, caller, request, verb, scope)

    def _start_task(self, task: Callable[..., Awaitable[None]], *args: Any) -> None:
        if self._nursery is None:
            raise errors.ShuttingDown("this node is stopping or has not started; try again soon")
        self._nursery.start_soon(task, *args)

    async def _run_request(
        self, caller: Caller, request: wire.Request, verb: _Verb, scope: trio.CancelScope
    ) -> None:
        answered = False
        with scope:
            try:
                if verb.is_large:
                    await self._read_with_room(caller, request, verb)
                else:
                    self._finish(caller, request.id, await verb.later(caller, request))
                answered = True
            except errors.TwinlogError as error:
                self._refuse(caller, request.id, error)
                answered = True
            except OSError as error:
                self._refuse(caller, request.id, errors.of_disk(error, verb.name))
                answered = True
            except Exception:
                log.exception("a %s request met a bug", verb.name)
                self._refuse(caller, request.id, _bug(verb))
                answered = True
            finally:
                caller.scopes.discard(scope)
                self.waiting -= 1
                if not answered:
                    self._one_less()

    async def _read_with_room(self, caller: Caller, request: wire.Request, verb: _Verb) -> None:
        """The connection's own room comes first: who waits for that keeps nobody else waiting."""
        answer_bytes = 0
        await caller.room.enter()
        try:
            await self.room.enter()
            try:
                outcome = await verb.later(caller, request)
                if type(outcome) is Done:
                    answer_bytes = len(memoryview(outcome.result))
                self._finish(caller, request.id, outcome)
            finally:
                self.room.leave(answer_bytes)
        finally:
            caller.room.leave(answer_bytes)

    def _finish(self, caller: Caller, request_id: int, outcome: Done | Written) -> None:
        if type(outcome) is Written:
            self._member.when_acknowledged(
                outcome.db, outcome.seq, partial(self._acknowledged, caller, request_id, outcome)
            )
        else:
            self._reply(caller, request_id, outcome)

    def _acknowledged(
        self, caller: Caller, request_id: int, outcome: Written, error: errors.TwinlogError | None = None
    ) -> None:
        if error is None:
            self._reply(caller, request_id, outcome)
        else:
            self._refuse(caller, request_id, error)

    def _reply(self, caller: Caller, request_id: int, outcome: Done | Written) -> None:
        message = wire.encode_answer(wire.Reply(request_id, outcome.result, outcome.epoch, outcome.seq))
        if len(message) > wire.MESSAGE_BYTES_MAX:
            error = errors.BadRequest(
                f"the answer has {len(message)} bytes, the limit is {wire.MESSAGE_BYTES_MAX}; ask for less at once"
            )
            self._refuse(caller, request_id, error)
            return
        self._one_less()
        caller.answer(message)

    def _refuse(self, caller: Caller, request_id: int, error: errors.TwinlogError) -> None:
        self._one_less()
        self.metrics.refusals[error.name] += 1
        if isinstance(error, errors.Overloaded):
            self.metrics.bounds[error.fields.get("bound", "unnamed")] += 1
        elif isinstance(error, errors.DamagedRecord):
            self._engine.met_damage(error)
        fields = plain_fields(error)
        caller.answer(wire.encode_answer(wire.Failure(request_id, error.code, error.name, error.message, fields)))

    def _one_less(self) -> None:
        self._less(1)

    def _less(self, count: int) -> None:
        self.under_way -= count
        assert self.under_way >= 0, "every request is answered once"
        if self.under_way == 0:
            self._idle.set()

    def _touch(self, db: Any) -> None:
        self._touched[db] = None
        if not self._in_place:
            self._work.set()

    async def _keep_house(self) -> None:
        while True:
            await trio.sleep(HOUSEKEEPING_S)
            await self.transactions.close_ended()
            closed = await self.cursors.close_idle()
            if closed:
                self.metrics.bounds["cursor_idle_s"] += closed


def _read_inside(request: wire.Anywhere) -> wire.Request:
    """It is answered under the id of the whole."""
    request.request.id = request.id
    return request.request


def _bug(verb: _Verb) -> errors.InternalError:
    return errors.InternalError(f"{verb.name} met a bug in this node; its log has the trace, please report it")


def cancel_all(scopes: set[trio.CancelScope]) -> None:
    """A caller is gone: what it waited for ends."""
    with suppress(KeyError):
        while True:
            scopes.pop().cancel()

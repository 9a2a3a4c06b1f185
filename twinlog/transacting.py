"""One transaction as the client knows it, and when one is run again. Pure; both faces share it.

    NEW ──begin──> OPEN ──commit──> COMMITTED
                    │ └── the answer is lost ──> COMMITTING: commit again tells whether it was kept
                    ├──> LOST: the node ended it, or a request of it was lost with its connection
                    └──> ABORTED: by abort()

A transaction lives on the node that answered its begin; its requests go there, on any connection of the pool, each in an Inside. Its
commit goes to whichever node is primary and carries a request id: sent again, it is answered, not applied again. One that wrote nothing has
nothing to lose, so its commit is a courtesy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import TypeVar

from node.wire import (
    Abort,
    Aggregate,
    Begin,
    Bulk,
    Commit,
    Count,
    CreateIndexes,
    Delete,
    Distinct,
    DropCollection,
    DropIndex,
    EstimatedCount,
    Explain,
    Find,
    FindAndModify,
    Get,
    Insert,
    Inside,
    KillCursor,
    ListIndexes,
    More,
    Replace,
    Reply,
    Request,
    Update,
)

from . import answers
from .call import Call
from .errors import (
    TRANSIENT,
    UNKNOWN_COMMIT,
    ConnectionFailure,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    TwinlogError,
    WaitQueueTimeoutError,
    WTimeoutError,
)
from .exchange import Kind
from .options import natural
from .results import Position
from .scope import Scope
from .url import ReadFrom
from .verbs import Plan

T = TypeVar("T")

NOT_SUPPORTED_CODE = 263  # MongoDB's OperationNotSupportedInTransaction
COURTESY_S = 1.0  # how long an abort waits for its answer
ATTEMPTS = 100
MAX_TIME_MS = 120_000
CONFLICT_PAUSE_S = (0.001, 0.1)  # first and longest, after a conflict
OUTAGE_PAUSE_S = (0.05, 2.0)  # after a lost connection or a refusal that says nothing of the transaction

_READS = frozenset({Get, Find, More, KillCursor, Count, EstimatedCount, Distinct, Aggregate})
_WRITES = frozenset({Insert, Replace, Update, FindAndModify, Delete, Bulk})
_OUTSIDE = {
    CreateIndexes: "create_index()", DropIndex: "drop_index()", ListIndexes: "list_indexes()", Explain: "explain()",
    DropCollection: "drop()",
}  # fmt: skip
_OVER = frozenset({"NoSuchTransaction", "WriteConflict", "SnapshotTooOld"})
_AGAIN = _OVER | {"Overloaded", "ReadOnly", "ShuttingDown"}


class Phase(Enum):
    """Where a transaction is."""

    NEW = "has not begun: use it as `with db.transaction() as tx`"
    OPEN = "is open"
    COMMITTING = "was being committed when its connection was lost: commit() again, which tells whether it was kept"
    COMMITTED = "is committed"
    LOST = "ended before its commit, by its node or with its connection: run it again"
    ABORTED = "is aborted: begin another one"


class Transacting:
    """One transaction of database db. Not for several threads or tasks at once."""

    def __init__(self, scope: Scope, db: str, *, max_time_ms: int | None) -> None:
        self.db = db
        self.phase = Phase.NEW
        self.position: Position | None = None  # of the snapshot, then of the commit
        # Inside there is one state of the database, so nothing is asked of positions; a write needs the primary.
        read_from = ReadFrom.PRIMARY if scope.read_from is ReadFrom.ANY else scope.read_from
        self._outside = replace(scope, read_from=read_from)
        self.scope = replace(scope, read_from=read_from, consistent=False, min_position=None)
        self._max_time_ms = natural("max_time_ms", max_time_ms or 0)
        self._id = b""
        self._node: str | None = None
        self._wrote = False
        self._commit_id = b""

    def begin(self) -> Call[Reply]:
        """The call that begins it; its answer goes to begun()."""
        if self.phase is not Phase.NEW:
            raise self._misused("begin again")
        request = Begin(0, self.db, self._outside.least_position(self.db), self._max_time_ms)
        return Call(Kind.READ, self._outside, self.db, request, lambda reply: reply)

    def begun(self, call: Call[Reply], reply: Reply) -> None:
        self._id = answers.read(answers.BEGUN, reply).transaction
        self._node = call.node
        self.position = (reply.epoch, reply.seq)
        self.phase = Phase.OPEN

    # Inside.

    def put_inside(self, call: Call[T]) -> Call[T]:
        """The same call, inside. Raises OperationFailure (263) for what a transaction does not do."""
        call.request = self._inside(call.request)
        call.kind = Kind.INSIDE
        call.node = self._node
        return call

    def within(self, plan: Plan[T]) -> Plan[T]:
        """The same plan, its requests inside."""
        try:
            exchange = next(plan)
            while True:
                exchange.put_inside(self._node, self._inside)
                try:
                    yield exchange
                except TwinlogError as error:
                    exchange = plan.throw(error)
                else:
                    exchange = next(plan)
        except StopIteration as finished:
            return finished.value

    def failed(self, error: TwinlogError) -> TwinlogError:
        """Take in the error of a call inside, or of begin(); the same error, labelled."""
        name = error.details.get("name")
        if name in _OVER or (isinstance(error, ConnectionFailure) and not isinstance(error, (NotPrimaryError, WaitQueueTimeoutError))):
            self.phase = Phase.LOST
        if self._may_help(error):
            _label(error, TRANSIENT)
        return error

    def _inside(self, request: Request) -> Request:
        kind = type(request)
        if kind in _WRITES:
            self._wrote = True
        elif kind not in _READS:
            message = f"{_OUTSIDE.get(kind, kind.__name__)} is not possible inside a transaction: do it before or after it"
            raise OperationFailure(message, NOT_SUPPORTED_CODE, {"name": "OperationNotSupportedInTransaction", "errmsg": message})
        if self.phase is not Phase.OPEN:
            raise self._misused("be asked any more")
        return Inside(0, self._id, request)

    # The end.

    def commit(self) -> Call[None] | None:
        """The call that applies what was written; None: that was done already. What it raises goes to commit_failed()."""
        if self.phase is Phase.COMMITTED:
            return None
        if self.phase not in (Phase.OPEN, Phase.COMMITTING):
            raise self._misused("be committed")
        if not self._wrote:
            self.phase = Phase.COMMITTED
            return self._courtesy(Commit(0, self.db, self._id))
        self._commit_id = self._commit_id or self.scope.write_id()
        self.phase = Phase.COMMITTING
        return Call(Kind.WRITE, self.scope, self.db, Commit(0, self.db, self._id, self._commit_id), self._committed)

    def _committed(self, reply: Reply) -> None:
        self.position = (reply.epoch, reply.seq)
        self.phase = Phase.COMMITTED

    def commit_failed(self, error: TwinlogError) -> bool:
        """Take in the error of a commit, and label it; whether it is to be raised."""
        if self.phase is Phase.COMMITTED:
            return not isinstance(error, (ConnectionFailure, OperationFailure))  # nothing was written
        if isinstance(error, WTimeoutError):
            self.phase = Phase.COMMITTED  # on the primary; its standbys are late
            fields = error.details["fields"]
            self.position = (fields["epoch"], fields["seq"])
        elif isinstance(error, ConnectionFailure):
            _label(error, UNKNOWN_COMMIT)
        else:
            self.phase = Phase.LOST
            if self._may_help(error):
                _label(error, TRANSIENT)
        return True

    def abort(self) -> Call[None] | None:
        """The call that forgets what was written; None: there is nothing to forget. A ConnectionFailure or OperationFailure of it does not
        matter: a node that cannot be reached forgets by itself after a while."""
        if self.phase in (Phase.COMMITTING, Phase.COMMITTED):
            raise self._misused("be aborted")
        self.phase = Phase.ABORTED
        if not self._id:
            return None
        transaction, self._id = self._id, b""
        return self._courtesy(Abort(0, transaction))

    def _courtesy(self, request: Request) -> Call[None]:
        timeout_s = COURTESY_S if self.scope.timeout_s is None else min(self.scope.timeout_s, COURTESY_S)
        return Call(Kind.COURTESY, replace(self.scope, timeout_s=timeout_s), "", request, _nothing, node=self._node)

    def _may_help(self, error: TwinlogError) -> bool:
        """Whether to run the transaction again. A standby never takes a write, so there it does not help."""
        if isinstance(error, NotPrimaryError):
            return self.scope.read_from is not ReadFrom.STANDBY
        return isinstance(error, ConnectionFailure) or error.details.get("name") in _AGAIN

    def _misused(self, what: str) -> InvalidOperation:
        error = InvalidOperation(f"the transaction cannot {what}: it {self.phase.value}")
        if self.phase is Phase.LOST:
            _label(error, TRANSIENT)  # what ended it may have been caught and forgotten
        return error


def _nothing(reply: Reply) -> None:
    """What the answer to a courtesy means."""


def _label(error: TwinlogError, label: str) -> None:
    if not error.has_error_label(label):
        error.add_error_label(label)


class Attempts:
    """How often and how long a transaction is run again. jitter() gives a byte of entropy, 0 to 255.

    Pauses double from one attempt to the next, and each is cut at random, so that many clients do not meet again.
    """

    def __init__(
        self, attempts: int, max_time_ms: int | None, clock: Callable[[], float], jitter: Callable[[], int]
    ) -> None:
        if natural("attempts", attempts) == 0:
            raise ValueError("attempts must be at least 1")
        self._left = attempts
        self._clock = clock
        self._jitter = jitter
        self._until = clock() + (MAX_TIME_MS if max_time_ms is None else natural("max_time_ms", max_time_ms)) / 1000
        self._made = 0

    def pause_s(self, error: TwinlogError, label: str) -> float | None:
        """How long to wait before it is tried again; None: raise the error."""
        self._left -= 1
        if not error.has_error_label(label) or self._left <= 0:
            return None
        first_s, most_s = CONFLICT_PAUSE_S if error.details.get("name") == "WriteConflict" else OUTAGE_PAUSE_S
        seconds = min(first_s * 2 ** min(self._made, 16), most_s) * (self._jitter() + 1) / 256
        self._made += 1
        return seconds if self._clock() + seconds < self._until else None

"""The blocking transaction, and how it is run again. Its states and requests are transacting.py's.

    with db.transaction() as tx:                 leaving the block commits, an exception aborts
        tx["accounts"].update_one(...)

    db.run_transaction(work)                     work(tx) is called again after a conflict or a failover
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from . import transport
from .call import Call
from .collection import Collection
from .errors import TRANSIENT, UNKNOWN_COMMIT, ConnectionFailure, OperationFailure, TwinlogError
from .results import Position
from .transacting import Attempts, Phase, Transacting
from .verbs import Plan

if TYPE_CHECKING:
    from .database import Database

T = TypeVar("T")


class Transaction:
    """One transaction of a database: what is read is one moment, what is written is kept whole or not at all. For one thread.

    tx["name"] is a collection whose calls are all inside; indexes and collections are made and dropped outside.
    """

    def __init__(self, database: Database, state: Transacting) -> None:
        self.database = database
        self.name = database.name
        self.client = self  # for its collections: what they ask goes through here
        self._outside = database.client
        self._state = state

    @property
    def position(self) -> Position | None:
        """The (epoch, seq) of the snapshot; after commit() that of the commit; None before it begins."""
        return self._state.position

    def collection(self, name: str) -> Collection:
        return Collection(self, name, self._state.scope)

    def commit(self) -> None:
        """Keep what was written. Raises WriteConflict: nothing was kept. After a ConnectionFailure it may be called again,
        which tells whether it was kept."""
        call = self._state.commit()
        if call is not None:
            try:
                self._outside.ask(call)
            except TwinlogError as error:
                if self._state.commit_failed(error):
                    raise

    def abort(self) -> None:
        """Forget what was written; again is no error."""
        call = self._state.abort()
        if call is not None:
            with suppress(ConnectionFailure, OperationFailure):
                self._outside.ask(call)

    def ask(self, call: Call[T]) -> T:
        """Carry out a call inside."""
        try:
            return self._outside.ask(self._state.put_inside(call))
        except TwinlogError as error:
            self._state.failed(error)
            raise

    def run(self, plan: Plan[T]) -> T:
        """Carry out a plan inside."""
        try:
            return self._outside.run(self._state.within(plan))
        except TwinlogError as error:
            self._state.failed(error)
            raise

    def __enter__(self) -> Transaction:
        call = self._state.begin()
        try:
            self._state.begun(call, self._outside.ask(call))
        except TwinlogError as error:
            self._state.failed(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state.phase in (Phase.COMMITTED, Phase.ABORTED):
            return
        if error is not None:
            if self._state.phase is not Phase.COMMITTING:
                self.abort()
            return
        try:
            self.commit()
        except TwinlogError:
            if self._state.phase is Phase.LOST:
                self.abort()
            raise

    def __getitem__(self, name: str) -> Collection:
        return self.collection(name)

    def __repr__(self) -> str:
        return f"Transaction({self.name!r}, {self._state.phase.name.lower()})"


def run_again(database: Database, work: Callable[[Transaction], T], *, attempts: int, max_time_ms: int | None) -> T:
    """work(tx) in one transaction after another until one is committed; its result."""
    tries = Attempts(attempts, max_time_ms, transport.monotonic, transport.random_byte)
    while True:
        transaction = database.transaction()
        worked = False
        try:
            with transaction:
                result = work(transaction)
                worked = True
            return result
        except TwinlogError as error:
            if worked and error.has_error_label(UNKNOWN_COMMIT):
                error = _settle(transaction, error, tries)
                if error is None:
                    return result
            pause_s = tries.pause_s(error, TRANSIENT)
            if pause_s is None:
                raise error
        transport.sleep(pause_s)


def _settle(transaction: Transaction, error: TwinlogError, tries: Attempts) -> TwinlogError | None:
    """Commit until it is known whether it was kept: None, it was; else why not."""
    while (pause_s := tries.pause_s(error, UNKNOWN_COMMIT)) is not None:
        transport.sleep(pause_s)
        try:
            transaction.commit()
            return None
        except TwinlogError as again:
            error = again
    return error

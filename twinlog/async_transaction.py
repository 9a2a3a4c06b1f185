"""The trio transaction, and how it is run again: transaction.py's twin, to be awaited.

    async with db.transaction() as tx:           leaving the block commits, an exception or a cancellation aborts
        await tx["accounts"].update_one(...)

    await db.run_transaction(work)               await work(tx) is done again after a conflict or a failover
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import trio

from . import transport
from .async_collection import AsyncCollection
from .call import Call
from .errors import TRANSIENT, UNKNOWN_COMMIT, ConnectionFailure, OperationFailure, TwinlogError
from .results import Position
from .transacting import Attempts, Phase, Transacting
from .verbs import Plan

if TYPE_CHECKING:
    from .async_database import AsyncDatabase

T = TypeVar("T")

ABORT_S = 1.0


class AsyncTransaction:
    """One transaction of a database: what is read is one moment, what is written is kept whole or not at all. For one task.

    tx["name"] is a collection whose calls are all inside; indexes and collections are made and dropped outside.
    """

    def __init__(self, database: AsyncDatabase, state: Transacting) -> None:
        self.database = database
        self.name = database.name
        self.client = self  # for its collections: what they ask goes through here
        self._outside = database.client
        self._state = state

    @property
    def position(self) -> Position | None:
        """The (epoch, seq) of the snapshot; after commit() that of the commit; None before it begins."""
        return self._state.position

    def collection(self, name: str) -> AsyncCollection:
        return AsyncCollection(self, name, self._state.scope)

    async def commit(self) -> None:
        """Keep what was written. Raises WriteConflict: nothing was kept. After a ConnectionFailure it may be called again,
        which tells whether it was kept."""
        call = self._state.commit()
        if call is not None:
            try:
                await self._outside.ask(call)
            except TwinlogError as error:
                if self._state.commit_failed(error):
                    raise

    async def abort(self) -> None:
        """Forget what was written; again is no error."""
        call = self._state.abort()
        if call is not None:
            with suppress(ConnectionFailure, OperationFailure):
                await self._outside.ask(call)

    async def ask(self, call: Call[T]) -> T:
        """Carry out a call inside."""
        try:
            return await self._outside.ask(self._state.put_inside(call))
        except TwinlogError as error:
            self._state.failed(error)
            raise

    async def run(self, plan: Plan[T]) -> T:
        """Carry out a plan inside."""
        try:
            return await self._outside.run(self._state.within(plan))
        except TwinlogError as error:
            self._state.failed(error)
            raise

    async def __aenter__(self) -> AsyncTransaction:
        call = self._state.begin()
        try:
            self._state.begun(call, await self._outside.ask(call))
        except TwinlogError as error:
            self._state.failed(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state.phase in (Phase.COMMITTED, Phase.ABORTED):
            return
        if error is not None:
            if self._state.phase is not Phase.COMMITTING:
                await self._abort_shortly()
            return
        try:
            await self.commit()
        except TwinlogError:
            if self._state.phase is Phase.LOST:
                await self._abort_shortly()
            raise

    async def _abort_shortly(self) -> None:
        """Also when the task is being cancelled: the node need not hold the snapshot until its time limit."""
        with trio.move_on_after(ABORT_S) as scope:
            scope.shield = True
            await self.abort()

    def __getitem__(self, name: str) -> AsyncCollection:
        return self.collection(name)

    def __repr__(self) -> str:
        return f"AsyncTransaction({self.name!r}, {self._state.phase.name.lower()})"


async def run_again(database: AsyncDatabase, work: Callable[[AsyncTransaction], Awaitable[T]], *, attempts: int, max_time_ms: int | None) -> T:
    """work(tx) in one transaction after another until one is committed; its result."""
    tries = Attempts(attempts, max_time_ms, trio.current_time, transport.random_byte)
    while True:
        transaction = database.transaction()
        worked = False
        try:
            async with transaction:
                result = await work(transaction)
                worked = True
            return result
        except TwinlogError as error:
            if worked and error.has_error_label(UNKNOWN_COMMIT):
                error = await _settle(transaction, error, tries)
                if error is None:
                    return result
            pause_s = tries.pause_s(error, TRANSIENT)
            if pause_s is None:
                raise error
        await trio.sleep(pause_s)


async def _settle(transaction: AsyncTransaction, error: TwinlogError, tries: Attempts) -> TwinlogError | None:
    """Commit until it is known whether it was kept: None, it was; else why not."""
    while (pause_s := tries.pause_s(error, UNKNOWN_COMMIT)) is not None:
        await trio.sleep(pause_s)
        try:
            await transaction.commit()
            return None
        except TwinlogError as again:
            error = again
    return error

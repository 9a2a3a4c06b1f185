"""open() and open_async(): a database in this process, without a server, behind the same client.

open() runs the engine on trio in one background thread, which every thread of the program may call; open_async() runs it
in the caller's own trio run. The data directory is locked: only one process has it open. A directory that belongs to
a node of a cluster opens read-only, since writing to it would fork the cluster's history (INV-4).
"""

from __future__ import annotations

import os
import queue
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import fields
from typing import Any, TypeVar

import trio

from storage import (
    Engine,
    EngineOptions,
    MemoryDisk,
    Seams,
    SyncMode,
    WorkHere,
    check_backup_place,
    is_bucket,
    read_backup_keys,
    real_seams,
    wall_clock_us,
)
from storage import errors as engine_errors

from . import transport
from .async_client import AsyncClient
from .call import Call
from .client import Client
from .errors import ConfigurationError, InvalidOperation, TwinlogError
from .local_verbs import LocalVerbs
from .scope import Positions, Scope
from .values import from_engine
from .verbs import Plan

T = TypeVar("T")

MEMORY = ":memory:"
LOCK_FILE = "lock"
ROLE_FILE = "role.json"


def open(path: str | os.PathLike[str], **options: Any) -> Client:
    """Open the databases below a directory, which is made if need be; ":memory:" keeps everything in memory.

    options: the fields of storage's EngineOptions, as sync_mode="sync", shards=16, cache_bytes=2**28. Use it as a context
    manager, or close() it: closing writes and syncs everything. Raises ConfigurationError, OperationFailure.
    """
    backend = EmbeddedBackend(_seams(path), _options(options))
    return Client(backend, Scope(Positions(transport.new_lock()), transport.random_bytes), transport.new_lock)


@asynccontextmanager
async def open_async(path: str | os.PathLike[str], **options: Any) -> AsyncIterator[AsyncClient]:
    """The same inside trio: `async with open_async(path) as client`."""
    async with _open_verbs(_seams(path), _options(options)) as verbs:
        yield AsyncClient(AsyncEmbeddedBackend(verbs), Scope(Positions(nullcontext()), transport.random_bytes))


class AsyncEmbeddedBackend:
    """Carries plans to an engine of the same trio run."""

    def __init__(self, verbs: LocalVerbs) -> None:
        self._verbs = verbs
        self._closed = False

    async def run(self, plan: Plan[T]) -> T:
        if self._closed:
            raise InvalidOperation("the client is closed")
        try:
            exchange = next(plan)
            while True:
                try:
                    await self._verbs.carry(exchange)
                except TwinlogError as error:
                    exchange = plan.throw(error)
                else:
                    exchange = next(plan)
        except StopIteration as finished:
            return finished.value

    async def ask(self, call: Call[T]) -> T:
        if self._closed:
            raise InvalidOperation("the client is closed")
        return call.finish(await self._verbs.ask(call.request, call.scope.timeout_s))

    def addresses(self) -> tuple[str, ...]:
        return ()

    def primary(self) -> str | None:
        return None

    async def close(self) -> None:
        """No more calls; the engine itself closes when the block of open_async() ends."""
        self._closed = True
        await trio.lowlevel.checkpoint()


class EmbeddedBackend:
    """Carries plans to an engine in a background thread. run() may be called by many threads."""

    def __init__(self, seams: Seams, options: EngineOptions) -> None:
        """Returns when the engine is open. Raises what opening it raises."""
        self._seams = seams
        self._options = options
        self._closing: trio.Event | None = None
        self._failure: BaseException | None = None
        ready: queue.Queue[tuple[trio.lowlevel.TrioToken, AsyncEmbeddedBackend] | None] = queue.Queue()
        self._thread = transport.start_thread(lambda: self._main(ready), "twinlog-engine")
        opened = ready.get()
        if opened is None:
            self._thread.join()
            assert self._failure is not None, "an engine that did not open says why"
            raise self._failure
        self._token, self._inner = opened

    def run(self, plan: Plan[T]) -> T:
        return self._in_engine(self._inner.run, plan)

    def ask(self, call: Call[T]) -> T:
        return self._in_engine(self._inner.ask, call)

    def _in_engine(self, work: Callable[[Any], Awaitable[T]], what: object) -> T:
        try:
            return trio.from_thread.run(work, what, trio_token=self._token)
        except trio.RunFinishedError:
            cause = f": {self._failure}" if self._failure is not None else ""
            raise InvalidOperation(f"the database is closed{cause}") from self._failure

    def addresses(self) -> tuple[str, ...]:
        return ()

    def primary(self) -> str | None:
        return None

    def close(self) -> None:
        """Write and sync everything; again is no error. Raises what went wrong with it."""
        if self._thread.is_alive() and self._closing is not None:
            try:
                trio.from_thread.run_sync(self._closing.set, trio_token=self._token)
            except trio.RunFinishedError:
                pass  # it ended by itself; its failure is raised below
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _main(self, ready: queue.Queue[tuple[trio.lowlevel.TrioToken, AsyncEmbeddedBackend] | None]) -> None:
        """The thread. Whatever ends the engine is kept for those who call it."""
        try:
            trio.run(self._serve, ready)
        except BaseException as error:  # noqa: BLE001 - the top of the thread
            self._failure = error
            ready.put(None)

    async def _serve(self, ready: queue.Queue[tuple[trio.lowlevel.TrioToken, AsyncEmbeddedBackend] | None]) -> None:
        self._closing = trio.Event()
        async with _open_verbs(self._seams, self._options) as verbs:
            inner = AsyncEmbeddedBackend(verbs)
            ready.put((trio.lowlevel.current_trio_token(), inner))
            await self._closing.wait()
            await inner.close()


@asynccontextmanager
async def _open_verbs(seams: Seams, options: EngineOptions) -> AsyncIterator[LocalVerbs]:
    """The locked directory, its engine and the verbs over it. Raises the client's errors."""
    disk = seams.disk
    await disk.run(disk.make_dir, "")
    try:
        release = disk.lock(LOCK_FILE, f'{{"pid": {os.getpid()}}}\n'.encode())
    except BlockingIOError:
        raise from_engine(
            engine_errors.DirectoryInUse(
                "another process has the data directory open: close it there, or connect() to the node that serves it"
            )
        ) from None
    try:
        refusal = None
        if disk.exists(ROLE_FILE):
            refusal = engine_errors.ReadOnly(
                f"this directory belongs to a node of a cluster ({ROLE_FILE} is in it) and is open for reading only: "
                f"write through the node, or remove {ROLE_FILE} from a copy and open that"
            )
        async with Engine.open(seams, options=options) as engine:
            verbs = LocalVerbs(engine, refusal)
            await verbs.begin_reigns()
            try:
                yield verbs
            finally:
                with trio.CancelScope(shield=True):
                    await verbs.close()
    except BaseExceptionGroup as group:
        # The engine's nursery wraps whatever passes through it, also an error of the caller's own block.
        error = _only_leaf(group)
        if error is None:
            raise
        if isinstance(error, engine_errors.TwinlogError):
            raise from_engine(error) from error
        raise error from None
    except engine_errors.TwinlogError as error:
        raise from_engine(error) from error
    finally:
        release()


def _only_leaf(group: BaseExceptionGroup[BaseException]) -> Exception | None:
    """The one exception of a group that holds no other."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) != 1:
            return None
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else None


def _seams(path: str | os.PathLike[str]) -> Seams:
    if os.fspath(path) == MEMORY:
        disk = MemoryDisk()
        return Seams(disk, wall_clock_us, transport.random_bytes, WorkHere(disk))
    return real_seams(path)


def _options(given: dict[str, Any]) -> EngineOptions:
    known = {field.name for field in fields(EngineOptions)}
    for name in given:
        if name not in known:
            raise ConfigurationError(f"unknown option {name!r}: there are {', '.join(sorted(known))}")
    try:
        if "sync_mode" in given:
            given = {**given, "sync_mode": SyncMode(given["sync_mode"])}
        if given.get("backup_key_file"):
            given = {**given, "backup_key_file": os.path.abspath(given["backup_key_file"])}
            read_backup_keys(given["backup_key_file"])
        if given.get("backup_path"):
            check_backup_place(given["backup_path"])
        if is_bucket(given.get("archive", "")):
            check_backup_place(given["archive"])
        return EngineOptions(**given)
    except (engine_errors.ConfigError, engine_errors.BadRequest) as error:
        raise ConfigurationError(error.message) from error
    except ValueError as error:
        raise ConfigurationError(f"sync_mode={given['sync_mode']!r}: must be async or sync") from error

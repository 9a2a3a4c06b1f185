"""The trio client driven from plain tests: every call runs in a trio thread, so one suite covers both faces."""

from __future__ import annotations

import inspect
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import AsyncGeneratorType
from typing import Any

import trio

import twinlog

WRAPPED = (
    twinlog.AsyncClient, twinlog.AsyncDatabase, twinlog.AsyncCollection, twinlog.AsyncCommandCursor, twinlog.AsyncTransaction,
    AsyncGeneratorType,
)  # fmt: skip


class Awaited:
    """Looks like the blocking object whose twin it holds."""

    def __init__(self, inner: Any, token: trio.lowlevel.TrioToken) -> None:
        self.__dict__.update(inner=inner, token=token)

    def __getattr__(self, name: str) -> Any:
        return self._wrap(getattr(self.inner, name))

    def __getitem__(self, name: str) -> Any:
        return self._wrap(self.inner[name])

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.inner(*args, **options)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return trio.from_thread.run(self.inner.__anext__, trio_token=self.token)
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Awaited:
        trio.from_thread.run(self.inner.__aenter__, trio_token=self.token)
        return self

    def __exit__(self, *error: Any) -> None:
        trio.from_thread.run(self.inner.__aexit__, *error, trio_token=self.token)

    def _wrap(self, value: Any) -> Any:
        if isinstance(value, WRAPPED):
            return Awaited(value, self.token)
        if not inspect.ismethod(value):
            return value

        def call(*args: Any, **options: Any) -> Any:
            async def run() -> Any:
                result = value(*args, **options)
                return await result if inspect.isawaitable(result) else result

            return self._wrap(trio.from_thread.run(run, trio_token=self.token))

        return call


@contextmanager
def awaited(open_client: Any) -> Iterator[Awaited]:
    """open_client: a function giving an async context manager of an AsyncClient."""
    ready: queue.Queue[Any] = queue.Queue()

    async def main() -> None:
        done = trio.Event()
        async with open_client() as client:
            ready.put((client, trio.lowlevel.current_trio_token(), done))
            await done.wait()

    def work() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    opened = ready.get()
    if isinstance(opened, BaseException):
        raise opened
    client, token, done = opened
    try:
        yield Awaited(client, token)
    finally:
        trio.from_thread.run_sync(done.set, trio_token=token)
        thread.join()

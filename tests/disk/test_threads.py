"""The threads of the real disk: results and errors come back, at most so many calls run, and one that has begun is waited for."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio

from storage.disk import THREADS_MAX, OsDisk

PATIENCE_S = 30


async def test_results_and_errors_come_back(tmp_path: Path):
    disk = OsDisk(tmp_path)
    assert await disk.run(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await disk.run(divmod, 1, 0)
    assert await disk.run(threading.get_ident) != threading.get_ident()
    assert disk.calls == 0


async def test_only_so_many_run_at_once(tmp_path: Path):
    disk, gate = OsDisk(tmp_path), threading.Event()
    lock, running, most = threading.Lock(), 0, 0

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(PATIENCE_S)
        with lock:
            running -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(THREADS_MAX + 5):
            nursery.start_soon(disk.run, work)
        with trio.fail_after(PATIENCE_S):
            while running < THREADS_MAX or disk.calls < THREADS_MAX + 5:
                await trio.lowlevel.checkpoint()
        gate.set()
    assert most == THREADS_MAX
    assert disk.calls == 0


async def test_a_call_that_has_begun_is_waited_for_and_one_that_has_not_is_not_begun(tmp_path: Path):
    disk, began, gate, done = OsDisk(tmp_path), threading.Event(), threading.Event(), []

    def work() -> str:
        began.set()
        gate.wait(PATIENCE_S)
        done.append(True)
        return "done"

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disk.run, work)
            with trio.fail_after(PATIENCE_S):
                while not began.is_set():
                    await trio.lowlevel.checkpoint()
            scope.cancel()
            gate.set()
    assert done == [True]
    with trio.CancelScope() as scope:
        scope.cancel()
        await disk.run(done.append, False)
    assert scope.cancelled_caught
    assert done == [True]

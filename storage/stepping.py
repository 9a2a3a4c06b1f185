"""Stepping: where the steps of a plan run. In the disk's thread; or in place, while questions of that shape are short.

    make() ── steps ──> in place: a step or two, if the last ones like it were short and nothing has to be read from the device
                   └──> else in the disk's thread, several on one way there and back

The way to the thread and back takes 0.1 ms and waits for its turn of the interpreter; most questions by index take less than that. So it is spared
those whose shape, which paths are asked how and sorted how, has been answered in a moment lately: like the sync of a commit log, which is done
in place while syncs are short (commit/pace.py). One that turns out long was one step too many for the loop (INV-9), and the next of its shape go to the
thread until they are short again. Documents that are not in memory are never waited for in place, nor columns of new rows that are not made; a page of an
index file that is not in memory has to be, and then all questions go to the thread for COLD_S: who touches one cold page will soon touch others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

import trio

from .indexes.parts import Standing
from .shard.fetching import WouldWait
from .step_pace import LONG_S
from .views import View

T = TypeVar("T")

STEPS_TOGETHER = 4  # in the thread, before the next ones wait for their turn again
STEPS_IN_PLACE = 2

_END = object()


async def run_through(
    view: View,
    standing: Standing,
    make: Callable[[], Iterator[T]],
    take: Callable[[T], bool],
    forget: Callable[[], object],
    shape: Hashable | None = None,
) -> None:
    """Run the steps that make() gives until take() has enough (True) or they end. take: given what each step gave but None. forget: what was taken is
    given once more, from the beginning. Raises what the steps raise."""
    steps = None
    pace, began = view.pace, trio.current_time()
    if shape is not None and pace.allows_in_place(shape, began):
        waits = view.page_waits()
        steps = make()
        standing.wait_for_all(waits=False)
        try:
            is_done = some_steps(steps, take, STEPS_IN_PLACE)
        except WouldWait:  # how long it takes is known when the thread has answered
            steps, is_done = None, False
            forget()
        finally:
            standing.wait_for_all(waits=True)
        now = trio.current_time()
        if view.page_waits() != waits:
            pace.met_cold_pages(now)
        if steps is not None:
            pace.took(shape, now - began if is_done else LONG_S, now)
            shape = None
        if is_done:
            return
    if steps is None:
        steps = make()
    is_done = False
    while not is_done:
        is_done = await view.run(some_steps, steps, take, STEPS_TOGETHER)
        view.check_age()
        if shape is not None:
            now = trio.current_time()
            pace.took(shape, now - began if is_done else LONG_S, now)
            shape = None


def some_steps(steps: Iterator[T], take: Callable[[T], bool], most: int) -> bool:
    """Up to so many steps; whether that is all."""
    for _ in range(most):
        found = next(steps, _END)
        if found is _END or (found is not None and take(found)):
            return True
    return False

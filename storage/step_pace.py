"""Which questions are short: how long those of a shape took lately, so that the next one may be answered on the loop. Pure: told durations and
times, asked one question. See stepping.py.

    shape    which paths are asked how, in what order: {"channel": "a"} by time is one, whatever the channel
    took     the newest weighs a fifth: after one of LONG_S or more the next 9 of its shape go to the thread, if they are short there; from one of 4 ms
             the next one does
"""

from __future__ import annotations

from collections.abc import Hashable

from .query.sorting import Sort
from .query.tree import And, Node, Nor, Not, Or, Test, Whole

IN_PLACE_S_MAX = 0.001  # that questions of a shape may take for the next one to be asked on the loop
LONG_S = 0.025
SHARE_OF_NEWEST = 0.2
LATELY_S = 5.0  # after so long pages may have been dropped, and it begins in the thread again
COLD_S = 1.0  # after a page had to be waited for
SHAPES_MAX = 512
VALUES_MAX = 200  # of one `$in`
NODES_MAX = 32


class StepPace:
    """How long questions took, by shape. Pure: told durations and times, asked one question. Every shape begins as if it were long."""

    def __init__(self) -> None:
        self._warm_from = 0.0
        self._known: dict[Hashable, tuple[float, float]] = {}  # shape -> (expected seconds, when it was asked last)

    def allows_in_place(self, shape: Hashable, now: float) -> bool:
        expected_s, asked_at = self._known.get(shape, (LONG_S, now))
        return now >= self._warm_from and expected_s < IN_PLACE_S_MAX and now - asked_at < LATELY_S

    def met_cold_pages(self, now: float) -> None:
        """A question in place had to wait for the device."""
        self._warm_from = now + COLD_S

    def took(self, shape: Hashable, seconds: float, now: float) -> None:
        """One took so long; none counts for more than LONG_S."""
        expected_s, _ = self._known.pop(shape, (2 * IN_PLACE_S_MAX, now))  # the latest one stands last
        expected_s += SHARE_OF_NEWEST * (min(seconds, LONG_S) - expected_s)
        self._known[shape] = expected_s, now
        if len(self._known) > SHAPES_MAX:
            del self._known[next(iter(self._known))]


def shape_of(tree: Node, *more: Hashable) -> Hashable | None:
    """What questions have in common that take about as long: paths and operators, not values. None where values decide all:
    regular expressions, expressions, very many values."""
    found: list[Hashable] = [*more]
    waiting = [tree]
    for node in waiting:
        if len(waiting) > NODES_MAX or isinstance(node, Whole):
            return None
        if isinstance(node, Test):
            if node.op == "$regex" or (node.op == "$in" and len(node.argument) > VALUES_MAX):
                return None
            found.append((node.path, node.op, len(node.argument).bit_length() if node.op == "$in" else 0))
            waiting += [node.parts] if node.parts is not None else []
        elif isinstance(node, (And, Or, Nor)):
            found.append((type(node).__name__, len(node.parts)))
            waiting += node.parts
        elif isinstance(node, Not):
            found.append("Not")
            waiting.append(node.part)
        else:
            found.append(type(node).__name__)
    return tuple(found)


def sort_shape(sort: Sort | None) -> Hashable:
    return () if sort is None else sort.fields

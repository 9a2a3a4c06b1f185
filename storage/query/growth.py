"""What expressions may make of a document: how large a value, in how many steps. Pure.

A value that stands in two places is one object here but is written, compared and sorted twice: 40 stages {x: ["$x", "$x"]} make 2^40 values of one. So
a value is measured, as it would be written, wherever it can have grown much: after stages that name fields many times between them, in $let,
and in loops. Loops count their steps, for nobody else can stop them.

Costs: 0.1 µs a value measured; nothing for stages that name few fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import BadQuery

VALUE_BYTES_MAX = 64 * 2**20  # twice over what can be stored, and more
VALUE_BYTES = 16  # what a value weighs at least: so that measuring ends after four million
GROWTH_MAX = 32  # times, unmeasured
STEPS_MAX = 4_000_000  # of all loops over one document in one stage: some seconds, beside the loop
MEASURED_BYTES = 128  # of a value, whose measuring takes as long as a turn
STEP_VALUES = 8  # of an expression that weigh as much as a turn of a loop
UPDATE_STEPS_MAX = 100_000  # the same in an update, which holds the loop meanwhile
_TOO_LARGE = 10334
_TOO_LONG = 146


def measured(value: Any) -> int:
    """Bytes that it takes written out, about. Raises BadQuery when those are more than VALUE_BYTES_MAX."""
    left = VALUE_BYTES_MAX - VALUE_BYTES
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        kind = type(inner)
        if kind is dict:
            left -= VALUE_BYTES * len(inner)
            if left >= 0:
                waiting += inner.values()
        elif kind is list:
            left -= VALUE_BYTES * len(inner)
            if left >= 0:
                waiting += inner
        elif kind is str or kind is bytes:
            left -= len(inner)
        if left < 0:
            raise BadQuery(
                f"an expression would make a value of more than {VALUE_BYTES_MAX} bytes; take fewer fields, or make it in the application",
                code=_TOO_LARGE,
            )
    return VALUE_BYTES_MAX - left


def references(spec: Any) -> int:
    """How many times an expression, or a stage, names a field or a variable."""
    return _counts(spec)[0]


def _counts(spec: Any) -> tuple[int, int]:
    """(fields and variables named, values in all)."""
    named = 0
    waiting = [spec]
    for value in waiting:
        if isinstance(value, str):
            named += value.startswith("$")
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    return named, len(waiting)


class Growth:
    """By how much the stages of a pipeline can have made a document larger since it was measured."""

    __slots__ = ("_factor",)

    def __init__(self) -> None:
        self._factor = 1

    def needs_measuring(self, spec: Any) -> bool:
        """Whether a document must be measured after a stage."""
        self._factor *= max(1, references(spec))
        if self._factor <= GROWTH_MAX:
            return False
        self._factor = 1
        return True


class Growing:
    """One value that grows step by step; each step names it so many times. Measured only when it can have become too large."""

    __slots__ = ("_bits", "_left")

    def __init__(self, names: int) -> None:
        self._bits = math.log2(max(1, names))  # by which a step can grow it
        self._left = 1

    def step(self, value: Any) -> None:
        """Raises BadQuery."""
        if not self._bits:
            return
        self._left -= 1
        if not self._left:
            room = GROWTH_MAX * VALUE_BYTES_MAX // measured(value)
            self._left = max(1, int(math.log2(room) / self._bits))


class Steps:
    """The steps of all loops of one query, counted for each document."""

    __slots__ = ("_left", "_most", "_root")

    def __init__(self, most: int = STEPS_MAX) -> None:
        self._most = self._left = most
        self._root: dict | None = None

    def loop(self, body: Any) -> tuple[Callable[[dict, int], None], int]:
        """(take(root, turns) for a loop with that body, references in it)."""
        named, values = _counts(body)
        weight = 1 + values // STEP_VALUES
        return lambda root, turns: self.take(root, turns * weight), named

    def take(self, root: dict, count: int) -> None:
        """root: the document. Raises BadQuery."""
        if root is not self._root:
            self._root, self._left = root, self._most
        self._left -= count
        if self._left < 0:
            raise BadQuery(
                f"loops ($map, $filter, $reduce) would take more than {self._most} steps over one document; narrow the arrays first, "
                "or $unwind them",
                code=_TOO_LONG,
            )

"""Expressions that fold values of one document: $sum $avg $min $max $stdDevPop $stdDevSamp. Pure; the folds are accumulators.py's.

One operand that is an array is folded over its elements; several operands are folded over their own values, arrays among them whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from .accumulators import Accumulator, Deviation, Extreme, Sum
from .expression_operands import Make, positional


def _folded(begin: Callable[[], Accumulator]) -> Make:
    def fold(*values: Any) -> Any:
        parts = values[0] if len(values) == 1 and type(values[0]) is list else values
        total = begin()
        for part in parts:
            total.add(part)
        return total.value()

    return positional(fold, 0)


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$sum": _folded(Sum),
        "$avg": _folded(lambda: Sum(is_mean=True)),
        "$min": _folded(lambda: Extreme(is_largest=False)),
        "$max": _folded(lambda: Extreme(is_largest=True)),
        "$stdDevPop": _folded(lambda: Deviation(is_sample=False)),
        "$stdDevSamp": _folded(lambda: Deviation(is_sample=True)),
    }
)

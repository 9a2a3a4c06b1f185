"""Arithmetic of expressions over the three kinds of numbers, with MongoDB's rules for the kind of the result. Pure.

    int with int          int, or a double where 64 bits do not hold it
    double with either    double
    Decimal128 with any   Decimal128 (34 digits)

Updates refuse integers that leave 64 bits (arithmetic.py); expressions go on with a double.

Totals are exact: the integers among them are summed as integers, doubles with a compensating second double, so that the order of the
documents hardly shows in a sum.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from typing import Any

from bson import Decimal128
from bson.decimal128 import create_decimal128_context

from ..values.decimals import to_decimal
from ..values.extensions import INT64_MAX, INT64_MIN
from .arithmetic import as_decimal

DECIMAL: Context = create_decimal128_context()
DECIMAL.traps = dict.fromkeys(DECIMAL.traps, False)


def fitted(value: int) -> int | float:
    """An integer result: an int where 64 bits hold it, else a double."""
    if INT64_MIN <= value <= INT64_MAX:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def stored(value: Decimal) -> Decimal128:
    """An exact result as Decimal128, rounded to its 34 digits."""
    return Decimal128(DECIMAL.plus(value))


def as_float(value: float | Decimal128) -> float:
    """A number as a double; beyond its range infinite."""
    if type(value) is Decimal128:
        value = to_decimal(value.bid)
        if value.is_nan():
            return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def add(left: Any, right: Any) -> Any:
    kinds = (type(left), type(right))
    if Decimal128 in kinds:
        return stored(DECIMAL.add(as_decimal(left), as_decimal(right)))
    found = left + right
    return fitted(found) if type(found) is int else found


def subtract(left: Any, right: Any) -> Any:
    kinds = (type(left), type(right))
    if Decimal128 in kinds:
        return stored(DECIMAL.subtract(as_decimal(left), as_decimal(right)))
    found = left - right
    return fitted(found) if type(found) is int else found


def multiply(left: Any, right: Any) -> Any:
    kinds = (type(left), type(right))
    if Decimal128 in kinds:
        return stored(DECIMAL.multiply(as_decimal(left), as_decimal(right)))
    found = left * right
    return fitted(found) if type(found) is int else found


class Total:
    """A running sum. Invariant: integers + high + low (+ decimals) is the sum so far, nothing lost but doubles' last bits."""

    __slots__ = ("decimals", "has_doubles", "high", "integers", "low", "special")

    def __init__(self) -> None:
        self.integers = 0
        self.has_doubles = False
        self.high = 0.0
        self.low = 0.0
        self.special = 0.0  # of infinities and NaN, which the two doubles could not carry
        self.decimals: Decimal | None = None

    def add(self, value: Any) -> None:
        """value: an int, a double or a Decimal128."""
        kind = type(value)
        if kind is int:
            self.integers += value
        elif kind is float:
            self.has_doubles = True
            if not math.isfinite(value):
                self.special += value
                return
            total = self.high + value
            if not math.isfinite(total):
                self.special += total
                return
            shift = total - self.high
            self.low += (self.high - (total - shift)) + (value - shift)
            self.high = total
        else:
            found = to_decimal(value.bid)
            self.decimals = found if self.decimals is None else DECIMAL.add(self.decimals, found)

    def value(self) -> Any:
        """The sum, of the widest kind that was added; 0 when nothing was."""
        if self.decimals is not None:
            return stored(self._as_decimal())
        if self.has_doubles:
            return self._as_double()
        return fitted(self.integers)

    def mean(self, count: int) -> Any:
        """The sum by count: a double, or a Decimal128 when one was added."""
        if self.decimals is not None:
            return stored(DECIMAL.divide(self._as_decimal(), Decimal(count)))
        if not self.has_doubles:
            return self.integers / count
        return self._as_double() / count

    def _as_double(self) -> float:
        if self.special:  # NaN counts as true here
            return self.special
        rest = self.integers
        try:
            whole = float(rest)
            return math.fsum((self.high, self.low, whole, float(rest - int(whole))))
        except OverflowError:
            return math.inf if rest + self.high > 0 else -math.inf

    def _as_decimal(self) -> Decimal:
        assert self.decimals is not None
        found = DECIMAL.add(self.decimals, Decimal(self.integers))
        if self.has_doubles:
            double = self.special or self.high
            found = DECIMAL.add(found, DECIMAL.add(Decimal(double), Decimal(0.0 if self.special else self.low)))
        return found

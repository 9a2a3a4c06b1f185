"""Arithmetic on the number types: int with int stays int64, a double makes a double, a Decimal128 makes a Decimal128. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, Overflow, Underflow
from fractions import Fraction

from bson import Decimal128

from .values import INT64

DECIMAL128 = Context(prec=34, Emin=-6143, Emax=6144, clamp=1, traps=[])
FIFTEEN_DIGITS = Context(prec=15, traps=[Overflow, Underflow])

Number = int | float | Decimal128


def as_decimal(number: Number) -> Decimal:
    """A double becomes the decimal of its 15 leading digits, zeros kept."""
    if isinstance(number, Decimal128):
        return number.to_decimal()
    if isinstance(number, float):
        if not math.isfinite(number) or number == 0:
            return Decimal(str(number)) if number else Decimal(0).copy_sign(Decimal(number))
        rounded = FIFTEEN_DIGITS.create_decimal(number)
        return DECIMAL128.quantize(rounded, Decimal((0, (1,), rounded.adjusted() - 14)))
    return Decimal(number)


def added(a: Number, b: Number) -> Number:
    return combined(a, b, lambda x, y: x + y, DECIMAL128.add)


def multiplied(a: Number, b: Number) -> Number:
    return combined(a, b, lambda x, y: x * y, DECIMAL128.multiply)


def combined(a: Number, b: Number, plain: Callable, decimal: Callable) -> Number:
    """An int result may be outside int64: the caller says what that means."""
    if isinstance(a, Decimal128) or isinstance(b, Decimal128):
        return Decimal128(decimal(as_decimal(a), as_decimal(b)))
    if isinstance(a, float) or isinstance(b, float):
        return plain(float(a), float(b))
    return plain(a, b)


def total(numbers: list[Number]) -> Number:
    """A sum: exact until the end; ints beyond int64 become a double."""
    if any(isinstance(number, Decimal128) for number in numbers):
        found: Number = Decimal128("0")
        for number in numbers:
            found = added(found, number)
        return found
    if all(isinstance(number, int) for number in numbers):
        whole = sum(numbers)
        return whole if whole in INT64 else float(whole)
    return sum_of_doubles(numbers)


def sum_of_doubles(numbers: list[int | float]) -> float:
    if not all(math.isfinite(number) for number in numbers):
        return sum(float(number) for number in numbers)
    return float(sum(map(Fraction, numbers)))


def average(numbers: list[Number]) -> float | Decimal128 | None:
    if not numbers:
        return None
    if any(isinstance(number, Decimal128) for number in numbers):
        return Decimal128(DECIMAL128.divide(total(numbers).to_decimal(), Decimal(len(numbers))))
    return sum_of_doubles(numbers) / len(numbers)

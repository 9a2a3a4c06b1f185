"""Arithmetic on document numbers: which type a sum or product has, and when it is refused. Pure; knows no document.

    int  (+ or *) int           int; outside 64 bits it is refused (OverflowError), never rounded
    double with int or double   double; too large gives infinity
    Decimal128 with any         Decimal128: 34 digits, half to even; a double is taken with 15 significant digits, as MongoDB does
"""

from __future__ import annotations

import decimal
from typing import Any

from bson import Decimal128

from ..values.decimals import to_decimal
from ..values.extensions import INT64_MAX, INT64_MIN

_DOUBLE_DIGITS = 15
_DECIMAL128 = decimal.Context(prec=34, rounding=decimal.ROUND_HALF_EVEN, Emin=-6143, Emax=6144, clamp=1, traps=[])
_DOUBLE = decimal.Context(prec=_DOUBLE_DIGITS, rounding=decimal.ROUND_HALF_EVEN, traps=[])


def is_number(value: Any) -> bool:
    """Whether a decoded value is an int, double or Decimal128; a bool is none."""
    return type(value) is int or type(value) is float or type(value) is Decimal128


def whole_number(value: Any) -> int | None:
    """The integer that a number of any type is exactly, or None; None also for what does not fit 64 bits."""
    if type(value) is Decimal128:
        exact = to_decimal(value.bid)
        # The exponent first: 1E+6000 would become an integer of 6,000 digits.
        if not exact.is_finite() or exact.adjusted() > 19 or exact != exact.to_integral_value():
            return None
        value = int(exact)
    elif type(value) is float:
        if not value.is_integer():
            return None
        value = int(value)
    if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
        return None
    return value


def add(left: Any, right: Any) -> int | float | Decimal128:
    """left + right for two numbers. Raises OverflowError."""
    if type(left) is Decimal128 or type(right) is Decimal128:
        return Decimal128(_DECIMAL128.add(as_decimal(left), as_decimal(right)))
    return _within_64_bits(left + right)


def multiply(left: Any, right: Any) -> int | float | Decimal128:
    """left * right for two numbers. Raises OverflowError."""
    if type(left) is Decimal128 or type(right) is Decimal128:
        return Decimal128(_DECIMAL128.multiply(as_decimal(left), as_decimal(right)))
    return _within_64_bits(left * right)


def zero_like(number: Any) -> int | float | Decimal128:
    """Zero in the type of a number."""
    if type(number) is Decimal128:
        return Decimal128("0")
    return 0.0 if type(number) is float else 0


def as_decimal(number: Any) -> decimal.Decimal:
    """A number of any type as Decimal128 arithmetic takes it."""
    if type(number) is Decimal128:
        return to_decimal(number.bid)
    if type(number) is int:
        return decimal.Decimal(number)
    found = _DOUBLE.create_decimal(number)
    if not found.is_finite() or not found:
        return found
    last_digit = decimal.Decimal((0, (1,), found.adjusted() - _DOUBLE_DIGITS + 1))
    return found.quantize(last_digit, context=_DOUBLE)


def _within_64_bits(number: int | float) -> int | float:
    if type(number) is int and not INT64_MIN <= number <= INT64_MAX:
        raise OverflowError
    return number

"""Expressions of arithmetic: $add to $log10. Pure; the kinds of results are numbers.py's.

Null or missing operands give null. $add and $subtract also move dates by milliseconds; two dates subtract to milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import Any

from bson import Decimal128

from ..errors import BadQuery
from ..values.extensions import INT64_MAX, INT64_MIN, milliseconds, moment
from . import numbers
from .arithmetic import as_decimal, is_number, whole_number
from .expression_operands import Make, exactly, is_date, null_if_nullish, positional
from .numbers import DECIMAL, as_float, fitted, stored
from .type_names import type_name

PLACES_MIN, PLACES_MAX = -20, 100


def _add(*values: Any) -> Any:
    total = numbers.Total()
    date = None
    for value in values:
        if value is None or not (is_number(value) or is_date(value)):
            if value is None or type_name(value) == "missing":
                return None
            raise BadQuery(f"$add takes numbers and one date, not {type_name(value)}", code=14)
        if is_date(value):
            if date is not None:
                raise BadQuery("$add takes one date at most: subtract dates with $subtract", code=16612)
            date = value
        else:
            total.add(value)
    return total.value() if date is None else _moved(date, total.value())


def _moved(date: Any, by: Any) -> Any:
    """A date and so many milliseconds, rounded to the nearest."""
    if type(by) is float and not math.isfinite(by):
        raise BadQuery("a date cannot be moved by an infinite number of milliseconds", code=2)
    shift = by if type(by) is int else int(as_decimal(by).to_integral_value(ROUND_HALF_EVEN))
    ms = milliseconds(date) + shift
    if not INT64_MIN <= ms <= INT64_MAX:
        raise BadQuery("date arithmetic leaves the range of dates (64 bits of milliseconds)", code=15)
    return moment(ms)


def _subtract(left: Any, right: Any) -> Any:
    if is_number(left) and is_number(right):
        return numbers.subtract(left, right)
    if is_date(left) and is_date(right):
        return milliseconds(left) - milliseconds(right)
    if is_date(left) and is_number(right):
        return _moved(left, numbers.subtract(0, right))
    raise BadQuery(f"$subtract cannot take {type_name(right)} from {type_name(left)}", code=14)


def _multiply(*values: Any) -> Any:
    product: Any = 1
    for value in values:
        if value is None or type_name(value) == "missing":
            return None
        if not is_number(value):
            raise BadQuery(f"$multiply takes numbers, not {type_name(value)}", code=14)
        product = numbers.multiply(product, value)
    return product


def _divide(left: Any, right: Any) -> Any:
    if not (is_number(left) and is_number(right)):
        raise BadQuery(f"$divide takes numbers, not {type_name(left)} and {type_name(right)}", code=14)
    if as_float(right) == 0 and as_decimal(right) == 0:
        raise BadQuery("$divide: the divisor is zero", code=2)
    if Decimal128 in (type(left), type(right)):
        return stored(DECIMAL.divide(as_decimal(left), as_decimal(right)))
    return float(left) / float(right)


def _mod(left: Any, right: Any) -> Any:
    if not (is_number(left) and is_number(right)):
        raise BadQuery(f"$mod takes numbers, not {type_name(left)} and {type_name(right)}", code=16611)
    if Decimal128 in (type(left), type(right)):
        if as_decimal(right) == 0:
            raise BadQuery("$mod: the divisor is zero", code=16610)
        return stored(_remainder(as_decimal(left), as_decimal(right)))
    if right == 0:
        raise BadQuery("$mod: the divisor is zero", code=16610)
    if type(left) is int and type(right) is int:
        return int(math.copysign(1, left)) * (abs(left) % abs(right))
    if math.isinf(left):
        return math.nan
    return math.fmod(left, right)


def _remainder(left: Decimal, right: Decimal) -> Decimal:
    """With the dividend's sign; of quotients beyond 34 digits too, which the context alone would refuse."""
    found = DECIMAL.remainder(left, right)
    if found.is_nan() and left.is_finite() and right.is_finite():
        wide = DECIMAL.copy()
        wide.prec = 7000
        return wide.remainder(left, right)
    return found


def _absolute(value: Any) -> Any:
    if type(value) is Decimal128:
        return stored(abs(as_decimal(value)))
    if value == INT64_MIN and type(value) is int:
        raise BadQuery("$abs: the smallest 64-bit integer has no positive twin", code=28680)
    return abs(value)


def _to_whole(rounding: str, of_double: Callable[[float], int]) -> Callable[[Any], Any]:
    def apply(value: Any) -> Any:
        if type(value) is int:
            return value
        if type(value) is Decimal128:
            return stored(as_decimal(value).to_integral_value(rounding))
        return math.copysign(float(of_double(value)), value) if math.isfinite(value) else value

    return apply


def _rounding(name: str, rounding: str) -> Make:
    def apply(value: Any, places: Any = 0) -> Any:
        if value is None or places is None or "missing" in (type_name(value), type_name(places)):
            return None
        if not is_number(value):
            raise BadQuery(f"{name} takes a number, not {type_name(value)}", code=51081)
        count = whole_number(places) if is_number(places) else None
        if count is None:
            raise BadQuery(f"{name}: the place must be a whole number", code=51082)
        if not PLACES_MIN <= count <= PLACES_MAX:
            raise BadQuery(f"{name}: the place must be from {PLACES_MIN} to {PLACES_MAX}, not {count}", code=51083)
        if type(value) is int:
            return value if count >= 0 else _fitting(name, int(_quantized(Decimal(value), count, rounding)))
        if type(value) is Decimal128:
            found = as_decimal(value)
            return stored(_quantized(found, count, rounding)) if found.is_finite() else value
        return float(_quantized(Decimal(value), count, rounding)) if math.isfinite(value) else value

    return positional(apply, 1, 2)


def _quantized(value: Decimal, places: int, rounding: str) -> Decimal:
    """Rounded at the place; what has no digits beyond it stays as it is."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent >= -places:
        return value
    wide = DECIMAL.copy()
    wide.prec = 1200  # a double has up to 1,074 digits after its point
    return value.quantize(Decimal(1).scaleb(-places), rounding=rounding, context=wide)


def _fitting(name: str, value: int) -> int:
    if not INT64_MIN <= value <= INT64_MAX:
        raise BadQuery(f"{name}: the result {value} does not fit 64 bits", code=51080)
    return value


def _power(base: Any, exponent: Any) -> Any:
    if not is_number(base):
        raise BadQuery(f"$pow: the base must be a number, not {type_name(base)}", code=28762)
    if not is_number(exponent):
        raise BadQuery(f"$pow: the exponent must be a number, not {type_name(exponent)}", code=28763)
    if as_float(base) == 0 and as_float(exponent) < 0:
        raise BadQuery("$pow: zero cannot be raised to a negative exponent", code=28764)
    if Decimal128 in (type(base), type(exponent)):
        return stored(DECIMAL.power(as_decimal(base), as_decimal(exponent)))
    if type(base) is int and type(exponent) is int and (abs(base) <= 1 or 0 <= exponent <= 63):
        return fitted(_small_power(base, exponent))
    return _double_power(float(base), float(exponent))


def _small_power(base: int, exponent: int) -> int:
    if base in (0, 1):
        return base if exponent else 1
    if base == -1:
        return -1 if exponent % 2 else 1
    return base**exponent


def _double_power(base: float, exponent: float) -> float:
    try:
        found = math.pow(base, exponent)
    except OverflowError:
        return -math.inf if base < 0 and exponent % 2 == 1 else math.inf
    except ValueError:  # a negative base and a broken exponent
        return math.nan
    return found


def _of_number(name: str, function: Callable[[Any], Any]) -> Make:
    def apply(value: Any) -> Any:
        if not is_number(value):
            raise BadQuery(f"{name} takes a number, not {type_name(value)}", code=28765)
        return function(value)

    return exactly(1, null_if_nullish(apply))


def _exp(value: Any) -> Any:
    if type(value) is Decimal128:
        return stored(DECIMAL.exp(as_decimal(value)))
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _square_root(value: Any) -> Any:
    if as_float(value) < 0:
        raise BadQuery("$sqrt takes a number that is not negative", code=28714)
    return stored(DECIMAL.sqrt(as_decimal(value))) if type(value) is Decimal128 else math.sqrt(value)


def _natural_logarithm(value: Any) -> Any:
    _check_positive("$ln", value, 28766)
    return stored(DECIMAL.ln(as_decimal(value))) if type(value) is Decimal128 else math.log(value)


def _decimal_logarithm(value: Any) -> Any:
    _check_positive("$log10", value, 28761)
    return stored(DECIMAL.log10(as_decimal(value))) if type(value) is Decimal128 else math.log10(value)


def _check_positive(name: str, value: Any, code: int) -> None:
    if as_float(value) < 0 or as_decimal(value) == 0:
        raise BadQuery(f"{name} takes a positive number", code=code)


def _logarithm(value: Any, base: Any) -> Any:
    if not is_number(value):
        raise BadQuery(f"$log takes numbers, not {type_name(value)}", code=28756)
    if not is_number(base):
        raise BadQuery(f"$log: the base must be a number, not {type_name(base)}", code=28757)
    _check_positive("$log", value, 28758)
    if not (as_float(base) > 0 and as_float(base) != 1):
        raise BadQuery("$log: the base must be positive and not 1", code=28759)
    if Decimal128 in (type(value), type(base)):
        return stored(DECIMAL.divide(DECIMAL.ln(as_decimal(value)), DECIMAL.ln(as_decimal(base))))
    return math.log(value) / math.log(base)


def _trigonometric(name: str, function: Callable[[float], float]) -> Make:
    def apply(value: Any) -> float:
        if type(value) is Decimal128:
            raise BadQuery(f"{name} of a Decimal128 is not there: convert it with $toDouble", code=2)
        try:
            return function(as_float(value))
        except ValueError:
            if math.isnan(as_float(value)):
                return math.nan
            raise BadQuery(f"{name} is not defined for {value}", code=50989) from None
        except OverflowError:
            return math.copysign(math.inf, as_float(value))

    return _of_number(name, apply)


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$add": positional(_add, 0),
        "$subtract": exactly(2, null_if_nullish(_subtract)),
        "$multiply": positional(_multiply, 0),
        "$divide": exactly(2, null_if_nullish(_divide)),
        "$mod": exactly(2, null_if_nullish(_mod)),
        "$abs": _of_number("$abs", _absolute),
        "$ceil": _of_number("$ceil", _to_whole(ROUND_CEILING, math.ceil)),
        "$floor": _of_number("$floor", _to_whole(ROUND_FLOOR, math.floor)),
        "$round": _rounding("$round", ROUND_HALF_EVEN),
        "$trunc": _rounding("$trunc", ROUND_DOWN),
        "$pow": exactly(2, null_if_nullish(_power)),
        "$sqrt": _of_number("$sqrt", _square_root),
        "$exp": _of_number("$exp", _exp),
        "$ln": _of_number("$ln", _natural_logarithm),
        "$log10": _of_number("$log10", _decimal_logarithm),
        "$log": exactly(2, null_if_nullish(_logarithm)),
        "$sin": _trigonometric("$sin", math.sin),
        "$cos": _trigonometric("$cos", math.cos),
        "$tan": _trigonometric("$tan", math.tan),
        "$asin": _trigonometric("$asin", math.asin),
        "$acos": _trigonometric("$acos", math.acos),
        "$atan": _trigonometric("$atan", math.atan),
        "$sinh": _trigonometric("$sinh", math.sinh),
        "$cosh": _trigonometric("$cosh", math.cosh),
        "$tanh": _trigonometric("$tanh", math.tanh),
        "$degreesToRadians": _trigonometric("$degreesToRadians", math.radians),
        "$radiansToDegrees": _trigonometric("$radiansToDegrees", math.degrees),
    }
)

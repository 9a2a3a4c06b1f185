"""What one value must be to pass a condition: an operator and its checked argument to a test. Pure.

`make_test(node)` gives, for a Test of "tree", the test of a single value, MISSING included. It knows nothing of paths:
which values are shown to it is "paths" business. Arguments were checked where the filter was read ("conditions").

Rules kept from MongoDB: numbers compare by value across types; ranges only see values of the argument's own type, but
`$gt: MinKey` and `$lt: MaxKey` see all; null also means missing; maps are equal with equal key order; NaN equals NaN
and is in no range.

Costs: `$in` is one look-up in a set, however many values it has; the others are one comparison.
"""

from __future__ import annotations

import operator
import re
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bson import Decimal128, MaxKey, MinKey, Regex

from ..errors import BadDocument, BadQuery
from ..values.decimals import to_decimal
from ..values.extensions import regex_parts
from ..values.order import NAN_KEY, NULL_KEY, RANK_MAX_KEY, RANK_MIN_KEY, sort_key
from .paths import MISSING, Test
from .regex import Matcher
from .type_names import NAMES, type_name

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
_NUMBERS = frozenset((int, float))


def key_of(argument: Any) -> tuple[Any, ...]:
    """The sort key of a filter's value. Raises BadQuery for what is no document value."""
    try:
        return sort_key(argument)
    except BadDocument as cause:
        raise BadQuery(cause.message) from None
    except RecursionError:
        raise BadQuery("a value of the filter nests deeper than 100") from None


def equals(argument: Any) -> Test:
    kind = type(argument)
    if kind is str:
        return lambda value: type(value) is str and value == argument
    if argument is None:
        return lambda value: value is None or value is MISSING
    key = key_of(argument)
    if key == NAN_KEY or kind not in _NUMBERS:
        return lambda value: value is not MISSING and sort_key(value) == key

    def matches(value: Any) -> bool:
        kind = type(value)
        if kind is int or kind is float:
            return value == argument
        return kind is Decimal128 and sort_key(value) == key

    return matches


def one_of(choices: tuple[Any, ...]) -> Test:
    plain = frozenset([choice for choice in choices if type(choice) is str or type(choice) is int])  # equal to values that are equal
    rest = [choice for choice in choices if type(choice) is not str and type(choice) is not int]
    wants_null = any(choice is None for choice in rest)
    others = frozenset(map(key_of, rest))
    others_and_numbers: frozenset[Any] | None = None  # made when a value is asked about that is neither text nor a usual number

    def matches(value: Any) -> bool:
        nonlocal others_and_numbers
        kind = type(value)
        if kind is str:
            return value in plain
        if value is MISSING:
            return wants_null
        if kind is int or kind is float:
            return value in plain or (bool(others) and sort_key(value) in others)
        if others_and_numbers is None:
            others_and_numbers = others | {sort_key(choice) for choice in plain if type(choice) is int}
        return sort_key(value) in others_and_numbers

    return matches


def _greater(argument: Any) -> Test:
    return _range(argument, operator.gt, equal_counts=False)


def _greater_or_equal(argument: Any) -> Test:
    return _range(argument, operator.ge, equal_counts=True)


def _less(argument: Any) -> Test:
    return _range(argument, operator.lt, equal_counts=False)


def _less_or_equal(argument: Any) -> Test:
    return _range(argument, operator.le, equal_counts=True)


def _range(argument: Any, holds: Callable[[Any, Any], bool], *, equal_counts: bool) -> Test:
    """Type bracketing: only values of the argument's rank, except against MinKey and MaxKey, which bound everything."""
    if isinstance(argument, (MinKey, MaxKey)):
        bound = (RANK_MIN_KEY if isinstance(argument, MinKey) else RANK_MAX_KEY,)
        return lambda value: holds(NULL_KEY if value is MISSING else sort_key(value), bound)
    key = key_of(argument)
    if key in (NAN_KEY, NULL_KEY):
        return equals(argument) if equal_counts else _never
    rank = key[0]
    is_number = type(argument) in _NUMBERS
    is_text = type(argument) is str

    def matches(value: Any) -> bool:
        kind = type(value)
        if kind is str:
            return is_text and holds(value, argument)
        if is_number and (kind is int or kind is float):
            return holds(value, argument)
        if value is MISSING:
            return False
        found = sort_key(value)
        return found[0] == rank and found != NAN_KEY and holds(found, key)

    return matches


def _never(value: Any) -> bool:
    return False


def _exists(argument: Any) -> Test:
    return lambda value: value is not MISSING


def _of_type(names: frozenset[str]) -> Test:
    if not names & {"int", "long"}:
        kinds = frozenset(kind for kind, name in NAMES.items() if name in names)
        return lambda value: type(value) in kinds
    return lambda value: type_name(value) in names


def _regex(matcher: Matcher) -> Test:
    """Text in which the pattern is found, and the stored regular expression that is this very one."""
    search = matcher.search
    parts = (matcher.pattern, matcher.options)

    def matches(value: Any) -> bool:
        if type(value) is str:
            return search(value)
        return isinstance(value, (Regex, re.Pattern)) and regex_parts(value) == parts

    return matches


def integral(value: Any, *, truncate: bool) -> int | None:
    """A number as an int64; None for what is no number, not finite, too large, or (unless truncate) no whole number."""
    kind = type(value)
    if kind is int:
        return value if INT64_MIN <= value <= INT64_MAX else None
    if kind is Decimal128:
        value = to_decimal(value.bid)
        if not value.is_finite() or value.adjusted() > 19:
            return None
    elif kind is not float or value != value or value in (float("inf"), float("-inf")):
        return None
    whole = int(value)
    if (not truncate and whole != value) or not INT64_MIN <= whole <= INT64_MAX:
        return None
    return whole


def _modulo(argument: tuple[int, int]) -> Test:
    """The remainder has the sign of the dividend, as in C."""
    divisor, remainder = argument
    size = abs(divisor)

    def matches(value: Any) -> bool:
        whole = value if type(value) is int else integral(value, truncate=True)
        if whole is None:
            return False
        return (whole % size if whole >= 0 else -(-whole % size)) == remainder

    return matches


def _size(length: int) -> Test:
    return lambda value: type(value) is list and len(value) == length


def _bits_of(value: Any) -> int | None:
    """The bits of a value, position 0 the lowest: a negative number has all bits above set, bytes begin with bit 0."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "little")
    if isinstance(value, uuid.UUID):
        return int.from_bytes(value.bytes, "little")
    return integral(value, truncate=False)


def _bits(holds: Callable[[int, int], bool]) -> Callable[[int], Test]:
    def make(mask: int) -> Test:
        def matches(value: Any) -> bool:
            bits = _bits_of(value)
            return bits is not None and holds(bits, mask)

        return matches

    return make


_MAKERS: Mapping[str, Callable[[Any], Test]] = MappingProxyType(
    {
        "$eq": equals,
        "$in": one_of,
        "$gt": _greater,
        "$gte": _greater_or_equal,
        "$lt": _less,
        "$lte": _less_or_equal,
        "$exists": _exists,
        "$type": _of_type,
        "$regex": _regex,
        "$mod": _modulo,
        "$size": _size,
        "$bitsAllSet": _bits(lambda bits, mask: bits & mask == mask),
        "$bitsAllClear": _bits(lambda bits, mask: bits & mask == 0),
        "$bitsAnySet": _bits(lambda bits, mask: bits & mask != 0),
        "$bitsAnyClear": _bits(lambda bits, mask: bits & mask != mask),
    }
)


def make_test(op: str, argument: Any) -> Test:
    """The test of single values for every operator of a Test but `$elemMatch`. Raises BadQuery."""
    return _MAKERS[op](argument)

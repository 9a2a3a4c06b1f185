"""Expressions that calculate with dates: $dateAdd $dateSubtract $dateDiff $dateTrunc. Pure.

Days and longer units go by the zone's calendar (a day may have 23 hours; the 31st becomes the last of a shorter month), hours and shorter ones by
elapsed time. $dateDiff counts the boundaries that lie between two dates; $dateTrunc counts its bins from 2000-01-01 in the zone.
"""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import BadQuery
from ..values.extensions import INT64_MAX, INT64_MIN, milliseconds, moment
from .arithmetic import is_number, whole_number
from .expression_operands import Compiled, Constant, Make, Scope, is_nullish, named
from .timezones import as_date, checked, from_local, local, offset_s, zone_of
from .type_names import type_name

_ELAPSED_MS: Mapping[str, int] = MappingProxyType({"hour": 3_600_000, "minute": 60_000, "second": 1000, "millisecond": 1})
_MONTHS: Mapping[str, int] = MappingProxyType({"year": 12, "quarter": 3, "month": 1})
_DAYS: Mapping[str, int] = MappingProxyType({"week": 7, "day": 1})
_UNITS = frozenset((*_ELAPSED_MS, *_MONTHS, *_DAYS))
_WEEKDAYS: Mapping[str, int] = MappingProxyType(
    {
        name: number
        for number, full in enumerate(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"))
        for name in (full, full[:3])
    }
)
_ORIGIN = datetime.datetime(2000, 1, 1)  # a Saturday
_ALWAYS_UTC = Constant("UTC")


def _unit(value: Any, name: str, code: int) -> str:
    if type(value) is not str:
        raise BadQuery(f"{name}: unit must be text, not {type_name(value)}", code=code)
    if value not in _UNITS:
        raise BadQuery(f"{name}: there is no unit {value[:20]!r}; there are {', '.join(sorted(_UNITS))}", code=9)
    return value


def _weekday(value: Any, name: str) -> int:
    if type(value) is not str:
        raise BadQuery(f"{name}: startOfWeek must be text, not {type_name(value)}", code=5439015)
    found = _WEEKDAYS.get(value.lower())
    if found is None:
        raise BadQuery(f"{name}: startOfWeek must be a day's English name, not {value[:20]!r}", code=9)
    return found


def _moving(sign: int) -> Make:
    def make(name: str, argument: Any, scope: Scope) -> Compiled:
        parts = named(
            name,
            argument,
            scope,
            required=("startDate", "unit", "amount"),
            optional=("timezone",),
            code=5166400,
            unknown_code=5166401,
            missing_code=5166402,
        )
        start, unit, amount = parts["startDate"], parts["unit"], parts["amount"]
        timezone = parts.get("timezone", _ALWAYS_UTC)

        def evaluate(root: dict, variables: dict) -> Any:
            date, what, count = start(root, variables), unit(root, variables), amount(root, variables)
            zone = zone_of(timezone(root, variables), name)
            if is_nullish(date) or is_nullish(what) or is_nullish(count) or zone is None:
                return None
            kind = _unit(what, name, 5166404)
            found = as_date(date, name, 5166403)
            number = whole_number(count) if is_number(count) else None
            if number is None:
                raise BadQuery(f"{name}: amount must be a whole number, not {type_name(count)}", code=5166405)
            return moved(found, kind, sign * number, zone, name)

        return evaluate

    return make


def moved(date: datetime.datetime, unit: str, count: int, zone: datetime.tzinfo, name: str) -> datetime.datetime:
    """The date so many units later."""
    if unit in _ELAPSED_MS:
        ms = milliseconds(date) + count * _ELAPSED_MS[unit]
        if not INT64_MIN <= ms <= INT64_MAX:
            raise _out_of_range(name)
        return checked(moment(ms), name)
    reading = local(date, zone, name)
    try:
        if unit in _DAYS:
            reading += datetime.timedelta(days=count * _DAYS[unit])
        else:
            reading = _months_later(reading, count * _MONTHS[unit])
    except (OverflowError, ValueError):
        raise _out_of_range(name) from None
    return from_local(reading, zone, name)


def _out_of_range(name: str) -> BadQuery:
    return BadQuery(f"{name}: the result is outside the years 1 to 9999", code=5166406)


def _months_later(reading: datetime.datetime, count: int) -> datetime.datetime:
    year, month = divmod(reading.year * 12 + reading.month - 1 + count, 12)
    day = min(reading.day, calendar.monthrange(year, month + 1)[1])
    return reading.replace(year=year, month=month + 1, day=day)


def _difference(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = named(
        name,
        argument,
        scope,
        required=("startDate", "endDate", "unit"),
        optional=("timezone", "startOfWeek"),
        code=5166301,
        unknown_code=5166302,
        missing_code=5166303,
    )
    start, end, unit = parts["startDate"], parts["endDate"], parts["unit"]
    timezone, first_day = parts.get("timezone", _ALWAYS_UTC), parts.get("startOfWeek", Constant("sunday"))

    def evaluate(root: dict, variables: dict) -> Any:
        one, other, what = start(root, variables), end(root, variables), unit(root, variables)
        zone, weekday = zone_of(timezone(root, variables), name), first_day(root, variables)
        if is_nullish(one) or is_nullish(other) or is_nullish(what) or zone is None:
            return None
        kind = _unit(what, name, 5166306)
        if kind == "week" and is_nullish(weekday):
            return None
        day = _weekday(weekday, name) if kind == "week" else 0
        dates = as_date(one, name, 5166307), as_date(other, name, 5166307)
        before, after = (_ordinal(date, kind, zone, day, name) for date in dates)
        return after - before

    return evaluate


def _ordinal(date: datetime.datetime, unit: str, zone: datetime.tzinfo, first_day: int, name: str) -> int:
    """The number of the unit in which the date lies, counted from some fixed one."""
    if unit in _ELAPSED_MS:
        size = _ELAPSED_MS[unit]
        return (milliseconds(date) + offset_s(date, zone, name) * 1000 % 3_600_000) // size
    reading = local(date, zone, name)
    if unit == "day":
        return reading.toordinal()
    if unit == "week":
        return (reading.toordinal() - 1 - first_day) // 7  # day 1 of the year 1 was a Monday
    return (reading.year * 12 + reading.month - 1) // _MONTHS[unit]


def _truncation(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = named(
        name,
        argument,
        scope,
        required=("date", "unit"),
        optional=("binSize", "timezone", "startOfWeek"),
        code=5439007,
        unknown_code=5439008,
        missing_code=5439009,
    )
    date, unit = parts["date"], parts["unit"]
    size, first_day = parts.get("binSize", Constant(1)), parts.get("startOfWeek", Constant("sunday"))
    timezone = parts.get("timezone", _ALWAYS_UTC)

    def evaluate(root: dict, variables: dict) -> Any:
        value, what, bin_size = date(root, variables), unit(root, variables), size(root, variables)
        zone, weekday = zone_of(timezone(root, variables), name), first_day(root, variables)
        if is_nullish(value) or is_nullish(what) or is_nullish(bin_size) or zone is None:
            return None
        kind = _unit(what, name, 5439013)
        if kind == "week" and is_nullish(weekday):
            return None
        found = as_date(value, name, 5439012)
        number = whole_number(bin_size) if is_number(bin_size) else None
        if number is None or not -(2**63) <= number < 2**63:
            raise BadQuery(f"$dateTrunc: binSize must be a whole number, not {type_name(bin_size)}", code=5439017)
        if number <= 0:
            raise BadQuery(f"$dateTrunc: binSize must be positive, not {number}", code=5439018)
        return truncated(found, kind, number, zone, _weekday(weekday, name) if kind == "week" else 0)

    return evaluate


def truncated(date: datetime.datetime, unit: str, size: int, zone: datetime.tzinfo, first_day: int) -> datetime.datetime:
    """The beginning of the bin of so many units in which the date lies."""
    name = "$dateTrunc"
    try:
        if unit in _ELAPSED_MS:
            origin = milliseconds(from_local(_ORIGIN, zone, name))
            width = size * _ELAPSED_MS[unit]
            return checked(moment(origin + (milliseconds(date) - origin) // width * width), name)
        reading = local(date, zone, name)
        if unit in _DAYS:
            origin_day = _ORIGIN.toordinal()
            if unit == "week":
                origin_day += (first_day - _ORIGIN.weekday()) % 7
            width = size * _DAYS[unit]
            day = origin_day + (reading.toordinal() - origin_day) // width * width
            begin = datetime.datetime.fromordinal(day)
        else:
            width = size * _MONTHS[unit]
            origin_month = _ORIGIN.year * 12
            month = origin_month + (reading.year * 12 + reading.month - 1 - origin_month) // width * width
            begin = datetime.datetime(month // 12, month % 12 + 1, 1)
    except (ValueError, OverflowError):
        raise BadQuery("$dateTrunc: the bin begins outside the years 1 to 9999; choose a smaller binSize", code=5976500) from None
    return from_local(begin, zone, name)


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$dateAdd": _moving(1),
        "$dateSubtract": _moving(-1),
        "$dateDiff": _difference,
        "$dateTrunc": _truncation,
    }
)

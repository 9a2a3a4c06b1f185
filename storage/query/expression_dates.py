"""Expressions that take dates apart and put them together: $year to $dateFromParts. Pure.

A part takes a date expression, or {date, timezone}. Dates, timestamps and ObjectIds have parts; null and missing give null. Calendars reach the
years 1 to 9999; a date outside is refused by name.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ..errors import BadQuery
from .arithmetic import is_number, whole_number
from .dates_as_text import format_date, parse_fields, parsed_format, reader_of, sunday_week
from .expression_operands import Compiled, Constant, Make, Scope, is_nullish, named
from .timezones import UTC, as_date, from_local, local, offset_s, zone_of
from .type_names import type_name

_UTC_FORMAT = "%Y-%m-%dT%H:%M:%S.%LZ"
_LOCAL_FORMAT = "%Y-%m-%dT%H:%M:%S.%L"
_PART_MIN, _PART_MAX = -(2**15), 2**15 - 1
_ALWAYS_UTC = Constant("UTC")


def _part(take: Callable[[datetime.datetime], int]) -> Make:
    def make(name: str, argument: Any, scope: Scope) -> Compiled:
        date, timezone = _date_and_zone(name, argument, scope)

        def evaluate(root: dict, variables: dict) -> Any:
            value = date(root, variables)
            zone = zone_of(timezone(root, variables), name)
            if is_nullish(value) or zone is None:
                return None
            return take(local(as_date(value, name), zone, name))

        return evaluate

    return make


def _date_and_zone(name: str, argument: Any, scope: Scope) -> tuple[Compiled, Compiled]:
    if isinstance(argument, Mapping) and not next(iter(argument), "").startswith("$"):
        parts = named(
            name, argument, scope, required=("date",), optional=("timezone",), code=40535, unknown_code=40535, missing_code=40539
        )
        return parts["date"], parts.get("timezone", _ALWAYS_UTC)
    if isinstance(argument, (list, tuple)):
        if len(argument) != 1:
            raise BadQuery(f"{name} takes one date, {len(argument)} were given", code=40536)
        argument = argument[0]
    return scope.compile(argument), _ALWAYS_UTC


def _to_text(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = named(
        name,
        argument,
        scope,
        required=("date",),
        optional=("format", "timezone", "onNull"),
        code=18629,
        unknown_code=18534,
        missing_code=18628,
    )
    date, timezone = parts["date"], parts.get("timezone", _ALWAYS_UTC)
    layout, on_null = parts.get("format"), parts.get("onNull", Constant(None))
    if isinstance(layout, Constant) and type(layout.value) is str:
        parsed_format(layout.value)

    def evaluate(root: dict, variables: dict) -> Any:
        value = date(root, variables)
        zone = zone_of(timezone(root, variables), name)
        wanted = (_UTC_FORMAT if zone is UTC else _LOCAL_FORMAT) if layout is None else layout(root, variables)
        if not is_nullish(wanted) and type(wanted) is not str:
            raise BadQuery(f"$dateToString: format must be text, not {type_name(wanted)}", code=18533)
        if is_nullish(value):
            return on_null(root, variables)
        if zone is None or is_nullish(wanted):
            return None
        found = as_date(value, name)
        return format_date(local(found, zone, name), offset_s(found, zone, name), parsed_format(wanted))

    return evaluate


def _from_text(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = named(
        name,
        argument,
        scope,
        required=("dateString",),
        optional=("format", "timezone", "onError", "onNull"),
        code=40540,
        unknown_code=40541,
        missing_code=40542,
    )
    source, timezone = parts["dateString"], parts.get("timezone", _ALWAYS_UTC)
    layout, on_null, on_error = parts.get("format"), parts.get("onNull", Constant(None)), parts.get("onError")
    if isinstance(layout, Constant) and type(layout.value) is str:
        reader_of(layout.value)

    def evaluate(root: dict, variables: dict) -> Any:
        zone = zone_of(timezone(root, variables), name)
        wanted = None if layout is None else layout(root, variables)
        if not is_nullish(wanted) and type(wanted) is not str:
            raise BadQuery(f"$dateFromString: format must be text, not {type_name(wanted)}", code=40684)
        text = source(root, variables)
        if is_nullish(text):
            return on_null(root, variables)
        if zone is None or (layout is not None and is_nullish(wanted)):
            return None
        try:
            return _parsed(text, None if layout is None else reader_of(wanted), zone, is_zone_given="timezone" in parts)
        except BadQuery as refused:
            if on_error is None or refused.code != 241:
                raise
            return on_error(root, variables)

    return evaluate


def _parsed(text: Any, pattern: Any, zone: datetime.tzinfo, *, is_zone_given: bool) -> datetime.datetime:
    if type(text) is not str:
        raise BadQuery(f"$dateFromString: dateString must be text, not {type_name(text)}; give an onError", code=241)
    found = parse_fields(text, pattern)
    if found is None:
        raise BadQuery(f"$dateFromString: {text[:40]!r} is no date of the format; give an onError", code=241)
    reading, offset = found
    if offset is None:
        return from_local(reading, zone, "$dateFromString")
    if is_zone_given and zone is not UTC:
        raise BadQuery(f"$dateFromString: {text[:40]!r} names its own zone, and timezone another; give one", code=241)
    return from_local(reading, datetime.timezone(datetime.timedelta(seconds=offset)), "$dateFromString")


def _to_parts(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = named(
        name,
        argument,
        scope,
        required=("date",),
        optional=("timezone", "iso8601"),
        code=40524,
        unknown_code=40520,
        missing_code=40522,
    )
    date, timezone, iso = parts["date"], parts.get("timezone", _ALWAYS_UTC), parts.get("iso8601", Constant(False))

    def evaluate(root: dict, variables: dict) -> Any:
        value = date(root, variables)
        is_iso = iso(root, variables)
        zone = zone_of(timezone(root, variables), name)
        if is_nullish(is_iso) or is_nullish(value) or zone is None:
            return None
        if type(is_iso) is not bool:
            raise BadQuery(f"$dateToParts: iso8601 must be true or false, not {type_name(is_iso)}", code=40521)
        found = local(as_date(value, name), zone, name)
        if is_iso:
            year, week, day = found.isocalendar()
            made = {"isoWeekYear": year, "isoWeek": week, "isoDayOfWeek": day}
        else:
            made = {"year": found.year, "month": found.month, "day": found.day}
        made.update(hour=found.hour, minute=found.minute, second=found.second, millisecond=found.microsecond // 1000)
        return made

    return evaluate


_CALENDAR = ("year", "month", "day")
_ISO_CALENDAR = ("isoWeekYear", "isoWeek", "isoDayOfWeek")
_CLOCK = ("hour", "minute", "second", "millisecond")


def _from_parts(name: str, argument: Any, scope: Scope) -> Compiled:
    parts = named(
        name, argument, scope, required=(), optional=(*_CALENDAR, *_ISO_CALENDAR, *_CLOCK, "timezone"), code=40519, unknown_code=40518
    )
    is_iso = "isoWeekYear" in parts
    if is_iso == ("year" in parts):
        raise BadQuery("$dateFromParts needs either year or isoWeekYear", code=40489 if is_iso else 40516)
    other = next((key for key in (_CALENDAR if is_iso else _ISO_CALENDAR) if key in parts), None)
    if other is not None:
        raise BadQuery(f"$dateFromParts: {other} does not go with {'isoWeekYear' if is_iso else 'year'}", code=40525)
    timezone = parts.pop("timezone", _ALWAYS_UTC)
    keys = (*(_ISO_CALENDAR if is_iso else _CALENDAR), *_CLOCK)
    defaults = (None, 1, 1, 0, 0, 0, 0)

    def evaluate(root: dict, variables: dict) -> Any:
        numbers = []
        for key, default in zip(keys, defaults):
            value = parts[key](root, variables) if key in parts else default
            if is_nullish(value):
                return None
            numbers.append(_number(key, value))
        zone = zone_of(timezone(root, variables), name)
        return None if zone is None else from_local(_assembled(numbers, is_iso=is_iso), zone, name)

    return evaluate


def _number(key: str, value: Any) -> int:
    found = whole_number(value) if is_number(value) else None
    if found is None:
        raise BadQuery(f"$dateFromParts: {key} must be a whole number, not {type_name(value)}", code=40515)
    if key in ("year", "isoWeekYear"):
        if not 1 <= found <= 9999:
            raise BadQuery(f"$dateFromParts: {key} must be from 1 to 9999, not {found}", code=40523)
    elif key not in ("second", "millisecond") and not _PART_MIN <= found <= _PART_MAX:
        raise BadQuery(f"$dateFromParts: {key} must be from {_PART_MIN} to {_PART_MAX}, not {found}", code=31034)
    return found


def _assembled(numbers: list[int], *, is_iso: bool) -> datetime.datetime:
    """Parts beyond their range carry over into the larger ones."""
    year, middle, day, hour, minute, second, millisecond = numbers
    try:
        if is_iso:
            first = datetime.datetime.fromisocalendar(year, 1, 1) + datetime.timedelta(weeks=middle - 1)
        else:
            carried = year * 12 + middle - 1
            first = datetime.datetime(carried // 12, carried % 12 + 1, 1)
        return first + datetime.timedelta(
            days=day - 1, hours=hour, minutes=minute, seconds=second, milliseconds=millisecond
        )
    except (ValueError, OverflowError):
        raise BadQuery("$dateFromParts: the date is outside the years 1 to 9999", code=40523) from None


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$year": _part(lambda date: date.year),
        "$month": _part(lambda date: date.month),
        "$dayOfMonth": _part(lambda date: date.day),
        "$hour": _part(lambda date: date.hour),
        "$minute": _part(lambda date: date.minute),
        "$second": _part(lambda date: date.second),
        "$millisecond": _part(lambda date: date.microsecond // 1000),
        "$dayOfWeek": _part(lambda date: date.isoweekday() % 7 + 1),
        "$dayOfYear": _part(lambda date: date.timetuple().tm_yday),
        "$week": _part(sunday_week),
        "$isoWeek": _part(lambda date: date.isocalendar().week),
        "$isoWeekYear": _part(lambda date: date.isocalendar().year),
        "$isoDayOfWeek": _part(lambda date: date.isoweekday()),
        "$dateToString": _to_text,
        "$dateFromString": _from_text,
        "$dateToParts": _to_parts,
        "$dateFromParts": _from_parts,
    }
)

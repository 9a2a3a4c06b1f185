"""Time zones of date expressions: an Olson name or an offset to local time and back. Pure but for the zone tables that zoneinfo reads once.

    "Europe/Berlin"  "UTC"  "GMT"  "Z"  "+02"  "+0230"  "-02:30"

Dates are naive datetimes in UTC, as documents hold them; local times are naive too. A local time that a clock skips or repeats is read as its
first meaning.
"""

from __future__ import annotations

import datetime
import functools
import re
import zoneinfo
from typing import Any

from bson import ObjectId, Timestamp
from bson.datetime_ms import DatetimeMS

from ..errors import BadQuery
from ..values.extensions import milliseconds, moment
from .expression_operands import is_nullish
from .type_names import type_name

_OFFSET = re.compile(r"([+-])(\d\d)(?::?(\d\d))?", re.ASCII)
_ZONES_KEPT_MAX = 512
UTC = datetime.UTC


def zone_of(value: Any, name: str) -> datetime.tzinfo | None:
    """The zone that a timezone operand names; None for a null one. Raises BadQuery (40517 no text, 40485 unknown)."""
    if is_nullish(value):
        return None
    if type(value) is not str:
        raise BadQuery(f"{name}: timezone must be text, not {type_name(value)}", code=40517)
    return _zone(value)


@functools.lru_cache(maxsize=_ZONES_KEPT_MAX)
def _zone(text: str) -> datetime.tzinfo:
    if text in ("UTC", "GMT", "Z"):
        return UTC
    found = _OFFSET.fullmatch(text)
    if found:
        sign, hours, minutes = found.groups()
        shift = datetime.timedelta(hours=int(hours), minutes=int(minutes or 0))
        if shift < datetime.timedelta(days=1):
            return datetime.timezone(-shift if sign == "-" else shift)
    try:
        return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise BadQuery(f"time zone {text[:60]!r} is not known; use an Olson name or an offset such as +02:00", code=40485) from None


def as_date(value: Any, name: str, code: int = 16006) -> datetime.datetime:
    """The moment that a date, a timestamp or an ObjectId names."""
    kind = type(value)
    if kind is datetime.datetime:
        return value
    if kind is ObjectId or isinstance(value, (ObjectId, Timestamp)):
        seconds = value.time if isinstance(value, Timestamp) else int.from_bytes(value.binary[:4], "big")
        return checked(moment(seconds * 1000), name)
    if isinstance(value, DatetimeMS):
        return checked(value, name)
    raise BadQuery(f"{name} takes a date, not {type_name(value)}", code=code)


def checked(value: datetime.datetime | DatetimeMS, name: str) -> datetime.datetime:
    """Raises BadQuery for a moment outside the years 1 to 9999, which calendars here do not reach."""
    if isinstance(value, datetime.datetime):
        return value
    raise BadQuery(f"{name}: date {milliseconds(value)} ms is outside the years 1 to 9999", code=18537)


def local(date: datetime.datetime, zone: datetime.tzinfo, name: str) -> datetime.datetime:
    """The clock's reading in the zone at that moment."""
    if zone is UTC:
        return date
    try:
        return date.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)
    except (OverflowError, ValueError):
        raise _outside(name) from None


def from_local(reading: datetime.datetime, zone: datetime.tzinfo, name: str) -> datetime.datetime:
    """The moment at which the zone's clock shows that reading."""
    if zone is UTC:
        return reading
    try:
        return reading.replace(tzinfo=zone, fold=0).astimezone(UTC).replace(tzinfo=None)
    except (OverflowError, ValueError):
        raise _outside(name) from None


def offset_s(date: datetime.datetime, zone: datetime.tzinfo, name: str) -> int:
    """Seconds by which the zone's clock is ahead of UTC at that moment."""
    return int((local(date, zone, name) - date).total_seconds())


def _outside(name: str) -> BadQuery:
    return BadQuery(f"{name}: the result is outside the years 1 to 9999", code=18537)

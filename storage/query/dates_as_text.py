"""Dates to text and back: ISO 8601, and the format specifiers of $dateToString and $dateFromString. Pure.

    %Y year  %m month  %d day  %H hour  %M minute  %S second  %L millisecond  %j day of the year  %b Jan  %B January
    %w 1 (Sunday) to 7  %u 1 (Monday) to 7  %U week from Sunday  %V ISO week  %G ISO year  %z +0200  %Z minutes of offset  %% percent

Reading takes all of these but %U, %w and %Z's kin that name no day by themselves.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..errors import BadQuery
from ..values.extensions import milliseconds, moment

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_ISO = re.compile(
    r"(?P<Y>\d{4})-(?P<m>\d{1,2})(?:-(?P<d>\d{1,2}))?"
    r"(?:[T ](?P<H>\d{1,2}):(?P<M>\d\d)(?::(?P<S>\d\d)(?:[.,](?P<L>\d{1,9}))?)?\s*(?P<z>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII | re.IGNORECASE,
)
_COMPACT = re.compile(r"(?P<Y>\d{4})(?P<m>\d\d)(?P<d>\d\d)", re.ASCII)


def sunday_week(date: datetime.datetime) -> int:
    """Week of the year, 0 to 53; week 1 begins with the first Sunday."""
    day_of_year = date.timetuple().tm_yday
    return (day_of_year + 6 - (date.isoweekday() % 7)) // 7


def _signed(offset_s: int) -> str:
    minutes = abs(offset_s) // 60
    return f"{'-' if offset_s < 0 else '+'}{minutes // 60:02}{minutes % 60:02}"


_WRITERS: Mapping[str, Callable[[datetime.datetime, int], str]] = MappingProxyType(
    {
        "Y": lambda date, _: f"{date.year:04}",
        "m": lambda date, _: f"{date.month:02}",
        "d": lambda date, _: f"{date.day:02}",
        "H": lambda date, _: f"{date.hour:02}",
        "M": lambda date, _: f"{date.minute:02}",
        "S": lambda date, _: f"{date.second:02}",
        "L": lambda date, _: f"{date.microsecond // 1000:03}",
        "j": lambda date, _: f"{date.timetuple().tm_yday:03}",
        "b": lambda date, _: MONTHS[date.month - 1][:3],
        "B": lambda date, _: MONTHS[date.month - 1],
        "w": lambda date, _: str(date.isoweekday() % 7 + 1),
        "u": lambda date, _: str(date.isoweekday()),
        "U": lambda date, _: f"{sunday_week(date):02}",
        "V": lambda date, _: f"{date.isocalendar().week:02}",
        "G": lambda date, _: f"{date.isocalendar().year:04}",
        "z": lambda _, offset_s: _signed(offset_s),
        "Z": lambda _, offset_s: f"{'-' if offset_s < 0 else '+'}{abs(offset_s) // 60:03}",
        "%": lambda *_: "%",
    }
)
_READERS: Mapping[str, str] = MappingProxyType(
    {
        "Y": r"(?P<Y>\d{4})",
        "m": r"(?P<m>\d{1,2})",
        "d": r"(?P<d>\d{1,2})",
        "H": r"(?P<H>\d{1,2})",
        "M": r"(?P<M>\d{1,2})",
        "S": r"(?P<S>\d{1,2})",
        "L": r"(?P<L>\d{1,3})",
        "j": r"(?P<j>\d{1,3})",
        "b": r"(?P<b>[A-Za-z]{3})",
        "B": r"(?P<B>[A-Za-z]{3,9})",
        "u": r"(?P<u>[1-7])",
        "V": r"(?P<V>\d{1,2})",
        "G": r"(?P<G>\d{4})",
        "z": r"(?P<z>Z|[+-]\d\d(?::?\d\d)?)",
        "Z": r"(?P<Z>[+-]\d{1,3})",
        "%": "%",
    }
)


@functools.lru_cache(maxsize=256)
def parsed_format(text: str) -> tuple[tuple[str, bool], ...]:
    """(text or specifier, whether it is a specifier). Raises BadQuery (18535, 18536)."""
    pieces: list[tuple[str, bool]] = []
    at = 0
    while at < len(text):
        mark = text.find("%", at)
        if mark < 0:
            mark = len(text)
        if mark > at:
            pieces.append((text[at:mark], False))
        if mark < len(text):
            if mark + 1 == len(text):
                raise BadQuery("a date format must not end in a single '%': write %% for a percent sign", code=18535)
            letter = text[mark + 1]
            if letter not in _WRITERS:
                raise BadQuery(f"a date format has no specifier %{letter}", code=18536)
            pieces.append((letter, True))
        at = mark + 2
    return tuple(pieces)


def format_date(reading: datetime.datetime, offset_s: int, pieces: tuple[tuple[str, bool], ...]) -> str:
    """A local time and its zone's offset, written out."""
    return "".join([_WRITERS[piece](reading, offset_s) if is_specifier else piece for piece, is_specifier in pieces])


@functools.lru_cache(maxsize=256)
def reader_of(text: str) -> re.Pattern[str]:
    """What reads dates of a format. Raises BadQuery."""
    pattern = []
    seen: set[str] = set()
    for piece, is_specifier in parsed_format(text):
        if not is_specifier:
            pattern.append(re.escape(piece))
            continue
        if piece not in _READERS:
            raise BadQuery(f"a date cannot be read by the specifier %{piece}", code=18536)
        if piece in seen and piece != "%":
            raise BadQuery(f"the specifier %{piece} stands twice in a format that reads dates", code=18536)
        seen.add(piece)
        pattern.append(_READERS[piece])
    return re.compile("".join(pattern), re.ASCII)


def parse_date(text: str) -> object | None:
    """The date of ISO 8601 text (a zone in it counts, else UTC), or None."""
    found = parse_fields(text, None)
    return None if found is None else moment(milliseconds(found[0]) - (found[1] or 0) * 1000)


def parse_fields(text: str, pattern: re.Pattern[str] | None) -> tuple[datetime.datetime, int | None] | None:
    """(local time, offset in seconds or None when the text names none), or None when it is no date of that format."""
    stripped = text.strip()
    if pattern is None:
        found = _ISO.fullmatch(stripped) or _COMPACT.fullmatch(stripped)
    else:
        found = pattern.fullmatch(text)
    if found is None:
        return None
    fields = {key: value for key, value in found.groupdict().items() if value is not None}
    try:
        return _day(fields) + _time(fields), _offset(fields)
    except (ValueError, OverflowError):
        return None


def _day(fields: Mapping[str, str]) -> datetime.datetime:
    if "G" in fields:
        day = datetime.date.fromisocalendar(int(fields["G"]), int(fields.get("V", 1)), int(fields.get("u", 1)))
        return datetime.datetime(day.year, day.month, day.day)
    if "Y" not in fields:
        raise ValueError("no year")
    if "j" in fields:
        first = datetime.datetime(int(fields["Y"]), 1, 1)
        if not 1 <= int(fields["j"]) <= 366:
            raise ValueError("no day of a year")
        return first + datetime.timedelta(days=int(fields["j"]) - 1)
    return datetime.datetime(int(fields["Y"]), _month(fields), int(fields.get("d", 1)))


def _month(fields: Mapping[str, str]) -> int:
    name = fields.get("b") or fields.get("B")
    if name is None:
        return int(fields.get("m", 1))
    for number, month in enumerate(MONTHS, 1):
        if name.lower() in (month.lower(), month[:3].lower()):
            return number
    raise ValueError("no month")


def _time(fields: Mapping[str, str]) -> datetime.timedelta:
    hour, minute, second = (int(fields.get(key, 0)) for key in "HMS")
    if hour > 24 or minute > 59 or second > 59 or (hour == 24 and (minute or second)):
        raise ValueError("no time of a day")
    fraction = fields.get("L", "0")
    return datetime.timedelta(hours=hour, minutes=minute, seconds=second, milliseconds=int(fraction[:3].ljust(3, "0")))


def _offset(fields: Mapping[str, str]) -> int | None:
    if "Z" in fields:
        return int(fields["Z"]) * 60
    text = fields.get("z")
    if text is None:
        return None
    if text.upper() in ("Z", "UTC", "GMT"):
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if text[0] == "-" else seconds

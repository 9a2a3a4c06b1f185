"""Promises of the date expressions: tables of MongoDB's documented results, time zones, and laws of calendars."""

from __future__ import annotations

import datetime

import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.query.expressions import compile_expression

D = datetime.datetime
NEW_YORK = "America/New_York"
DATE = D(2014, 1, 1, 8, 15, 39, 736_000)


def value(spec: object, **document: object) -> object:
    return compile_expression(spec)(document, {"NOW": DATE})


TABLE = [
    ({"$year": "$d"}, 2014),
    ({"$month": "$d"}, 1),
    ({"$dayOfMonth": "$d"}, 1),
    ({"$hour": "$d"}, 8),
    ({"$minute": "$d"}, 15),
    ({"$second": "$d"}, 39),
    ({"$millisecond": "$d"}, 736),
    ({"$dayOfYear": "$d"}, 1),
    ({"$dayOfWeek": "$d"}, 4),
    ({"$week": "$d"}, 0),
    ({"$isoWeek": "$d"}, 1),
    ({"$isoWeekYear": D(2016, 1, 1)}, 2015),
    ({"$isoWeek": D(2016, 1, 1)}, 53),
    ({"$isoDayOfWeek": D(2016, 1, 1)}, 5),
    ({"$hour": {"date": "$d", "timezone": "+0530"}}, 13),
    ({"$dayOfMonth": {"date": "$d", "timezone": "America/Chicago"}}, 1),
    ({"$dayOfMonth": {"date": D(2014, 1, 1, 3), "timezone": "America/Chicago"}}, 31),
    ({"$year": ["$d"]}, 2014),
    ({"$year": "$none"}, None),
    ({"$year": {"date": "$d", "timezone": None}}, None),
    ({"$year": ObjectId("5ab9cbfa31c2ab715d42129e")}, 2018),
    ("$$NOW", DATE),
    ({"$add": ["$d", 1000]}, DATE + datetime.timedelta(seconds=1)),
    ({"$subtract": ["$d", 1000]}, DATE - datetime.timedelta(seconds=1)),
    ({"$subtract": ["$d", D(2014, 1, 1)]}, 29_739_736),
    ({"$dateToString": {"date": "$d"}}, "2014-01-01T08:15:39.736Z"),
    ({"$dateToString": {"date": "$d", "timezone": NEW_YORK}}, "2014-01-01T03:15:39.736"),
    ({"$dateToString": {"format": "%Y-%m-%d", "date": "$d"}}, "2014-01-01"),
    ({"$dateToString": {"format": "%H:%M:%S:%L%z", "date": "$d", "timezone": NEW_YORK}}, "03:15:39:736-0500"),
    ({"$dateToString": {"format": "%j %w %U %G-%V %u %b %%", "date": "$d"}}, "001 4 00 2014-01 3 Jan %"),
    ({"$dateToString": {"format": "%Z", "date": "$d", "timezone": "+04:30"}}, "+270"),
    ({"$dateToString": {"date": "$none", "onNull": "-"}}, "-"),
    ({"$dateFromString": {"dateString": "2017-02-08T12:10:40.787"}}, D(2017, 2, 8, 12, 10, 40, 787_000)),
    ({"$dateFromString": {"dateString": "2017-02-08T12:10:40.787", "timezone": NEW_YORK}}, D(2017, 2, 8, 17, 10, 40, 787_000)),
    ({"$dateFromString": {"dateString": "2017-02-08"}}, D(2017, 2, 8)),
    ({"$dateFromString": {"dateString": "2017-02-08T12:10:40+02:00"}}, D(2017, 2, 8, 10, 10, 40)),
    ({"$dateFromString": {"dateString": "06-15-2018", "format": "%m-%d-%Y"}}, D(2018, 6, 15)),
    ({"$dateFromString": {"dateString": "15 Jun 2018", "format": "%d %b %Y"}}, D(2018, 6, 15)),
    ({"$dateFromString": {"dateString": "nothing", "onError": "bad"}}, "bad"),
    ({"$dateFromString": {"dateString": None, "onNull": 0}}, 0),
    ({"$dateFromParts": {"year": 2017, "month": 2, "day": 8, "hour": 12}}, D(2017, 2, 8, 12)),
    ({"$dateFromParts": {"isoWeekYear": 2017, "isoWeek": 6, "isoDayOfWeek": 3, "hour": 12}}, D(2017, 2, 8, 12)),
    ({"$dateFromParts": {"year": 2017, "month": 14, "day": 1, "hour": 12}}, D(2018, 2, 1, 12)),
    ({"$dateFromParts": {"year": 2017, "month": 0, "day": 1}}, D(2016, 12, 1)),
    ({"$dateFromParts": {"year": 2016, "month": 12, "day": 31, "hour": 23, "timezone": NEW_YORK}}, D(2017, 1, 1, 4)),
    ({"$dateFromParts": {"year": "$none"}}, None),
    (
        {"$dateToParts": {"date": "$d", "timezone": NEW_YORK}},
        {"year": 2014, "month": 1, "day": 1, "hour": 3, "minute": 15, "second": 39, "millisecond": 736},
    ),
    (
        {"$dateToParts": {"date": "$d", "iso8601": True}},
        {"isoWeekYear": 2014, "isoWeek": 1, "isoDayOfWeek": 3, "hour": 8, "minute": 15, "second": 39, "millisecond": 736},
    ),
    ({"$dateAdd": {"startDate": D(2020, 12, 31, 12, 10, 5), "unit": "month", "amount": 2}}, D(2021, 2, 28, 12, 10, 5)),
    ({"$dateAdd": {"startDate": D(2020, 11, 30), "unit": "day", "amount": 3}}, D(2020, 12, 3)),
    ({"$dateSubtract": {"startDate": D(2021, 3, 31), "unit": "month", "amount": 1}}, D(2021, 2, 28)),
    ({"$dateAdd": {"startDate": D(2021, 3, 13, 12), "unit": "day", "amount": 1, "timezone": NEW_YORK}}, D(2021, 3, 14, 11)),
    ({"$dateAdd": {"startDate": D(2021, 3, 13, 12), "unit": "hour", "amount": 24, "timezone": NEW_YORK}}, D(2021, 3, 14, 12)),
    ({"$dateAdd": {"startDate": "$none", "unit": "day", "amount": 3}}, None),
    ({"$dateDiff": {"startDate": D(2021, 1, 1), "endDate": D(2021, 1, 31), "unit": "week"}}, 5),
    ({"$dateDiff": {"startDate": D(2020, 12, 31, 23, 59), "endDate": D(2021, 1, 1), "unit": "year"}}, 1),
    ({"$dateDiff": {"startDate": D(2021, 2, 28), "endDate": D(2021, 4, 1), "unit": "quarter"}}, 1),
    ({"$dateDiff": {"startDate": D(2021, 1, 1, 0, 59, 59), "endDate": D(2021, 1, 1, 1), "unit": "hour"}}, 1),
    ({"$dateDiff": {"startDate": D(2021, 1, 2), "endDate": D(2021, 1, 1), "unit": "day"}}, -1),
    ({"$dateTrunc": {"date": D(2021, 3, 20, 11, 30, 5), "unit": "hour"}}, D(2021, 3, 20, 11)),
    ({"$dateTrunc": {"date": D(2021, 3, 20, 11, 30, 5), "unit": "week"}}, D(2021, 3, 14)),
    ({"$dateTrunc": {"date": D(2021, 3, 20, 11, 30, 5), "unit": "week", "binSize": 2, "startOfWeek": "Monday"}}, D(2021, 3, 15)),
    (
        {"$dateTrunc": {"date": D(2021, 3, 20, 11, 30, 5), "unit": "week", "binSize": 2, "timezone": "America/Los_Angeles", "startOfWeek": "Monday"}},
        D(2021, 3, 15, 7),
    ),
    ({"$dateTrunc": {"date": D(2021, 3, 20), "unit": "quarter"}}, D(2021, 1, 1)),
    ({"$dateTrunc": {"date": D(2021, 3, 20), "unit": "month", "binSize": 6}}, D(2021, 1, 1)),
    ({"$toDate": 120_000_000_000.5}, D(1973, 10, 20, 21, 20)),
    ({"$toDate": "2018-03-20"}, D(2018, 3, 20)),
    ({"$toDate": "2018-03-20 11:00:06 +0500"}, D(2018, 3, 20, 6, 0, 6)),
    ({"$toLong": D(2018, 3, 27, 16, 58, 51, 538_000)}, 1_522_169_931_538),
    ({"$toString": "$d"}, "2014-01-01T08:15:39.736Z"),
]


@pytest.mark.parametrize(("spec", "expected"), TABLE, ids=lambda part: repr(part)[:70])
def test_a_date_expression_has_the_value_that_mongodb_documents(spec: object, expected: object) -> None:
    assert value(spec, d=DATE) == expected


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"$year": "x"}, 16006),
        ({"$year": {"timezone": "UTC"}}, 40539),
        ({"$year": {"date": "$d", "zone": 1}}, 40535),
        ({"$year": {"date": "$d", "timezone": "Mars/Olympus"}}, 40485),
        ({"$year": {"date": "$d", "timezone": "../../etc/passwd"}}, 40485),
        ({"$year": {"date": "$d", "timezone": 5}}, 40517),
        ({"$add": ["$d", "$d"]}, 16612),
        ({"$add": ["$d", 2**63 - 1]}, 15),
        ({"$dateToString": {"format": "%Q", "date": "$d"}}, 18536),
        ({"$dateToString": {"format": "%", "date": "$d"}}, 18535),
        ({"$dateFromString": {"dateString": "July 4th"}}, 241),
        ({"$dateFromString": {"dateString": "2017-13-08"}}, 241),
        ({"$dateFromParts": {"month": 1}}, 40516),
        ({"$dateFromParts": {"year": 2017, "isoWeek": 1}}, 40525),
        ({"$dateFromParts": {"year": 10_000}}, 40523),
        ({"$dateFromParts": {"year": 2017, "month": 2**15}}, 31034),
        ({"$dateAdd": {"startDate": "$d", "unit": "eon", "amount": 1}}, 9),
        ({"$dateAdd": {"startDate": "$d", "unit": "day", "amount": 1.5}}, 5166405),
        ({"$dateAdd": {"startDate": "$d", "unit": "year", "amount": 10**12}}, 5166406),
        ({"$dateTrunc": {"date": "$d", "unit": "day", "binSize": 0}}, 5439018),
        ({"$year": DatetimeMS(2**62)}, 18537),
    ],
    ids=lambda part: repr(part)[:70],
)
def test_a_wrong_date_expression_is_refused(spec: object, code: int) -> None:
    with pytest.raises(BadQuery) as refused:
        value(spec, d=DATE)
    assert refused.value.code == code


dates = st.datetimes(D(1900, 1, 1), D(2100, 1, 1)).map(lambda date: date.replace(microsecond=date.microsecond // 1000 * 1000))
zones = st.sampled_from(["UTC", NEW_YORK, "Asia/Kolkata", "Europe/London", "+05:45", "-11"])
units = st.sampled_from(["year", "quarter", "month", "week", "day", "hour", "minute", "second"])


@given(dates, zones)
def test_parts_and_text_give_the_date_back(date: D, zone: str) -> None:
    text = value({"$dateToString": {"date": "$d", "format": "%Y-%m-%dT%H:%M:%S.%L%z", "timezone": zone}}, d=date)
    offset = value({"$dateToString": {"date": "$d", "format": "%Z", "timezone": zone}}, d=date)
    assert value({"$dateFromString": {"dateString": "$t"}}, t=text) - date < datetime.timedelta(minutes=1), offset
    parts = value({"$dateToParts": {"date": "$d"}}, d=date)
    assert value({"$dateFromParts": parts}) == date


@given(dates, units, st.integers(1, 40), st.sampled_from(["UTC", "Asia/Kolkata", "+05:45"]))
def test_a_bin_begins_before_its_date_and_holds_it(date: D, unit: str, size: int, zone: str) -> None:
    begin = value({"$dateTrunc": {"date": "$d", "unit": unit, "binSize": size, "timezone": zone}}, d=date)
    following = value({"$dateAdd": {"startDate": "$b", "unit": unit, "amount": size, "timezone": zone}}, b=begin)
    assert begin <= date < following
    again = value({"$dateTrunc": {"date": "$b", "unit": unit, "binSize": size, "timezone": zone}}, b=begin)
    assert again == begin


@given(dates, dates, units)
def test_differences_add_up(first: D, second: D, unit: str) -> None:
    def difference(start: D, end: D) -> int:
        return value({"$dateDiff": {"startDate": "$s", "endDate": "$e", "unit": unit}}, s=start, e=end)

    middle = DATE
    assert difference(first, second) == difference(first, middle) + difference(middle, second)
    assert difference(first, second) == -difference(second, first)

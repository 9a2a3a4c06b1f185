"""BSON's names of the types of decoded values, for messages. Pure."""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
NAMES: Mapping[type, str] = MappingProxyType(
    {
        float: "double",
        str: "string",
        dict: "object",
        list: "array",
        bytes: "binData",
        Binary: "binData",
        uuid.UUID: "binData",
        ObjectId: "objectId",
        bool: "bool",
        datetime.datetime: "date",
        DatetimeMS: "date",
        type(None): "null",
        Regex: "regex",
        re.Pattern: "regex",
        Code: "javascript",
        Timestamp: "timestamp",
        Decimal128: "decimal",
        MinKey: "minKey",
        MaxKey: "maxKey",
    }
)


def type_name(value: Any) -> str:
    """"int" for what fits 32 bits, else "long"; "missing" for MISSING and what is no document value."""
    if type(value) is int:
        return "int" if _INT32_MIN <= value <= _INT32_MAX else "long"
    return NAMES.get(type(value), "missing")

"""The value that a canonical key stands for: keys.py the other way round. Pure.

A key is one for all `_id`s that MongoDB holds equal (1, 1.0, Decimal128("1.00")), so what comes back is one of them: an integer where the
number is whole. For people and for looking documents up, where any of them will do.
"""

from __future__ import annotations

import struct
from typing import Any

from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from ..errors import DamagedRecord
from .extensions import moment

_COUNT = struct.Struct(">I")
_DOUBLE = struct.Struct(">d")
_TIMESTAMP = struct.Struct(">II")
_SIGN_FLIP = 2**63
_FIXED = {0x05: 0, 0x08: 0, 0x10: 0, 0x11: 8, 0x12: 8, 0x50: 12, 0x58: 0, 0x59: 0, 0x60: 8, 0x68: 8, 0x7F: 0}  # payload bytes by tag
_PLAIN = {0x05: MinKey(), 0x08: None, 0x10: float("nan"), 0x58: False, 0x59: True, 0x7F: MaxKey()}
_MAP, _ARRAY = 0x30, 0x38


def value_of(key: bytes) -> Any:
    """Raises DamagedRecord for bytes that are no key."""
    try:
        if key[0] == _MAP:
            value, end = _nested(key, 0)
            if end != len(key):
                raise ValueError(f"{len(key) - end} bytes follow")
            return value
        return _scalar(key[0], key[1:])
    except (ValueError, IndexError, struct.error, ArithmeticError) as error:
        raise DamagedRecord(f"{key[:32].hex()} is no key of a document: {error}") from error


def _scalar(tag: int, payload: bytes) -> Any:
    if tag in _FIXED and len(payload) != _FIXED[tag]:
        raise ValueError(f"tag {tag:#x} with {len(payload)} bytes")
    if tag in _PLAIN:
        return _PLAIN[tag]
    match tag:
        case 0x11:
            return int.from_bytes(payload, "big") - _SIGN_FLIP
        case 0x12:
            return _DOUBLE.unpack(payload)[0]
        case 0x13:
            return Decimal128(payload.decode("ascii"))
        case 0x20:
            return payload.decode("utf-8")
        case 0x40:
            return payload[1:] if payload[0] == 0 else Binary(payload[1:], payload[0])
        case 0x50:
            return ObjectId(payload)
        case 0x60:
            return moment(int.from_bytes(payload, "big") - _SIGN_FLIP)
        case 0x68:
            return Timestamp(*_TIMESTAMP.unpack(payload))
        case 0x70:
            pattern, _, letters = payload.partition(b"\0")
            return Regex(pattern.decode("utf-8"), letters.decode("ascii"))
        case 0x75:
            return Code(payload.decode("utf-8"))
    raise ValueError(f"tag {tag:#x} is none")


def _nested(key: bytes, at: int) -> tuple[Any, int]:
    """The value inside a map or an array that begins there, and where it ends."""
    tag, at = key[at], at + 1
    if tag in (_MAP, _ARRAY):
        (count,) = _COUNT.unpack_from(key, at)
        at += _COUNT.size
        pairs, values = {}, []
        for _ in range(count):
            if tag == _MAP:
                name, at = _counted(key, at)
                pairs[name.decode("utf-8")], at = _nested(key, at)
            else:
                value, at = _nested(key, at)
                values.append(value)
        return (pairs if tag == _MAP else values), at
    if tag in _FIXED:
        end = at + _FIXED[tag]
        return _scalar(tag, key[at:end]), end
    payload, at = _counted(key, at)
    return _scalar(tag, payload), at


def _counted(key: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _COUNT.unpack_from(key, at)
    end = at + _COUNT.size + length
    if end > len(key):
        raise ValueError("it ends too early")
    return key[at + _COUNT.size : end], end

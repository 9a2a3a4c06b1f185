"""Decimal128 bits to exact decimals. Pure; knows no document.

A Decimal128 is 16 bytes, little-endian (IEEE 754-2008, binary integer decimal). The usual shape, by bit:

    127    126        113 112                                   0
    ├──────┼─────────────┼──────────────────────────────────────┤
    │ sign │ exponent    │ coefficient                          │    value = (-1)^sign × coefficient × 10^(exponent - 6176)
    └──────┴─────────────┴──────────────────────────────────────┘
     1      14            113

Bits 126 and 125 both set mean something else: 11110 (bits 126 to 122) is infinity, 11111 is NaN, any other is a
coefficient too large for 34 digits, which the standard reads as zero, as it does a coefficient of 10^34 or more.
`bson.Decimal128.to_decimal` fails on that last kind, which is why the bits are read here.
"""

from __future__ import annotations

from decimal import Decimal

DECIMAL128_BYTES = 16
_EXPONENT_BIAS = 6176
_COEFFICIENT_MAX = 10**34 - 1
_COEFFICIENT_MASK = 2**113 - 1


def to_decimal(bid: bytes) -> Decimal:
    """The exact value of 16 BID bytes. Every NaN, signalling or not, gives one quiet NaN."""
    bits = int.from_bytes(bid, "little")
    sign = bits >> 127
    kind = bits >> 122 & 0x1F
    if kind == 0x1F:
        return Decimal("NaN")
    if kind == 0x1E:
        return Decimal("-Infinity") if sign else Decimal("Infinity")
    if kind >= 0x18:
        coefficient, exponent = 0, 0
    else:
        coefficient, exponent = bits & _COEFFICIENT_MASK, (bits >> 113 & 0x3FFF) - _EXPONENT_BIAS
        if coefficient > _COEFFICIENT_MAX:
            coefficient = 0
    return Decimal((sign, tuple(map(int, str(coefficient))), exponent))

"""Joints: where in the texts of a row one word ends and the next begins, as far as 128 bits a row can tell. Pure.

    "red fox ran"    ed|fo   ox|ra       the last two bytes of a word and the first two of the next, whatever stands between
    u64 × 2 of a row two bits for each   a row that lacks one of the bits of ed|fo holds no "red fox"

An index of words knows rows that hold "red" and "fox" anywhere, not which of them hold "red fox": without joints all of those are read. Of the rows that have no such
joint, 15 words leave one in twenty, 30 one in seven, 60 one in three, some hundreds all. Words are text.py's; one of a single byte has no joints, so that
a piece of two bytes, cut out of a longer word, is enough to ask for one.

Made with the terms (text.py); 16 bytes a row, in a text's section "joints". The multiplier is 2^64 over the golden
ratio (Knuth, The Art of Computer Programming 3, 6.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .words import words_of

_MULTIPLIER = 0x9E3779B97F4A7C15
_PIECE = 2  # bytes on each side
JOINT_BITS = 128
_ALL_BITS = 2**64 - 1


def joints_of(text: bytes) -> int:
    """The joints of one text, JOINT_BITS bits."""
    return joints_between(words_of(text))


def joints_between(words: Sequence[bytes]) -> int:
    """The bits that a row has in which words that end with the first, are the ones between, and begin with the last, stand behind each other."""
    found = 0
    for before, after in pairwise(words):
        if len(before) >= _PIECE and len(after) >= _PIECE:
            found |= _bits(before[-_PIECE:] + after[:_PIECE])
    return found


def _bits(joint: bytes) -> int:
    mixed = int.from_bytes(joint, "little") * _MULTIPLIER & _ALL_BITS
    return 1 << (mixed >> 57) | 1 << (mixed >> 50 & 127)


def halves(joints: int) -> tuple[int, int]:
    """The two u64 of a row: the low bits, then the high ones."""
    return joints & _ALL_BITS, joints >> 64

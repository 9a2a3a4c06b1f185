"""Characters and character classes of PCRE, read from a pattern and written as both search engines read them. Pure.

PCRE's shorthands are ASCII (MongoDB does not turn on Unicode properties for them), so `\\w` is not "é". The written
form, `[...]` of single characters and ranges, is read alike by both engines that "regex" uses. A class is ranges of code
points; under option i, shorthands, properties and POSIX names do not ignore case (an "s" that does would also be U+017F).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from ..errors import BadQuery

Ranges = tuple[tuple[int, int], ...]
CODE_POINT_MAX = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)

_DIGIT = ((0x30, 0x39),)
_UPPER, _LOWER = ((0x41, 0x5A),), ((0x61, 0x7A),)
_WORD = (*_DIGIT, *_UPPER, (0x5F, 0x5F), *_LOWER)
_SPACE = ((0x09, 0x0D), (0x20, 0x20))
_HORIZONTAL = (
    (0x09, 0x09), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200A),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
_VERTICAL = ((0x0A, 0x0D), (0x85, 0x85), (0x2028, 0x2029))


def complement(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """All other code points, without surrogates, which no text holds."""
    found, start = [], 0
    for low, high in sorted([*ranges, SURROGATES]):
        if low > start:
            found.append((start, low - 1))
        start = max(start, high + 1)
    if start <= CODE_POINT_MAX:
        found.append((start, CODE_POINT_MAX))
    return tuple(found)


SHORTHANDS: Mapping[str, Ranges] = MappingProxyType(
    {
        "d": _DIGIT,
        "D": complement(_DIGIT),
        "w": _WORD,
        "W": complement(_WORD),
        "s": _SPACE,
        "S": complement(_SPACE),
        "h": _HORIZONTAL,
        "H": complement(_HORIZONTAL),
        "v": _VERTICAL,
        "V": complement(_VERTICAL),
        "N": complement(((0x0A, 0x0A),)),
    }
)
POSIX: Mapping[str, Ranges] = MappingProxyType(
    {
        "alpha": (*_UPPER, *_LOWER),
        "lower": _LOWER,
        "upper": _UPPER,
        "alnum": (*_DIGIT, *_UPPER, *_LOWER),
        "ascii": ((0, 0x7F),),
        "blank": ((0x09, 0x09), (0x20, 0x20)),
        "cntrl": ((0, 0x1F), (0x7F, 0x7F)),
        "digit": _DIGIT,
        "graph": ((0x21, 0x7E),),
        "print": ((0x20, 0x7E),),
        "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
        "space": _SPACE,
        "word": _WORD,
        "xdigit": (*_DIGIT, (0x41, 0x46), (0x61, 0x66)),
    }
)


def written(code: int) -> str:
    """One character, inside or outside a class, as both engines read it."""
    character = chr(code)
    if code >= 0x80 or character.isalnum() or character == "_":
        return character
    return f"\\x{code:02x}" if code < 0x20 or code == 0x7F else "\\" + character


def written_ranges(ranges: Iterable[tuple[int, int]]) -> str:
    """The inside of a class. Surrogates are cut out of a range: neither engine can be given them."""
    found = []
    for low, high in ranges:
        for first, last in _without_surrogates(low, high):
            found.append(written(first) if first == last else f"{written(first)}-{written(last)}")
    return "".join(found)


def _without_surrogates(low: int, high: int) -> list[tuple[int, int]]:
    if high < SURROGATES[0] or low > SURROGATES[1]:
        return [(low, high)]
    pieces = [(low, SURROGATES[0] - 1), (SURROGATES[1] + 1, high)]
    return [(first, last) for first, last in pieces if first <= last]


def has_case(ranges: Iterable[tuple[int, int]]) -> bool:
    """Whether ignoring case could change what the ranges hold; everything beyond ASCII counts as a letter."""
    return any(high >= 0x80 or (low <= 0x7A and high >= 0x41 and not 0x5B <= low <= high <= 0x60) for low, high in ranges)


_CONTROLS: Mapping[str, int] = MappingProxyType({"a": 7, "e": 27, "f": 12, "n": 10, "r": 13, "t": 9})
_HEX, _OCTAL = frozenset("0123456789abcdefABCDEF"), frozenset("01234567")
Bad = Callable[[str], BadQuery]


def read_character(pattern: str, at: int, bad: Bad) -> tuple[int, int]:
    """The code point of an escape whose letter stands at `at` (after the backslash), and where to read on."""
    letter = pattern[at]
    if letter in _CONTROLS:
        return at + 1, _CONTROLS[letter]
    if letter == "0":
        return _number(pattern, at, at + 3, _OCTAL, 8)
    if letter in "xo" and pattern[at + 1 : at + 2] == "{":
        end = pattern.find("}", at)
        digits = pattern[at + 2 : max(end, at + 2)]
        allowed = _HEX if letter == "x" else _OCTAL
        if not digits or len(digits) > 11 or not set(digits) <= allowed:
            raise bad(f"\\{letter}{{...}} needs digits")
        return end + 1, int(digits, 16 if letter == "x" else 8)
    if letter == "x":
        return _number(pattern, at + 1, at + 3, _HEX, 16)
    if letter == "c":
        control = pattern[at + 1 : at + 2]
        if not control or not " " <= control <= "~":
            raise bad("\\c needs a printable ASCII character")
        return at + 2, ord(control.upper()) ^ 0x40
    if letter.isascii() and letter.isalnum():
        raise bad(f"\\{letter} is unknown")
    return at + 1, ord(letter)


def _number(pattern: str, start: int, end_max: int, digits: frozenset[str], base: int) -> tuple[int, int]:
    end = start
    while end < min(end_max, len(pattern)) and pattern[end] in digits:
        end += 1
    return end, int(pattern[start:end] or "0", base)


def read_class(pattern: str, at: int, *, ignore_case: bool, bad: Bad) -> tuple[int, str | None, str]:
    """The class whose opening bracket stands before `at`: where to read on, and how both engines write it.

    None for RE2 where it cannot take shorthands out of a negated class that ignores case.
    """
    negated = pattern.startswith("^", at)
    reader = _ClassReader(pattern, at + negated, ignore_case=ignore_case, bad=bad)
    reader.read()
    if pattern.startswith(":", at) and pattern[at + 1 : reader.at - 2].isalpha() and pattern[reader.at - 2] == ":":
        raise bad("a POSIX name such as [:alpha:] stands inside a class: [[:alpha:]]")
    cased = written_ranges(reader.cased)
    uncased = written_ranges(reader.uncased) + "".join(reader.properties)
    sign = "^" if negated else ""
    if not ignore_case or not uncased:
        whole = f"[{sign}{cased}{uncased}]"
        return reader.at, whole, whole
    if not has_case(reader.cased):
        whole = f"(?-i:[{sign}{cased}{uncased}])"
        return reader.at, whole, whole
    either = f"(?:[{cased}]|(?-i:[{uncased}]))"
    return (reader.at, None, f"(?:(?!{either})(?s:.))") if negated else (reader.at, either, either)


class _ClassReader:
    def __init__(self, pattern: str, at: int, *, ignore_case: bool, bad: Bad) -> None:
        self.pattern = pattern
        self.at = at
        self.bad = bad
        self.ignore_case = ignore_case
        self.cased: list[tuple[int, int]] = []  # single characters and ranges
        self.uncased: list[tuple[int, int]] = []  # from shorthands and POSIX names
        self.properties: list[str] = []  # \\p{...}, as written

    def read(self) -> None:
        pattern, start = self.pattern, self.at
        while True:
            if self.at >= len(pattern):
                raise self.bad("a character class is not closed")
            if pattern[self.at] == "]" and self.at > start:
                self.at += 1
                return
            if pattern.startswith("\\Q", self.at):
                self._quoted()
                continue
            if pattern.startswith("\\E", self.at):
                self.at += 2
                start = start + 2 if self.at == start + 2 else start
                continue
            low = self._member()
            if low is None:
                continue
            high = self._range_end()
            if high < 0:
                high = low
            if high < low:
                raise self.bad("a range in a character class descends")
            self.cased.append((low, high))

    def _member(self) -> int | None:
        """One character; None when it was a shorthand, a property or a POSIX name, which went to its list."""
        pattern = self.pattern
        character = pattern[self.at]
        self.at += 1
        if character == "[" and pattern[self.at : self.at + 1] in (":", ".", "="):
            return self._posix()
        if character != "\\":
            return ord(character)
        letter = pattern[self.at : self.at + 1]
        if not letter:
            raise self.bad("a character class is not closed")
        if letter in SHORTHANDS and letter != "N":
            self.uncased += SHORTHANDS[letter]
            self.at += 1
            return None
        if letter in "pP":
            end = self.at + 1
            if pattern[end : end + 1] == "{":
                end = pattern.find("}", end)
            name = pattern[self.at + 1 : end + 1].strip("{}")
            if not name.replace("_", "").replace("&", "").lstrip("^").isalnum():
                raise self.bad(f"\\{letter} needs the name of a Unicode property")
            self.properties.append(f"\\{letter}{{{name}}}")
            self.at = end + 1
            return None
        if letter == "b":
            self.at += 1
            return 8
        if "1" <= letter <= "7":
            self.at, code = _number(pattern, self.at, self.at + 3, _OCTAL, 8)
        else:
            self.at, code = read_character(pattern, self.at, self.bad)
        return self._checked(code)

    def _checked(self, code: int) -> int:
        if code > CODE_POINT_MAX or SURROGATES[0] <= code <= SURROGATES[1]:
            raise self.bad(f"{code:#x} is no character")
        return code

    def _range_end(self) -> int:
        """The upper end after a hyphen; -1 when the hyphen is itself a member, or there is none."""
        pattern = self.pattern
        if pattern[self.at : self.at + 1] != "-" or pattern[self.at + 1 : self.at + 2] in ("]", ""):
            return -1
        if pattern[self.at + 1] == "[" and pattern[self.at + 2 : self.at + 3] in (":", ".", "="):
            return -1
        if pattern[self.at + 1] == "\\" and pattern[self.at + 2 : self.at + 3] in "dDwWsShHvVpPQE":
            return -1
        self.at += 1
        end = self._member()
        assert end is not None, "shorthands were left out above"
        return end

    def _posix(self) -> int | None:
        end = self.pattern.find(":]", self.at + 1)
        name = self.pattern[self.at + 1 : max(end, self.at + 1)]
        if self.pattern[self.at] != ":" or end < 0 or not name.lstrip("^").isalpha():
            if self.pattern[self.at] == ":":
                return ord("[")  # an ordinary bracket, as in [[:]
            raise self.bad("collating elements are not there")
        ranges = POSIX.get(name.removeprefix("^"))
        if ranges is None:
            raise self.bad(f"the class [:{name}:] is unknown")
        if self.ignore_case and name.removeprefix("^") in ("lower", "upper"):
            ranges = POSIX["alpha"]
        self.uncased += complement(ranges) if name.startswith("^") else ranges
        self.at = end + 2
        return None

    def _quoted(self) -> None:
        end = self.pattern.find("\\E", self.at)
        if end < 0:
            raise self.bad("a character class is not closed")
        self.cased += [(ord(character), ord(character)) for character in self.pattern[self.at + 2 : end]]
        self.at = end + 2

"""Dotted paths: which values of a document a path reaches. Pure; MongoDB's rules, quirks included.

    path   document                 reaches
    a      {a: [1, [2]]}            1, [2], then the whole array [1, [2]]
    a.b    {a: [{b: 1}, 5, {}]}     1, MISSING (from {}); 5 gives nothing
    a.b    {a: 5}                   MISSING
    a.b    {a: []}                  nothing at all, so {"a.b": None} does not match, {"a.b": {"$exists": False}} does
    a.1    {a: [5, [2, 4]]}         [2, 4], not 2 and 4: an index does not open what it points to
    a.1    {a: [5, {"1": 4}]}       4, then {"1": 4}: a number is a key and an index

Arrays inside arrays are opened only by an index. Cost: one step a path part, times the elements of arrays on the way.

A number that is a key and an index goes two ways, and both may meet a number again: walked plainly, a path of n numbers has as many ways through
nested arrays as there are Fibonacci numbers. A winding path, one of more than NUMBERS_MAX numbers, therefore goes no two ways
through the same array with the same rest of the path: what the rest reaches there was shown already. It shows each value, but fewer times.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from ..errors import BadQuery

PATH_PARTS_MAX = 200  # fits a byte, see Seen
NO_INDEX = -1
REMEMBERED_LENGTH_MAX = 100
NUMBERS_MAX = 4


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


MISSING: Final = _Missing()
ABSENT: Final = _Absent()  # what a Locator answers for a value that does not pass
Test = Callable[[Any], bool]
Seen = set[int]  # arrays by identity, and the part of the path in the low byte: where a walk was and found nothing
Locator = Callable[[Any], Any]  # value -> place in an array, None (passes, without a place) or ABSENT


class Path:
    """A parsed path. `indexes` holds, for every part, the array position it names or NO_INDEX."""

    __slots__ = ("indexes", "is_winding", "parts")

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise BadQuery(f"a field name must be text, not {type(text).__name__}")
        if "\0" in text:
            raise BadQuery(f"field {text!r} must not hold NUL")
        self.parts = tuple(text.split("."))
        if len(self.parts) > PATH_PARTS_MAX:
            raise BadQuery(f"field {text[:40]!r}... has {len(self.parts)} parts, the limit is {PATH_PARTS_MAX}")
        self.indexes = tuple(map(_index, self.parts))
        self.is_winding = len(self.parts) - self.indexes.count(NO_INDEX) > NUMBERS_MAX

    def any_value(self, document: dict, test: Test) -> bool:
        """Whether the test holds for any value the path reaches."""
        return self._walked(test, opened(test))(document)

    def reaching(self, test: Test) -> Callable[[dict], bool]:
        """The predicate "any value the path reaches passes"; one part, the usual case, goes without the walk."""
        leaf = opened(test)
        if len(self.parts) > 1:
            return self._walked(test, leaf)
        name = self.parts[0]

        def matches(document: dict) -> bool:
            value = document.get(name, MISSING)
            return leaf(value) if type(value) is list else test(value)

        return matches

    def naming(self, test: Test) -> Callable[[dict], bool]:
        """The same, but an array that the path names is shown as a whole only. Arrays on the way are opened."""
        if len(self.parts) > 1:
            return self._walked(test, test)
        name = self.parts[0]
        return lambda document: test(document.get(name, MISSING))

    def locate(self, document: dict, test: Locator, leaf: Locator) -> int | None:
        """Where the first value stood that passes: its place in the outermost array that the path opened by itself.

        `test` and `leaf` (which sees the array that the path names) answer with a place, None (passes without one) or
        ABSENT. What an index of the path points to has that index.
        """
        return _locate_in_map(document, self, 0, test, leaf, set() if self.is_winding else None)

    def _walked(self, test: Test, leaf: Test) -> Callable[[dict], bool]:
        if not self.is_winding:
            return lambda document: _in_map(document, self, 0, test, leaf)
        place, leaf_place = without_place(test), without_place(leaf)
        return lambda document: _locate_in_map(document, self, 0, place, leaf_place, set()) is not ABSENT


def parsed_path(text: str) -> Path:
    """The path of a text; the same one again for short texts, which a filter of many branches repeats."""
    return _remembered(text) if isinstance(text, str) and len(text) <= REMEMBERED_LENGTH_MAX else Path(text)


_remembered = functools.lru_cache(maxsize=1024)(Path)


def opened(test: Test) -> Test:
    """What an array passes when one of its elements, or the whole array, passes the test."""
    return lambda array: any(map(test, array)) or test(array)


def without_place(test: Test) -> Locator:
    """The test as a Locator that knows no place."""
    return lambda value: None if test(value) else ABSENT


def _index(part: str) -> int:
    """Only the usual spelling is an index: "0" and "17", not "00" or "+1"."""
    if part.isascii() and part.isdigit() and len(part) <= 9 and (part == "0" or part[0] != "0"):
        return int(part)
    return NO_INDEX


def _in_map(value: Any, path: Path, at: int, test: Test, leaf: Test) -> bool:
    parts = path.parts
    while True:
        value = value.get(parts[at], MISSING)
        at += 1
        if type(value) is list:
            return _in_array(value, path, at, test, leaf)
        if at == len(parts):
            return test(value)
        if type(value) is not dict:
            return test(MISSING)


def _in_array(array: list, path: Path, at: int, test: Test, leaf: Test) -> bool:
    parts = path.parts
    if at == len(parts):
        return leaf(array)
    index = path.indexes[at]
    is_last = at + 1 == len(parts)
    for position, element in enumerate(array):
        kind = type(element)
        if kind is dict and _in_map(element, path, at, test, leaf):
            return True
        if position != index:
            continue
        if is_last:
            if test(element):
                return True
        elif kind is dict:
            if _in_map(element, path, at + 1, test, leaf):
                return True
        elif kind is list and _in_array(element, path, at + 1, test, leaf):
            return True
    return False


def _locate_in_map(value: Any, path: Path, at: int, test: Locator, leaf: Locator, seen: Seen | None) -> Any:
    parts = path.parts
    while True:
        value = value.get(parts[at], MISSING)
        at += 1
        if type(value) is list:
            return _locate_in_array(value, path, at, test, leaf, seen)
        if at == len(parts):
            return test(value)
        if type(value) is not dict:
            return test(MISSING)


def _locate_in_array(array: list, path: Path, at: int, test: Locator, leaf: Locator, seen: Seen | None) -> Any:
    parts = path.parts
    if at == len(parts):
        return leaf(array)
    if seen is not None:
        way = id(array) << 8 | at
        if way in seen:
            return ABSENT
        seen.add(way)
    index = path.indexes[at]
    is_last = at + 1 == len(parts)
    for position, element in enumerate(array):
        kind = type(element)
        if kind is dict and _locate_in_map(element, path, at, test, leaf, seen) is not ABSENT:
            return position
        if position != index:
            continue
        found: Any = ABSENT
        if is_last:
            found = ABSENT if test(element) is ABSENT else position
        elif kind is dict:
            found = _locate_in_map(element, path, at + 1, test, leaf, seen)
        elif kind is list:
            found = _locate_in_array(element, path, at + 1, test, leaf, seen)
        if found is not ABSENT:
            return found
    return ABSENT

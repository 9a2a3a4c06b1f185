"""What a regular expression requires of a text, so that an index of words can say which texts may match. Pure.

    required("foo ba[rz]+", "i")      And(Literal "foo bar" or Literal "foo baz")

A Need is Anything, a Literal, or And / Or of Needs. It never requires what a match need not have: a text that matches meets
it, whichever engine matches (RE2, the regex package or PCRE); a text that meets it need not match. So the pattern is read by
the syntax that these engines share, and whatever else it holds (look-around, back references, comments, free spacing, verbs,
fuzzy matching, set operations, octal and control escapes) makes the whole of it Anything. Case is ignored everywhere when
the pattern ignores it anywhere, and `^` and `$` count as line ends everywhere: both require less.

Reading is linear; at most NEED_LITERALS_MAX literals come out, larger needs are Anything, and so are patterns of more than
PATTERN_CHARS_MAX. No error: a pattern that no engine takes has some Need or other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from unicodedata import category

PATTERN_CHARS_MAX = 4_096
NESTING_MAX = 50
NEED_LITERALS_MAX = 64
ALTERNATIVES_MAX = 8  # strings that a part of a pattern may be, each tried in turn; a part with more is a gap
REPEATS_MAX = 8  # x{n} is written out up to here
STEPS_MAX = 20_000  # repeats inside repeats are written out too
REMEMBERED = 256  # patterns: every part of a query asks

_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_CLASSES = frozenset("dDwWsShHvVNRXC")  # escapes for some character; \R and \X for one or more
_MARKS = {"b": "b", "A": "^", "z": "$", "Z": "$", "B": "", "G": ""}  # escapes without width, by what they say of the text
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}
_FLAGS = frozenset("imsU-")


def fold_case(text: str) -> str:
    """Equal for all texts that an engine takes for one another when it ignores case, whichever engine.

    Unequal ones may become equal (ß is ss here): a superset is what is asked for. No character depends on its neighbours, so what
    a folded text holds can be searched in pieces; letters stay letters, and nothing else becomes one.
    """
    if text.isascii():
        return text.lower()
    return text.replace("İ", "i").replace("ẞ", "ß").upper().lower().replace("ς", "σ")


def folds_surely(char: str) -> bool:
    """Whether all engines can be held to fold_case for it: characters of which Python knows nothing may be newer letters, which
    an engine with newer tables takes for the other case of old ones. Letters that were there never change."""
    return char.isascii() or category(char) != "Cn"


class Edge(IntEnum):
    """What stands beside a literal's end in every text that matches."""

    FREE = 0  # anything
    WORD = 1  # the text's end, or a character that is no letter, digit or underscore of ASCII
    TERM = 2  # the text's or the line's end


@dataclass(frozen=True, slots=True)
class Anything:
    """Every text will do."""


@dataclass(frozen=True, slots=True)
class Literal:
    """The text holds these bytes (UTF-8), with such edges beside them. Ignoring case, the folded text holds them: they are folded
    themselves. Edges are of the text as it is."""

    text: bytes
    ignore_case: bool
    at_start: Edge
    at_end: Edge


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Need, ...]


Need = Anything | Literal | And | Or
ANYTHING = Anything()


@lru_cache(REMEMBERED)
def required(pattern: str, options: str = "") -> Need:
    """What every text that the pattern matches (anywhere in it) must have. options: letters as $options takes them."""
    if len(pattern) > PATTERN_CHARS_MAX or not set(options) <= set("imsu"):
        return ANYTHING
    reader = _Reader(pattern, ignore_case="i" in options)
    try:
        tree = reader.alternation(0)
        if reader.at < len(pattern):
            return ANYTHING
        need = _Gatherer(ignore_case=reader.ignore_case).need_of(tree)
    except (_NotRead, UnicodeEncodeError):
        return ANYTHING
    if reader.ignore_case and not all(map(folds_surely, pattern)):
        return ANYTHING
    return need if _literals(need) <= NEED_LITERALS_MAX else ANYTHING


def needles(need: Need) -> tuple[bytes, ...]:
    """Bytes that every text which meets the need contains, as it is written. None for what ignores case."""
    match need:
        case Literal() if not need.ignore_case:
            return (need.text,)
        case And(parts):
            return tuple(needle for part in parts for needle in needles(part))
    return ()


def _literals(need: Need) -> int:
    return sum(map(_literals, need.parts)) if isinstance(need, (And, Or)) else 1


class _NotRead(Exception):
    """The pattern holds what this reader does not know, or that engines read differently."""


# The pattern as a tree. A Choice of single characters is a small class; no choice at all is a gap.


@dataclass(frozen=True, slots=True)
class _Gap:
    """Some text, perhaps empty, of which nothing is known."""


@dataclass(frozen=True, slots=True)
class _Chars:
    """One of these characters."""

    chars: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Mark:
    """No width: "^", "$", "b" for a word's boundary, "" for what says nothing."""

    kind: str


@dataclass(frozen=True, slots=True)
class _Sequence:
    parts: Sequence[_Node]


@dataclass(frozen=True, slots=True)
class _Either:
    parts: Sequence[_Node]


_Node = _Gap | _Chars | _Mark | _Sequence | _Either
_GAP = _Gap()


class _Reader:
    """The pattern from left to right, by recursive descent."""

    def __init__(self, pattern: str, *, ignore_case: bool) -> None:
        self.pattern = pattern
        self.at = 0
        self.ignore_case = ignore_case

    def _peek(self, size: int = 1) -> str:
        return self.pattern[self.at : self.at + size]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise _NotRead
        self.at += 1
        return char

    def alternation(self, depth: int) -> _Node:
        if depth > NESTING_MAX:
            raise _NotRead
        branches = [self._sequence(depth)]
        while self._peek() == "|":
            self.at += 1
            branches.append(self._sequence(depth))
        return branches[0] if len(branches) == 1 else _Either(branches)

    def _sequence(self, depth: int) -> _Node:
        parts: list[_Node] = []
        while self._peek() and self._peek() not in "|)":
            parts.extend(self._repeated(self._item(depth)))
        return _Sequence(parts)

    def _item(self, depth: int) -> _Node:
        char = self._next()
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        if char == ".":
            return _GAP
        if char in "^$":
            return _Mark(char)
        if char in "*+?{":
            raise _NotRead
        return _Chars(char)

    def _group(self, depth: int) -> _Node:
        if self._peek() == "*":
            raise _NotRead
        if self._peek() == "?":
            self.at += 1
            if self._opening():
                return _Sequence(())
        inside = self.alternation(depth + 1)
        if self._next() != ")":
            raise _NotRead
        return inside

    def _opening(self) -> bool:
        """Reads past what makes the group special. True: it was flags alone, and closed."""
        if self._peek() in (":", ">"):
            self.at += 1
            return False
        name_from = 2 if self._peek(2) == "P<" else 1 if self._peek() == "<" and self._peek(2) not in ("<=", "<!") else 0
        if name_from:
            end = self.pattern.find(">", self.at)
            name = self.pattern[self.at + name_from : end]
            if end < 0 or not (name.isascii() and name.isidentifier()):
                raise _NotRead
            self.at = end + 1
            return False
        while (char := self._next()) not in ":)":
            if char not in _FLAGS:
                raise _NotRead
            self.ignore_case |= char == "i"
        return char == ")"

    def _escape(self) -> _Node:
        char = self._next()
        if char in _MARKS:
            return _Mark(_MARKS[char])
        if char in _CLASSES:
            return _GAP
        if char in "pP":
            self._property()
            return _GAP
        return _Chars(self._escaped_char(char))

    def _property(self) -> None:
        if self._next() == "{":
            end = self.pattern.find("}", self.at)
            if end < 0:
                raise _NotRead
            self.at = end + 1

    def _escaped_char(self, char: str) -> str:
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "x":
            digits = self._peek(2)
            if len(digits) == 2 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
                self.at += 2
                return chr(int(digits, 16))
            raise _NotRead
        if char in _WORD or not char.isascii():
            raise _NotRead
        return char

    def _class(self) -> _Node:
        """A class of few characters; all others are a gap."""
        chars: list[str] = []
        is_known = True
        if self._peek() == "^":
            self.at += 1
            is_known = False
        if self._peek() == "]":
            raise _NotRead
        while (char := self._next()) != "]":
            if char == "[" or (char in "&-|~" and self._peek() == char):
                raise _NotRead
            low = self._class_char(char)
            high = low
            if self._peek() == "-" and self._peek(2) != "-]":
                self.at += 1
                char = self._next()
                if char in "[]":
                    raise _NotRead
                high = self._class_char(char)
            if not low or not high or not is_known or ord(high) - ord(low) >= ALTERNATIVES_MAX:
                is_known = False
            else:
                chars.extend(chr(code) for code in range(ord(low), ord(high) + 1))
        chars = sorted(set(chars))
        return _Chars(chars) if is_known and 0 < len(chars) <= ALTERNATIVES_MAX else _GAP

    def _class_char(self, char: str) -> str:
        """The character, or "" for an escape that stands for several."""
        if char != "\\":
            return char
        char = self._next()
        if char in "pP":
            self._property()
            return ""
        if char in "dDwWsShHvV":
            return ""
        return self._escaped_char(char)

    def _repeated(self, node: _Node) -> Iterator[_Node]:
        """The node as often as what follows says: its first and last time stand beside what is before and behind."""
        bounds = self._quantifier()
        if bounds is None:
            yield node
            return
        if isinstance(node, _Mark):
            raise _NotRead
        least, most = bounds
        if self._peek() and self._peek() in "?+":  # lazy, possessive
            self.at += 1
        if self._peek() and self._peek() in "*+?{":
            raise _NotRead
        if least == most and least <= REPEATS_MAX:
            yield from [node] * least
        elif least == 0:
            yield _Either((_Sequence(()), node)) if most == 1 else _GAP
        elif least == 1:
            yield from (node, _GAP, node)
        else:
            yield from (node, node, _GAP, node, node)

    def _quantifier(self) -> tuple[int, int | None] | None:
        char = self._peek()
        if char and char in "*+?":
            self.at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        if char != "{":
            return None
        end = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at + 1 : end if end >= 0 else self.at + 1].partition(",")
        if not _is_count(low) or (high and not _is_count(high)):
            raise _NotRead
        self.at = end + 1
        return int(low), int(high) if high else None if comma else int(low)


def _is_count(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) <= 5


class _Gatherer:
    """Needs of a tree. Characters that stand beside each other are gathered into strings, each with its alternatives."""

    def __init__(self, *, ignore_case: bool) -> None:
        self.ignore_case = ignore_case
        self._steps = 0

    def need_of(self, node: _Node) -> Need:
        run = _Run(ignore_case=self.ignore_case)
        self._add(run, node)
        run.end(Edge.FREE)
        return run.need()

    def _add(self, run: _Run, node: _Node) -> None:
        self._step()
        match node:
            case _Chars(chars):
                run.extend(chars)
            case _Sequence(parts):
                for part in parts:
                    self._add(run, part)
            case _Either(parts):
                texts = self._texts(node)
                if texts is not None:
                    run.extend(texts)
                else:
                    run.end(Edge.FREE)
                    run.needs.append(_any([self.need_of(part) for part in parts]))
            case _Mark(kind):
                run.mark(kind)
            case _:
                run.end(Edge.FREE)

    def _texts(self, node: _Node) -> list[str] | None:
        """All strings that the node matches, where they are few and need nothing beside them."""
        self._step()
        match node:
            case _Chars(chars):
                return list(chars)
            case _Either(parts):
                texts: list[str] = []
                for part in parts:
                    of_part = self._texts(part)
                    if of_part is None or len(texts) + len(of_part) > ALTERNATIVES_MAX:
                        return None
                    texts += of_part
                return texts
            case _Sequence(parts):
                texts = [""]
                for part in parts:
                    of_part = self._texts(part)
                    if of_part is None or len(texts) * len(of_part) > ALTERNATIVES_MAX:
                        return None
                    texts = [text + more for text in texts for more in of_part]
                return texts
        return None

    def _step(self) -> None:
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise _NotRead


def _any(needs: list[Need]) -> Need:
    return ANYTHING if ANYTHING in needs else Or(tuple(needs))


class _Run:
    """Strings that grow to the right until something unknown ends them."""

    def __init__(self, *, ignore_case: bool) -> None:
        self.needs: list[Need] = []
        self._ignore_case = ignore_case
        self._begin(Edge.FREE)

    def _begin(self, at_start: Edge) -> None:
        self._texts = [""]
        self._at_start = at_start
        self._is_boundary = False  # whether a word's boundary is where the strings end

    def extend(self, choices: Sequence[str]) -> None:
        if len(self._texts) * len(choices) > ALTERNATIVES_MAX:
            self.end(Edge.FREE)
        self._is_boundary = False
        self._texts = [text + choice for text in self._texts for choice in choices]

    def mark(self, kind: str) -> None:
        if kind == "^":
            self.end(Edge.FREE)
            self._begin(Edge.TERM)
        elif kind == "$":
            self.end(Edge.TERM)
        elif kind == "b":
            if self._texts == [""]:
                self._at_start = max(self._at_start, Edge.WORD)
            else:
                self._is_boundary = "" not in self._texts

    def end(self, at_end: Edge) -> None:
        """What comes next is not known."""
        if at_end is Edge.FREE and self._is_boundary:
            at_end = Edge.WORD
        is_folded = self._ignore_case
        needs = [_literal(text, self._at_start, at_end, ignore_case=is_folded) for text in dict.fromkeys(self._texts)]
        need = needs[0] if len(needs) == 1 else _any(needs)
        if need != ANYTHING:
            self.needs.append(need)
        self._begin(Edge.FREE)

    def need(self) -> Need:
        needs = [need for need in dict.fromkeys(self.needs) if need != ANYTHING]
        return ANYTHING if not needs else needs[0] if len(needs) == 1 else And(tuple(needs))


def _literal(text: str, at_start: Edge, at_end: Edge, *, ignore_case: bool) -> Need:
    """A word's boundary says something about its other side only beside a word character of ASCII."""
    if at_start is Edge.WORD and text[:1] not in _WORD:
        at_start = Edge.FREE
    if at_end is Edge.WORD and text[-1:] not in _WORD:
        at_end = Edge.FREE
    return Literal((fold_case(text) if ignore_case else text).encode(), ignore_case, at_start, at_end) if text else ANYTHING

"""PCRE patterns, as MongoDB's users write them, in the words of the two engines that search. Pure; searches nothing.

    pattern, options ── translate ──> Translation(linear, exact, literal, ...)

    linear    for RE2: time proportional to the text. None where RE2 cannot say the same (back references, look-around,
              possessive quantifiers, `$` that something follows)
    exact     for the backtracking engine: all of it, but only under a time limit

The scanner knows every construct, so nothing reaches an engine with another meaning there: `\\w`, `\\d`, `\\s`, `\\b` are
ASCII, `$` and `\\Z` also stand before a final newline, `.` excludes only the newline, `\\v` and `\\h` are PCRE's, options
i m s x (and u, which changes nothing) also inline. What a boolean search cannot see is dropped: laziness, names of
groups, `\\K`. Recursion, conditions, callouts, verbs and `\\C` are refused by name. Costs: one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..errors import BadQuery
from .regex_classes import (
    CODE_POINT_MAX,
    SHORTHANDS,
    SURROGATES,
    complement,
    read_character,
    read_class,
    written,
    written_ranges,
)

BAD_PATTERN, BAD_OPTION = 51091, 51108
GROUPS_DEEP_MAX = 250
REPEAT_MAX = 65_535
OPTIONS = frozenset("imsxu")
_WORD_CLASS = "[" + written_ranges(SHORTHANDS["w"]) + "]"
_EXACT_BOUNDARY = f"(?-i:(?<={_WORD_CLASS})(?!{_WORD_CLASS})|(?<!{_WORD_CLASS})(?={_WORD_CLASS}))"
_EXACT_NO_BOUNDARY = f"(?-i:(?<={_WORD_CLASS})(?={_WORD_CLASS})|(?<!{_WORD_CLASS})(?!{_WORD_CLASS}))"
_EXACT_LINE_START = r"(?:\A|(?<=\n)(?!\Z))"
_LOOKS = ("?=", "?!", "?<=", "?<!", "?>")
_EXTENDED_SPACE = frozenset(" \t\n\v\f\r")


class Translation(NamedTuple):
    linear: str | None
    exact: str
    literal: str | None  # the whole pattern is this text, case and all
    at_start: bool  # ... and it must begin the text
    line_starts: bool  # `^` between lines: RE2 also finds it after a final newline, where PCRE does not


@dataclass(slots=True)
class _Group:
    """An open group: the flags outside it, and whether inline options opened an inner one that must be closed too."""

    flags: frozenset[str]
    place: int = -1  # of its opening bracket among the pieces
    wrapped: str = ""


def bad(pattern: str, why: str) -> BadQuery:
    return BadQuery(f"regular expression {pattern[:60]!r} is invalid: {why}", code=BAD_PATTERN)


def translate(pattern: str, options: str) -> Translation:
    """Raises BadQuery (51091 for the pattern, 51108 for an unknown option)."""
    unknown = set(options) - OPTIONS
    if unknown:
        raise BadQuery(f"regular expression option {min(unknown)!r} is not among i m s x", code=BAD_OPTION)
    return _Scanner(pattern, frozenset(options) - {"u"}).run()


class _Scanner:
    """One pass over a pattern. `linear` and `exact` grow in step: one piece each for every token in `kinds`."""

    def __init__(self, pattern: str, flags: frozenset[str]) -> None:
        self.pattern = pattern
        self.at = 0
        self.flags = flags
        self.linear: list[str] = []
        self.exact: list[str] = []
        self.kinds: list[str] = []  # "item", "open", "close", "or", "repeat", "end" (a `$` without option m)
        self.is_linear = True
        self.groups: list[_Group] = []
        self.root = _Group(flags)
        self.captures = 0
        self.names: set[str] = set()
        self.text: list[str] | None = None if "i" in flags else []
        self.at_start = False
        self.line_starts = False
        self.atom = -1  # where the last repeatable piece begins

    # -- the pass

    def run(self) -> Translation:
        pattern = self.pattern
        while self.at < len(pattern):
            character = pattern[self.at]
            self.at += 1
            if "x" in self.flags and character in _EXTENDED_SPACE:
                continue
            if "x" in self.flags and character == "#":
                end = pattern.find("\n", self.at)
                self.at = len(pattern) if end < 0 else end + 1
                continue
            self._take(character)
        if self.groups:
            raise self.bad("a group is not closed")
        prefix = "(?i)" if "i" in self.root.flags else ""
        end = ")" if self.root.wrapped else ""
        is_linear = self.is_linear and self._ends_are_last()
        return Translation(
            prefix + "".join(self.linear) + end if is_linear else None,
            prefix + "".join(self.exact) + end,
            None if self.text is None else "".join(self.text),
            self.at_start,
            self.line_starts,
        )

    def _take(self, character: str) -> None:
        if character == "\\":
            self._escape()
        elif character == "[":
            self.at, linear, exact = read_class(self.pattern, self.at, ignore_case="i" in self.flags, bad=self.bad)
            self._item(linear, exact)
        elif character == "(":
            self._open()
        elif character == ")":
            self._close()
        elif character == "|":
            self._alternative()
        elif character == ".":
            any_character = "(?s:.)" if "s" in self.flags else "[^\\n]"
            self._item(any_character, any_character)
        elif character == "^":
            self._caret()
        elif character == "$":
            if "m" in self.flags:
                self._place("(?m:$)", "(?m:$)")
            else:
                self._text_end()
        elif character in "*+?" or (character == "{" and self._counted_end() >= 0):
            self._repeat(character)
        else:
            self._literal(ord(character))

    def bad(self, why: str) -> BadQuery:
        return bad(self.pattern, why)

    def _add(self, kind: str, linear: str | None, exact: str) -> None:
        if linear is None:
            self.is_linear = False
        self.kinds.append(kind)
        self.linear.append(linear or "")
        self.exact.append(exact)

    def _item(self, linear: str | None, exact: str) -> None:
        self.text = None
        self.atom = len(self.kinds)
        self._add("item", linear, exact)

    def _place(self, linear: str, exact: str) -> None:
        """What takes no character cannot be repeated."""
        self._item(linear, exact)
        self.atom = -1

    def _literal(self, code: int) -> None:
        if code > CODE_POINT_MAX or SURROGATES[0] <= code <= SURROGATES[1]:
            raise self.bad(f"{code:#x} is no character")
        if self.text is not None:
            self.text.append(chr(code))
        self.atom = len(self.kinds)
        self._add("item", written(code), written(code))

    def _caret(self) -> None:
        if "m" in self.flags:
            self.line_starts = True
            self._place("(?m:^)", _EXACT_LINE_START)
        elif not self.kinds and self.text is not None:
            self.at_start = True
            self._add("item", "\\A", "\\A")
        else:
            self._place("\\A", "\\A")

    def _text_end(self) -> None:
        """`$` and `\\Z`: at the end, or before a newline that ends the text. RE2 has no look-ahead: it takes the newline,
        which is the same as long as nothing comes after."""
        self.text = None
        self.atom = -1
        self._add("end", "(?:\\n?\\z)", "(?=\\n?\\Z)")

    def _ends_are_last(self) -> bool:
        """Whether after every "end" the whole match is over: only closing brackets without a quantifier, and other
        alternatives, stand to its right."""
        kinds = self.kinds
        closes: list[int] = []  # right to left: the innermost open bracket's closing place is last
        over = [False] * len(kinds)
        for place in range(len(kinds) - 1, -1, -1):
            after = kinds[place + 1] if place + 1 < len(kinds) else ""
            if not after:
                over[place] = True
            elif after == "close":
                over[place] = over[place + 1] and (place + 2 >= len(kinds) or kinds[place + 2] != "repeat")
            elif after == "or":
                close = closes[-1] if closes else -1
                over[place] = close < 0 or (over[close] and (close + 1 >= len(kinds) or kinds[close + 1] != "repeat"))
            if kinds[place] == "close":
                closes.append(place)
            elif kinds[place] == "open" and closes:
                closes.pop()
            elif kinds[place] == "end" and not over[place]:
                return False
        return True

    # -- groups

    def _open(self) -> None:
        self.text = None
        rest = self.pattern[self.at : self.at + 3]
        if rest.startswith("*"):
            raise self.bad("verbs such as (*UCP) are not there")
        if rest.startswith("?#"):
            end = self.pattern.find(")", self.at)
            if end < 0:
                raise self.bad("a comment is not closed")
            self.at = end + 1
            return
        if not rest.startswith("?"):
            self.captures += 1
            self._enter("(?:", "(")
            return
        for look in _LOOKS:
            if rest.startswith(look):
                self.at += len(look)
                self._enter(None, "(" + look)
                return
        if rest.startswith(("?:", "?|")):
            self.at += 2
            self._enter("(?:", "(" + rest[:2])
        elif rest.startswith(("?<", "?'", "?P<")):
            self._named()
        elif rest.startswith("?P="):
            self.at += 3
            self._item(None, f"(?P={self._name(')')})")
        else:
            self._options()

    def _enter(self, linear: str | None, exact: str) -> None:
        if len(self.groups) >= GROUPS_DEEP_MAX:
            raise self.bad(f"groups nest deeper than {GROUPS_DEEP_MAX}")
        self.groups.append(_Group(self.flags, len(self.kinds)))
        self._add("open", linear, exact)
        self.atom = -1

    def _named(self) -> None:
        self.at += 3 if self.pattern.startswith("?P<", self.at) else 2
        name = self._name("'" if self.pattern[self.at - 1] == "'" else ">")
        if name in self.names:
            raise self.bad(f"two groups have the name {name!r}")
        self.names.add(name)
        self.captures += 1
        self._enter("(?:", f"(?P<{name}>")

    def _name(self, end: str) -> str:
        close = self.pattern.find(end, self.at)
        name = self.pattern[self.at : close] if close >= 0 else ""
        if not name.isascii() or not name.isidentifier():
            raise self.bad("a group's name must be letters, digits and underscores, not beginning with a digit")
        self.at = close + 1
        return name

    def _options(self) -> None:
        """`(?i-m)` to the end of the group, `(?i-m:...)` for its own."""
        start = self.at + 1
        self.at = start
        flags, removing = set(self.flags), False
        while self.at < len(self.pattern) and self.pattern[self.at] not in ":)":
            letter = self.pattern[self.at]
            self.at += 1
            if letter == "-":
                removing = True
            elif letter == "^":
                flags -= {"i", "m", "s", "x"}
            elif letter in "imsx":
                (flags.discard if removing else flags.add)(letter)
            elif letter not in "UJ":  # greediness and double names are of no account here
                known = letter in "R0123456789&(C+P"
                raise self.bad("recursion, conditions and callouts are not there" if known else f"(?{letter} is unknown")
        if self.at >= len(self.pattern):
            raise self.bad("a group is not closed")
        self.at += 1
        wrapper = "(?i:" if "i" in flags else "(?-i:"
        if self.pattern[self.at - 1] == ":":
            self._enter(wrapper, wrapper)
            self.flags = frozenset(flags)
            return
        group = self.groups[-1] if self.groups else self.root
        self.flags = frozenset(flags)
        piece = (")" if group.wrapped else "") + wrapper
        group.wrapped = wrapper
        self._add("item", piece, piece)
        self.atom = -1

    def _close(self) -> None:
        if not self.groups:
            raise self.bad("a closing bracket has no opening one")
        group = self.groups.pop()
        self.flags = group.flags
        piece = "))" if group.wrapped else ")"
        self._add("close", piece, piece)
        self.atom = group.place

    def _alternative(self) -> None:
        self.text = None
        group = self.groups[-1] if self.groups else self.root
        piece = f")|{group.wrapped}" if group.wrapped else "|"
        self._add("or", piece, piece)
        self.atom = -1

    # -- quantifiers

    def _counted_end(self) -> int:
        """Where {n}, {n,} or {n,m} ends, self.at being after its brace; -1: the brace is a literal."""
        end = self.pattern.find("}", self.at, self.at + 13)
        low, comma, high = self.pattern[self.at : max(end, self.at)].partition(",")
        fits = low.isascii() and low.isdigit() and (not high or (high.isascii() and high.isdigit()))
        return end if end >= 0 and fits and (comma or not high) else -1

    def _repeat(self, character: str) -> None:
        self.text = None
        if self.atom < 0:
            raise self.bad(f"{character} has nothing to repeat")
        quantifier = character
        if character == "{":
            end = self._counted_end()
            low, _, high = self.pattern[self.at : end].partition(",")
            if int(low) > REPEAT_MAX or (high and (int(high) > REPEAT_MAX or int(high) < int(low))):
                raise self.bad(f"the bounds in {{{self.pattern[self.at : end]}}} must ascend and be at most {REPEAT_MAX}")
            quantifier += self.pattern[self.at : end + 1]
            self.at = end + 1
        mode = self.pattern[self.at : self.at + 1]
        if mode in ("?", "+"):
            self.at += 1
        self.atom = -1  # PCRE repeats no repetition
        self._add("repeat", None if mode == "+" else quantifier, quantifier + (mode if mode in ("?", "+") else ""))

    # -- escapes

    def _escape(self) -> None:
        if self.at >= len(self.pattern):
            raise self.bad("it ends with a backslash")
        letter = self.pattern[self.at]
        self.at += 1
        if letter == "Q":
            self._quoted()
        elif letter == "E":
            return
        elif letter in SHORTHANDS:
            piece = f"(?-i:[{written_ranges(SHORTHANDS[letter])}])"
            if letter in "DWSHVN":
                piece = f"(?-i:[^{written_ranges(complement(SHORTHANDS[letter]))}])"
            self._item(piece, piece)
        elif letter in "bBAzZGKXR":
            self._position(letter)
        elif letter in "pP":
            self._property(letter)
        elif letter in "kg":
            self._named_reference(letter)
        elif "1" <= letter <= "9":
            self._reference()
        elif letter == "C":
            raise self.bad("\\C (a single byte) is not there")
        else:
            self.at, code = read_character(self.pattern, self.at - 1, self.bad)
            self._literal(code)

    def _quoted(self) -> None:
        end = self.pattern.find("\\E", self.at)
        quoted = self.pattern[self.at :] if end < 0 else self.pattern[self.at : end]
        self.at = len(self.pattern) if end < 0 else end + 2
        for character in quoted:
            self._literal(ord(character))

    def _position(self, letter: str) -> None:
        if letter == "Z":
            self._text_end()
            return
        if letter == "X":
            self._item(None, "\\X")
            return
        if letter == "R":
            self._item(None, "(?>\\r\\n|[\\n-\\r\\x85\\u2028\\u2029])")
            return
        pieces = {
            "b": ("(?-i:\\b)", _EXACT_BOUNDARY),
            "B": ("(?-i:\\B)", _EXACT_NO_BOUNDARY),
            "A": ("\\A", "\\A"),
            "z": ("\\z", "\\Z"),
            "G": ("\\A", "\\A"),  # a search begins at the start of the text
            "K": ("(?:)", "(?:)"),  # moves the start of the match, which nobody sees
        }
        self._place(*pieces[letter])

    def _property(self, letter: str) -> None:
        name = self.pattern[self.at : self.at + 1]
        self.at += 1
        if name == "{":
            end = self.pattern.find("}", self.at)
            name = self.pattern[self.at : max(end, self.at)]
            self.at = end + 1
        if not name or not name.replace("_", "").replace("&", "").lstrip("^").isalnum():
            raise self.bad(f"\\{letter} needs the name of a Unicode property")
        piece = f"(?-i:\\{letter}{{{name}}})"
        self._item(piece, piece)

    def _reference(self) -> None:
        """\\1 to \\9 are back references, longer numbers are when there are so many groups; else octal."""
        start = self.at - 1
        end = start
        while end < len(self.pattern) and self.pattern[end] in "0123456789":
            end += 1
        number = int(self.pattern[start:end][:6])
        if number < 10 or number <= self.captures:
            self.at = end
            self._refer(number)
            return
        octal = self.pattern[start : min(end, start + 3)]
        if not set(octal) <= set("01234567"):
            raise self.bad(f"there is no group {number}")
        self.at = start + len(octal)
        self._literal(int(octal, 8))

    def _refer(self, number: int) -> None:
        if not 1 <= number <= self.captures:
            raise self.bad(f"there is no group {number} before its reference")
        self._item(None, f"(?:\\{number})")

    def _named_reference(self, letter: str) -> None:
        opening = self.pattern[self.at : self.at + 1]
        if letter == "g" and opening in ("<", "'"):
            raise self.bad("recursion is not there")
        if letter == "k" or opening == "{":
            end = {"<": ">", "'": "'", "{": "}"}.get(opening)
            if end is None:
                raise self.bad(f"\\{letter} needs a group's name")
            self.at += 1
            inner = self.pattern[self.at : self.pattern.find(end, self.at)]
            if letter == "k" or not inner.lstrip("-").isdigit():
                self._item(None, f"(?P={self._name(end)})")
                return
            self.at += len(inner) + 1
        else:
            inner = opening
            self.at += 1
        if not inner.lstrip("-").isdigit() or len(inner) > 6:
            raise self.bad("\\g needs a group's number")
        self._refer(int(inner) if int(inner) > 0 else self.captures + 1 + int(inner))


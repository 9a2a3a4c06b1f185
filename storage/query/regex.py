"""Regular expressions over text, in bounded time. Pure but for the two search engines.

    compile_regex(pattern, options) -> Matcher         Matcher.search(text) -> bool

    a literal       found by Python's own search
    RE2             whatever it can say with PCRE's meaning: time proportional to the text, whatever the pattern
    backtracking    the rest (back references, look-around, ...), stopped after SECONDS_MAX a text by a named error

"regex_syntax" puts the pattern in the engines' words. Python's `re` is never used: nothing could stop it.

INV-8: patterns, RE2's memory, the work of one search and the number of compiled patterns kept are bounded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import re2
import regex

from ..errors import BadQuery
from .regex_syntax import Translation, bad, translate

PATTERN_BYTES_MAX = 32_764
TEXT_BYTES_MAX = 16 * 2**20
EXACT_PATTERN_MAX = 4_096  # the backtracking engine compiles slowly
RE2_BYTES_MAX = 2**20
# Program size times text: what RE2 does at worst, 4 ns a step, when its cache of states overflows. Usual patterns are
# small and never get there.
RE2_STEPS_MAX = 10**8
RE2_SMALL_PROGRAM = 64
SECONDS_MAX = 0.05
COMPILED_MAX = 128  # at most RE2_BYTES_MAX each, twice over
STOPPED = 51156  # MongoDB's code for an expression that failed while it was searched for
TOO_LONG = 2


class Matcher:
    """A compiled regular expression. Equal patterns with equal options are one matcher."""

    __slots__ = ("_exact", "is_slow", "options", "pattern", "search")

    def __init__(self, pattern: str, options: str) -> None:
        """Raises BadQuery."""
        self.pattern = pattern
        self.options = "".join(sorted(set(options)))
        self._exact: regex.Pattern | None = None
        found = translate(pattern, options)
        quick = self._literal_search(found) or self._linear_search(found)
        self.is_slow = quick is None  # a text may take SECONDS_MAX
        self.search: Callable[[str], bool] = quick or self._stopped_search(found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matcher) and (self.pattern, self.options) == (other.pattern, other.options)

    def __hash__(self) -> int:
        return hash((self.pattern, self.options))

    def __repr__(self) -> str:
        return f"Matcher({self.pattern!r}, {self.options!r})"

    def _literal_search(self, found: Translation) -> Callable[[str], bool] | None:
        text = found.literal
        if text is None:
            return None
        if found.at_start:
            return lambda value: value.startswith(text)
        return lambda value: text in value

    def _linear_search(self, found: Translation) -> Callable[[str], bool] | None:
        compiled = _compile_linear(found.linear)
        if compiled is None:
            return None
        search = compiled.search
        size = compiled.programsize
        bytes_max = TEXT_BYTES_MAX if size <= RE2_SMALL_PROGRAM else RE2_STEPS_MAX // size

        def matches(text: str) -> bool:
            data = text.encode()
            if len(data) > bytes_max:
                return self._exactly(found, text)
            if search(data) is None:
                return False
            # RE2 finds a line's start after a final newline, where PCRE does not.
            return not (found.line_starts and data.endswith(b"\n")) or self._exactly(found, text)

        return matches

    def _stopped_search(self, found: Translation) -> Callable[[str], bool]:
        self._exact = self._compile_exact(found)
        return lambda text: self._exactly(found, text)

    def _exactly(self, found: Translation, text: str) -> bool:
        if self._exact is None:
            self._exact = self._compile_exact(found)
        try:
            return self._exact.search(text, timeout=SECONDS_MAX, concurrent=True) is not None
        except (TimeoutError, MemoryError):
            raise BadQuery(
                f"regular expression {self.pattern[:60]!r} needs more than {SECONDS_MAX * 1000:.0f} ms for one text; "
                "write it without nested repetitions, back references and look-around",
                code=STOPPED,
            ) from None

    def _compile_exact(self, found: Translation) -> regex.Pattern:
        if len(self.pattern) > EXACT_PATTERN_MAX:
            raise bad(self.pattern, f"with what it uses it may have {EXACT_PATTERN_MAX} characters, it has {len(self.pattern)}")
        try:
            return regex.compile(found.exact, cache_pattern=False)
        except regex.error as cause:
            raise bad(self.pattern, str(cause).partition(" at position")[0]) from None
        except (RecursionError, OverflowError, MemoryError, ValueError):
            raise bad(self.pattern, "it is too large") from None


def compile_regex(pattern: str, options: str = "") -> Matcher:
    """The matcher of a PCRE pattern with options among i m s x u. Raises BadQuery: 51091 for a bad pattern, 51108 for an
    unknown option, 2 for one that is too long or holds NUL. Its search raises 51156 when it takes too long."""
    if "\0" in pattern or "\0" in options:
        raise BadQuery("a regular expression must not hold NUL; write \\x00")
    try:
        size = len(pattern.encode())
    except UnicodeEncodeError:
        raise bad(pattern, "it must be valid Unicode, without lone surrogates") from None
    if size > PATTERN_BYTES_MAX:
        raise BadQuery(f"a regular expression of {size} bytes is too long, the limit is {PATTERN_BYTES_MAX}", code=TOO_LONG)
    return _compiled(pattern, options)


_compiled = functools.lru_cache(maxsize=COMPILED_MAX)(Matcher)


def _compile_linear(pattern: str | None) -> Any:
    """None when RE2 cannot take it: an unknown property, more repetitions than its memory allows."""
    if pattern is None:
        return None
    options = re2.Options()
    options.max_mem = RE2_BYTES_MAX
    options.never_capture = True
    options.log_errors = False
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error:
        return None

"""Expressions with regular expressions: $regexMatch $regexFind $regexFindAll. Pure.

$regexMatch asks regex.py, as filters do. The other two must know where a match stands and what its groups caught, which takes the
backtracking engine: each text has SECONDS_MAX for all its matches, then the query is refused. Positions count code points.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import regex
from bson import Regex

from ..errors import BadQuery
from ..values.extensions import regex_parts
from .expression_operands import Compiled, Constant, Make, Scope, is_nullish, named
from .regex import EXACT_PATTERN_MAX, SECONDS_MAX, STOPPED, compile_regex
from .regex_syntax import translate
from .type_names import type_name

MATCHES_MAX = 100_000  # of one $regexFindAll on one text
_COMPILED_MAX = 256
_LETTERS = frozenset("imsxu")


def _matching(answer: Callable[[str, str, str], Any], absent: Any) -> Make:
    """absent: the answer for a text or pattern that is null or missing."""

    def make(name: str, argument: Any, scope: Scope) -> Compiled:
        for key, code in (("input", 31022), ("regex", 31023)):
            if isinstance(argument, Mapping) and key not in argument:
                raise BadQuery(f"{name} needs the argument {key!r}", code=code)
        parts = named(
            name, argument, scope, required=("input", "regex"), optional=("options",), code=51103, unknown_code=31024
        )
        source, pattern, options = parts["input"], parts["regex"], parts.get("options", Constant(None))
        fixed = None
        if isinstance(pattern, Constant) and isinstance(options, Constant):
            fixed = _pattern(name, pattern.value, options.value)
            if fixed is not None:
                compile_regex(*fixed)

        def evaluate(root: dict, variables: dict) -> Any:
            text = source(root, variables)
            if not is_nullish(text) and type(text) is not str:
                raise BadQuery(f"{name}: input must be text, not {type_name(text)}", code=51104)
            found = fixed or _pattern(name, pattern(root, variables), options(root, variables))
            if is_nullish(text) or found is None:
                return list(absent) if type(absent) is list else absent
            return answer(text, *found)

        return evaluate

    return make


def _pattern(name: str, pattern: Any, options: Any) -> tuple[str, str] | None:
    """(pattern, option letters), or None for a pattern that is null or missing."""
    if not is_nullish(options) and type(options) is not str:
        raise BadQuery(f"{name}: options must be text, not {type_name(options)}", code=51106)
    if is_nullish(pattern):
        return None
    letters = options or "" if not is_nullish(options) else ""
    if isinstance(pattern, (Regex, re.Pattern)):
        text, own = regex_parts(pattern)
        own = "".join(letter for letter in own if letter in _LETTERS)
        if own.replace("u", "") and letters:
            raise BadQuery(f"{name}: options stand in the regex and beside it; give them once", code=51107)
        pattern, letters = text, letters or own
    if type(pattern) is not str:
        raise BadQuery(f"{name}: regex must be text or a regular expression, not {type_name(pattern)}", code=51105)
    if "\0" in pattern:
        raise BadQuery(f"{name}: regex must not hold NUL", code=51109)
    for letter in letters:
        if letter not in _LETTERS:
            raise BadQuery(f"{name}: unknown option {letter!r}; there are i, m, s, x", code=51108)
    return pattern, letters


@functools.lru_cache(maxsize=_COMPILED_MAX)
def _backtracking(pattern: str, letters: str) -> regex.Pattern:
    compile_regex(pattern, letters)  # the limits and refusals of filters hold here too
    if len(pattern) > EXACT_PATTERN_MAX:
        raise BadQuery(f"a regular expression whose matches are wanted may have {EXACT_PATTERN_MAX} characters", code=51111)
    try:
        return regex.compile(translate(pattern, letters).exact, cache_pattern=False)
    except (regex.error, RecursionError, OverflowError, MemoryError, ValueError) as cause:
        raise BadQuery(f"regular expression {pattern[:60]!r} is not valid: {cause}", code=51111) from None


def _matches(text: str, pattern: str, letters: str) -> Iterator[dict[str, Any]]:
    compiled = _backtracking(pattern, letters)
    try:
        for number, found in enumerate(compiled.finditer(text, timeout=SECONDS_MAX)):
            if number == MATCHES_MAX:
                raise BadQuery(f"$regexFindAll found more than {MATCHES_MAX} matches in one text", code=51151)
            yield {"match": found.group(), "idx": found.start(), "captures": list(found.groups())}
    except (TimeoutError, MemoryError):
        raise BadQuery(
            f"regular expression {pattern[:80]!r} took longer than {SECONDS_MAX * 1000:.0f} ms on one text; make it simpler", code=STOPPED
        ) from None


OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$regexMatch": _matching(lambda text, pattern, letters: compile_regex(pattern, letters).search(text), absent=False),
        "$regexFind": _matching(lambda *given: next(_matches(*given), None), absent=None),
        "$regexFindAll": _matching(lambda *given: list(_matches(*given)), absent=[]),
    }
)

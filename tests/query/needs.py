"""Whether a text meets a Need, told directly from what storage/query/literals.py says of Needs: the model for its tests.
Words' edges are not looked at where case is ignored: tests/fields/test_candidates.py has them."""

from __future__ import annotations

import re

from storage.query.literals import And, Anything, Edge, Literal, Need, Or, fold_case

BEFORE = {Edge.FREE: b"", Edge.WORD: rb"(?<![A-Za-z0-9_])", Edge.TERM: rb"(?:\A|(?<=\n))"}
BEHIND = {Edge.FREE: b"", Edge.WORD: rb"(?![A-Za-z0-9_])", Edge.TERM: rb"(?:\Z|(?=\n))"}


def is_met(need: Need, text: str) -> bool:
    match need:
        case Anything():
            return True
        case And(parts):
            return all(is_met(part, text) for part in parts)
        case Or(parts):
            return any(is_met(part, text) for part in parts)
    return _holds(need, text)


def _holds(literal: Literal, text: str) -> bool:
    if not literal.ignore_case:
        return re.search(BEFORE[literal.at_start] + re.escape(literal.text) + BEHIND[literal.at_end], text.encode()) is not None
    before, behind = (Edge.TERM if edge is Edge.TERM else Edge.FREE for edge in (literal.at_start, literal.at_end))
    return re.search(BEFORE[before] + re.escape(literal.text) + BEHIND[behind], fold_case(text).encode()) is not None

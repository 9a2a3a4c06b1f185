"""Clauses: a filter's parsed form as two row sets of one part. Pure.

    may     rows that match, and perhaps others
    must    rows that match for certain

    needles bytes that a document which matches contains, so that what an index of words only guessed at need not be decoded

Both sets are exact, so negation is plain: what must not match may not, and the other way round. A clause is exact when may
is must; then no document needs to be read to know what matches. A field without an index, `$expr` and all else that only a
document can answer is (everything, nothing).

Cost: some 10 µs a condition and part.
"""

from __future__ import annotations

from typing import NamedTuple

from ..fields.candidates import candidates
from ..fields.column import Column
from ..fields.values import Kind
from ..query.literals import needles, required
from ..query.tree import Always, And, Never, Node, Nor, Not, Or, Test, Whole
from .conditions import codes_passing
from .parts import SCALE, Part, Scale
from .rowsets import (
    Everything,
    Listed,
    Nothing,
    Ranges,
    RowSet,
    Worded,
    coded,
    complement,
    intersection,
    union,
)

NEEDLES_MAX = 16  # of one filter: each is searched for in every document
_ELEMENT_OPERATORS = frozenset({"$eq", "$in", "$gt", "$gte", "$lt", "$lte", "$regex"})
_OPERATORS_OF_KINDS = frozenset({"$exists", "$type", "$size"})  # what they ask needs no values


class Clause(NamedTuple):
    """See the module."""

    may: RowSet
    must: RowSet
    needles: tuple[bytes, ...] = ()  # what the document of every row that matches contains

    @property
    def is_exact(self) -> bool:
        return self.may is self.must


def clause_of(node: Node, part: Part, scale: Scale = SCALE) -> Clause:
    """The clause of a filter for one part."""
    match node:
        case Test():
            return _test(node, part, scale)
        case And(parts):
            return _all(parts, part, scale)
        case Or(parts):
            return _any([clause_of(child, part, scale) for child in parts], part.rows)
        case Nor(parts):
            return _not(_any([clause_of(child, part, scale) for child in parts], part.rows), part.rows)
        case Not(child):
            return _not(clause_of(child, part, scale), part.rows)
        case Always():
            return _exactly(Everything(part.rows))
        case Never():
            return _exactly(Nothing())
        case Whole():
            return _unknown(part.rows)
    raise AssertionError(f"no node of a filter: {node!r}")


def has_pattern(node: Node) -> bool:
    """Whether a regular expression stands anywhere in a filter."""
    match node:
        case Test():
            return node.op == "$regex"
        case And(parts) | Or(parts) | Nor(parts):
            return any(map(has_pattern, parts))
        case Not(child):
            return has_pattern(child)
    return False


def _exactly(rows: RowSet) -> Clause:
    return Clause(rows, rows)


def _unknown(rows: int) -> Clause:
    return Clause(Everything(rows), Nothing())


def _any(clauses: list[Clause], rows: int) -> Clause:
    may = union([clause.may for clause in clauses], rows)
    if all(clause.is_exact for clause in clauses):
        return Clause(may, may)
    return Clause(may, union([clause.must for clause in clauses], rows))


def _not(clause: Clause, rows: int) -> Clause:
    may = complement(clause.must, rows)
    return Clause(may, may if clause.is_exact else complement(clause.may, rows))


def _both(clauses: list[Clause], rows: int) -> Clause:
    may = intersection([clause.may for clause in clauses], rows)
    if all(clause.is_exact for clause in clauses):
        return Clause(may, may)
    needles = tuple(needle for clause in clauses for needle in clause.needles)[:NEEDLES_MAX]
    return Clause(may, intersection([clause.must for clause in clauses], rows), needles)


def _all(nodes: tuple[Node, ...], part: Part, scale: Scale) -> Clause:
    """Ranges on one field are intersected as ranges, also where a few rows have several entries."""
    ranges: dict[str, tuple[Column, list[tuple[Ranges, Ranges]]]] = {}
    clauses: list[Clause] = []
    for node in nodes:
        column = part.column(node.path) if isinstance(node, Test) and node.path is not None else None
        if column is None or not 0 < len(column.many) <= scale.many_unsure or node.op == "$elemMatch":
            clauses.append(clause_of(node, part, scale))
            continue
        passing = codes_passing(node, column, scale)
        if passing is None or not _is_wide(passing[0], column):
            clauses.append(clause_of(node, part, scale))
            continue
        ranges.setdefault(node.path, (column, []))[1].append(passing)
    for column, found in ranges.values():
        clauses.append(_ranged(column, found) if len(found) > 1 else _passing(found[0], column))
    return _both(clauses, part.rows)


def _is_wide(ranges: Ranges, column: Column) -> bool:
    return sum(hi - lo for lo, hi in ranges) > 1 and sum(column.posting_count(lo, hi) for lo, hi in ranges) > len(column.many)


def _ranged(column: Column, found: list[tuple[Ranges, Ranges]]) -> Clause:
    """Several ranges on a field where rows may have several entries: an entry in all of them settles it, and different entries in
    each are possible only in rows that have several."""
    may, must = (coded(column, _common([passing[side] for passing in found])) for side in (0, 1))
    return Clause(union([may, Listed(column.many)], column.rows), must)


def _common(ranges: list[Ranges]) -> Ranges:
    first, *others = ranges
    for other in others:
        first = [(max(a, c), min(b, d)) for a, b in first for c, d in other if max(a, c) < min(b, d)]
    return first


def _test(test: Test, part: Part, scale: Scale) -> Clause:
    if test.path is None:
        return _unknown(part.rows)
    column = part.column(test.path)
    if column is None and test.op in _OPERATORS_OF_KINDS:
        column = part.kinds(test.path)
    if test.op == "$elemMatch":
        return _element(test, part, column, scale)
    if test.op == "$regex":
        return _pattern(test, part, column, scale)
    passing = codes_passing(test, column, scale) if column is not None else None
    return _unknown(part.rows) if passing is None else _passing(passing, column)


def _passing(passing: tuple[Ranges, Ranges], column: Column) -> Clause:
    may = coded(column, passing[0])
    return Clause(may, may if passing[0] is passing[1] else coded(column, passing[1]))


def _pattern(test: Test, part: Part, column: Column | None, scale: Scale) -> Clause:
    """By trying it on the distinct strings, or by the words that it needs."""
    clause = _unknown(part.rows)
    if column is not None:
        clause = _passing(codes_passing(test, column, scale), column)
        if clause.is_exact or clause.must.estimate:
            return clause
    kinds = part.kinds(test.path)
    if kinds is None:
        return clause
    need = required(test.argument.pattern, test.argument.options)
    regexes = kinds.kind_range(Kind.REGEX)  # as values they are equal to a pattern or not, whatever it would find in their text
    if regexes[0] == regexes[1]:
        clause = clause._replace(needles=needles(need))
    text = part.text(test.path)
    if text is None:
        return clause
    found = candidates(text, need, part.rows)
    if found.estimate >= part.rows:
        return clause
    words: RowSet = Worded(found, part.rows, scale.candidates_at_once)
    return clause._replace(may=union([words, coded(kinds, [regexes])], part.rows), must=Nothing())


def _element(test: Test, part: Part, column: Column | None, scale: Scale) -> Clause:
    """Only arrays can pass, and only those with an entry for every condition on the elements that an index knows."""
    may: list[RowSet] = []
    if column is not None:
        may.append(coded(column, [column.kind_range(Kind.ARRAY)]))
    inner = test.parts
    for node in inner.parts if isinstance(inner, And) else (inner,):
        if not isinstance(node, Test) or node.op not in _ELEMENT_OPERATORS or _sees_null(node):
            continue
        path = inner_path(test.path, node.path)
        if path is not None:
            may.append(_test(Test(path, node.op, node.argument, node.parts), part, scale).may)
    return Clause(intersection(may, part.rows), Nothing())


def _sees_null(test: Test) -> bool:
    return test.argument is None or (test.op == "$in" and None in test.argument)


def inner_path(outer: str, inner: str | None) -> str | None:
    """The path, from the document, of what is asked of the elements; None where elements are reached otherwise than from it."""
    if inner is None:
        return outer
    return None if any(name.isdigit() for name in inner.split(".")) else f"{outer}.{inner}"

"""Expressions: MongoDB's aggregation expressions, compiled once, then applied to each document. Pure.

    compile_expression(spec) ──> evaluate(root, variables) ──> a value, or MISSING where there is none

    "$a.b"           a field of the document; arrays on the way give the array of what their maps hold (an index does not open them)
    "$$name.b"       a variable: ROOT, CURRENT, NOW, REMOVE (MISSING), or one of the user's ($let, $map, $lookup's let, ...)
    {"$op": ...}     an operator; the families stand in expression_*.py, each with its table
    {"a": ..., ...}  a map of expressions; fields that come out MISSING are left out
    [..., ...]       an array of expressions; what comes out MISSING is null
    anything else    itself

`variables` holds what the caller knows: "NOW" (a date), "CLUSTER_TIME", and the user's variables by their names without "$$". The root
document is given beside them. A variable that is nobody's is refused when compiling, with code 17276.

Cost: a few hundred nanoseconds an operator and document. Runs out of nothing: nesting is bounded, and what an operator builds is bounded
by the families.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ..errors import BadDocument, BadQuery
from ..values.documents import decode_value, encode_value
from . import (
    expression_arithmetic,
    expression_arrays,
    expression_calendar,
    expression_conditions,
    expression_dates,
    expression_loops,
    expression_matching,
    expression_objects,
    expression_sets,
    expression_statistics,
    expression_strings,
    expression_types,
)
from .expression_operands import Compiled, Constant, Make, Scope, is_true, named_specs, operands, reached
from .growth import measured, references
from .paths import MISSING, PATH_PARTS_MAX

__all__ = ["Compiled", "compile_expression", "is_true"]
_SYSTEM_NAMES = frozenset(("ROOT", "CURRENT", "NOW", "CLUSTER_TIME", "REMOVE"))
_PLAIN = frozenset((str, int, float, bool, type(None), bytes))


def compile_expression(spec: Any, names: Iterable[str] = ()) -> Compiled:
    """What computes the expression's value for (root document, variables). names: the user's variables that will be given.

    Raises BadQuery here for what is wrong with the expression, and when evaluating for what is wrong with a document's values."""
    try:
        compiled = scope_of(names).compile(spec)
    except RecursionError:
        raise BadQuery("the expression nests too deep; cut it into several stages") from None
    return compiled if isinstance(compiled, Constant) else _guarded(compiled)


def scope_of(names: Iterable[str] = ()) -> Scope:
    """A place where the user's variables of these names are known, for stages that compile many expressions."""
    return Scope(_compile, frozenset(names))


UNSTORABLE = (RecursionError, OverflowError, BadDocument)  # what values that an expression has made may lead to


def refusal(cause: Exception) -> BadQuery:
    """The refusal for one of UNSTORABLE."""
    if isinstance(cause, RecursionError):
        return BadQuery("an expression made a value that nests too deep")
    return BadQuery(f"an expression made a value that no document can hold: {cause}")


def _guarded(compiled: Compiled) -> Compiled:
    def evaluate(root: dict, variables: dict) -> Any:
        try:
            return compiled(root, variables)
        except UNSTORABLE as cause:
            raise refusal(cause) from None

    return evaluate


def _compile(spec: Any, scope: Scope) -> Compiled:
    if type(spec) is str:
        if not spec.startswith("$"):
            return Constant(spec)
        return _variable(spec[2:], scope) if spec.startswith("$$") else _field(spec[1:])
    if isinstance(spec, Mapping):
        first = next(iter(spec), "")
        if isinstance(first, str) and first.startswith("$"):
            return _operator(spec, first, scope)
        return _map(spec, scope)
    if isinstance(spec, (list, tuple)):
        return _array([scope.compile(part) for part in spec])
    return Constant(constant(spec))


def constant(spec: Any) -> Any:
    """A literal as documents hold it once decoded. Raises BadQuery for what they cannot hold."""
    if type(spec) in _PLAIN:
        return spec
    try:
        return decode_value(encode_value(spec))
    except BadDocument as cause:
        raise BadQuery(f"a literal cannot be used: {cause.message}") from None


def _operator(spec: Mapping[str, Any], name: str, scope: Scope) -> Compiled:
    if len(spec) != 1:
        raise BadQuery(f"{name} must be the only key of its map, which has {len(spec)}: an operator stands alone", code=15983)
    make = _OPERATORS.get(name)
    if make is None:
        reason = _REFUSED.get(name)
        raise BadQuery(reason or f"unknown expression operator {name}", code=168, operator=name)
    return make(name, spec[name], scope)


def _map(spec: Mapping[str, Any], scope: Scope) -> Compiled:
    for name in spec:
        check_field_name(name)
    parts = [(name, scope.compile(part)) for name, part in spec.items()]
    if all(isinstance(part, Constant) for _, part in parts):
        return Constant({name: part.value for name, part in parts if part.value is not MISSING})

    def evaluate(root: dict, variables: dict) -> dict:
        found = {}
        for name, part in parts:
            value = part(root, variables)
            if value is not MISSING:
                found[name] = value
        return found

    return evaluate


def _array(parts: list[Compiled]) -> Compiled:
    if all(isinstance(part, Constant) for part in parts):
        return Constant([None if part.value is MISSING else part.value for part in parts])

    def evaluate(root: dict, variables: dict) -> list:
        found = [part(root, variables) for part in parts]
        return [None if value is MISSING else value for value in found]

    return evaluate


def check_field_name(name: Any) -> None:
    """Raises BadQuery for what an expression's map cannot have as a key."""
    if not isinstance(name, str):
        raise BadQuery(f"a field name must be text, not {type(name).__name__}")
    if not name:
        raise BadQuery("a field name must not be empty", code=15998)
    if name.startswith("$"):
        raise BadQuery(f"field name {name!r} must not begin with '$': an operator stands alone in its map", code=16410)
    if "\0" in name:
        raise BadQuery(f"field name {name!r} must not hold NUL", code=16411)
    if "." in name:
        raise BadQuery(f"field name {name!r} must not hold '.': write maps inside maps", code=16412)


def path_parts(text: str) -> tuple[str, ...]:
    """The parts of a field path, without its "$". Raises BadQuery with MongoDB's codes."""
    if not text:
        raise BadQuery("'$' alone is no field path: name a field after it", code=16872)
    if text.endswith("."):
        raise BadQuery(f"field path {text!r} must not end with '.'", code=40353)
    parts = tuple(text.split("."))
    if len(parts) > PATH_PARTS_MAX:
        raise BadQuery(f"field path {text[:40]!r}... has {len(parts)} parts, the limit is {PATH_PARTS_MAX}", code=5984700)
    for part in parts:
        if not part:
            raise BadQuery(f"field path {text!r} has an empty part", code=15998)
        if part.startswith("$"):
            raise BadQuery(f"field path {text!r}: the part {part!r} must not begin with '$'", code=16410)
        if "\0" in part:
            raise BadQuery(f"field path {text!r} must not hold NUL", code=16411)
    return parts


def _field(text: str) -> Compiled:
    parts = path_parts(text)
    if len(parts) == 1:
        name = parts[0]
        return lambda root, variables: _current(root, variables).get(name, MISSING)
    return lambda root, variables: reached(_current(root, variables), parts)


def _current(root: dict, variables: dict) -> dict:
    if "CURRENT" not in variables:
        return root
    current = variables["CURRENT"]
    return current if type(current) is dict else {}


def _variable(text: str, scope: Scope) -> Compiled:
    name, _, rest = text.partition(".")
    parts = path_parts(rest) if "." in text else ()
    if name == "REMOVE":
        return Constant(MISSING)
    if name == "CURRENT":
        return _field(rest) if parts else lambda root, variables: variables.get("CURRENT", root)
    if name == "ROOT":
        return (lambda root, variables: reached(root, parts)) if parts else lambda root, variables: root
    if name not in scope.names and name not in _SYSTEM_NAMES:
        check_variable_name(name)
        raise BadQuery(f"variable $${name} is not defined here: define it with $let, or pass it in let", code=17276)
    if parts:
        return lambda root, variables: reached(_value_of(name, variables), parts)
    return lambda root, variables: _value_of(name, variables)


def _value_of(name: str, variables: dict) -> Any:
    try:
        return variables[name]
    except KeyError:
        raise BadQuery(f"variable $${name} has no value here", code=51144) from None


def check_variable_name(name: Any) -> None:
    """Raises BadQuery for what a user may not call a variable."""
    if not isinstance(name, str) or not name:
        raise BadQuery("a variable must have a name", code=9)
    if not ("a" <= name[0] <= "z" or ord(name[0]) > 127):
        raise BadQuery(f"variable {name!r} must begin with a small letter", code=9)
    if not all(char.isascii() and (char.isalnum() or char == "_") or ord(char) > 127 for char in name):
        raise BadQuery(f"variable {name!r} may hold letters, digits and _ only", code=9)


def _literal(name: str, argument: Any, scope: Scope) -> Compiled:
    return Constant(constant(argument))


def _expression_alone(name: str, argument: Any, scope: Scope) -> Compiled:
    """$expr inside an expression is that expression."""
    return operands(name, argument, scope, 1, 1)[0]


def _let(name: str, argument: Any, scope: Scope) -> Compiled:
    fields = named_specs(
        name, argument, required=("vars", "in"), code=16874, unknown_code=16875, missing_code=16876
    )
    given = fields["vars"]
    if not isinstance(given, Mapping):
        raise BadQuery("$let: vars must be a map of variables", code=16876)
    values = []
    for variable, part in given.items():
        if variable != "CURRENT":
            check_variable_name(variable)
        values.append((variable, scope.compile(part)))
    may_grow = references(given) > 1
    body = scope.knowing(*given).compile(fields["in"])

    def evaluate(root: dict, variables: dict) -> Any:
        found = {variable: part(root, variables) for variable, part in values}
        if may_grow:
            for value in found.values():
                measured(value)
        return body(root, {**variables, **found})

    return evaluate


def operators_known() -> frozenset[str]:
    """The names of all operators, for whoever tells a computed field from a plain one."""
    return frozenset(_OPERATORS)


_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "$function": "$function is not there: no JavaScript runs in this server; use the other operators",
        "$accumulator": "$accumulator is not there: no JavaScript runs in this server; use the other accumulators",
        "$rand": "$rand is not there: answers must be the same on every node; choose at random in the application, or use $sample",
        "$meta": "$meta is not there: there is no text search whose score it could give",
    }
)
_OPERATORS: Mapping[str, Make] = MappingProxyType(
    {
        "$literal": _literal,
        "$const": _literal,
        "$expr": _expression_alone,
        "$let": _let,
        **expression_conditions.OPERATORS,
        **expression_arithmetic.OPERATORS,
        **expression_strings.OPERATORS,
        **expression_matching.OPERATORS,
        **expression_arrays.OPERATORS,
        **expression_loops.OPERATORS,
        **expression_sets.OPERATORS,
        **expression_objects.OPERATORS,
        **expression_types.OPERATORS,
        **expression_dates.OPERATORS,
        **expression_calendar.OPERATORS,
        **expression_statistics.OPERATORS,
    }
)

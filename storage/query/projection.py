"""Projections: what is shown of each found document. Compiled once. Pure.

    {path: 1, ...}          an inclusion: these fields, and `_id` unless {"_id": 0}
    {path: 0, ...}          an exclusion: all fields but these
    {path: expression}      a computed field, in an inclusion: "$other", {"$add": [...]}, a literal
    {"path.$": 1}           the element of the first array on the path by which the filter matched
    {path: {"$slice": n | [skip, n]}}       {field: {"$elemMatch": filter}}      {path: {sub-projection}}
    [path, ...]             the same as an inclusion

MongoDB's rules and codes: fields that are kept stay in the document's own order; computed ones and `$elemMatch` come
after them, in the order of the projection. Dotted paths go through maps and through every element of arrays. `$slice`
alone keeps all other fields.

Nothing is changed in place: what is kept is shared with the document. Costs: one walk over the fields that are named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bson import Decimal128

from ..errors import BadQuery
from ..values.order import sort_key
from .conditions import DEPTH_MAX, REFERENCE_KEYS
from .filters import Filter, read_element_match
from .paths import MISSING, Path
from .predicates import compile_position
from .tree import Test, fields_of
from .value_tests import key_of

Project = Callable[[dict], dict]
Step = Callable[[dict, dict], dict]  # (found document, its projection so far) -> its projection
EXCLUDED_IN_INCLUSION, INCLUDED_IN_EXCLUSION, COMPUTED_IN_EXCLUSION = 31254, 31253, 31252
BELOW_ANOTHER, TWICE = 31249, 31250
LITERAL_IN_EXCLUSION = 31310
POSITIONAL_TWICE_IN_PATH, POSITIONALS, POSITIONAL_IN_MIDDLE = 31287, 31276, 31394
POSITIONAL_WITHOUT_FILTER, POSITIONAL_NOT_IN_FILTER = 51050, 31277
POSITIONAL_AND_ELEM_MATCH, POSITIONAL_WITH_EXPRESSION, POSITIONAL_WITH_LITERAL = 31255, 31271, 31308
POSITION_UNKNOWN, POSITION_OUTSIDE = 51246, 51247
ELEM_MATCH_NO_MAP, ELEM_MATCH_NESTED = 31274, 31275
SLICE_FORM, SLICE_SKIP, SLICE_LIMIT, SLICE_LIMIT_SIGN, SLICE_KIND = 31272, 31257, 31258, 31259, 31273
EMPTY_SUB_PROJECTION, UNKNOWN_EXPRESSION, UNKNOWN_OPERATOR = 51270, 31325, 168
EMPTY_NAME, EMPTY_PART, DOLLAR_NAME = 40352, 15998, 16410
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


class _Keep:
    """In a tree of fields: the whole value is kept (an inclusion) or left out (an exclusion)."""


class _Shown:
    """In a tree of fields: shown, by a step of its own, in an inclusion and in an exclusion."""


class _Compute(NamedTuple):
    """In a tree of fields: the value is worked out from the found document."""

    evaluate: Callable[[dict], Any]


KEEP, SHOWN = _Keep(), _Shown()
_Tree = dict[str, Any]  # field: KEEP, SHOWN, _Compute or a tree


def compile_projection(
    spec: Mapping[str, Any] | Sequence[str] | None,
    matches: Filter | None = None,
    *,
    compile_expression: Callable[[Any], Callable[[dict, dict], Any]] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> Project:
    """What reshapes each found document. None or an empty map keeps all of it.

    matches: the query's filter, which `field.$` needs. compile_expression: of computed fields, the aggregation's own
    when None; variables is what they see beside the document. Raises BadQuery.
    """
    if spec is None:
        return _whole
    if isinstance(spec, Mapping):
        entries = dict(spec)
    elif isinstance(spec, Sequence) and not isinstance(spec, (str, bytes)):
        entries = {_text(name): True for name in spec} or {"_id": True}
    else:
        raise BadQuery(f"a projection must be a map or a list of field names, not {type(spec).__name__}")
    if not entries:
        return _whole
    reader = _Reader(matches, compile_expression, {} if variables is None else dict(variables))
    reader.read(entries, (), 1)
    return reader.projection()


def _whole(document: dict) -> dict:
    return document


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise BadQuery(f"projection field {name!r} must be a field name")
    return name


class _Reader:
    """Reads a projection entry by entry and then says which kind it is."""

    def __init__(self, matches: Filter | None, compile_expression: Any, variables: dict[str, Any]) -> None:
        self.matches = matches
        self.compile_expression = compile_expression
        self.variables = variables
        self.tree: _Tree = {}
        self.is_inclusion: bool | None = None  # None: nothing but _id, $slice and $elemMatch so far
        self.keeps_id: bool | None = None
        self.steps: list[Step] = []
        self.has_slice = self.has_element_match = self.has_positional = False

    def read(self, entries: Mapping[str, Any], outer: tuple[str, ...], depth: int) -> None:
        if depth > DEPTH_MAX:
            raise BadQuery(f"the projection nests deeper than {DEPTH_MAX}")
        for name, value in entries.items():
            _text(name)
            is_positional = name.endswith(".$") or ".$." in name or name == "$"
            if isinstance(value, Mapping):
                if is_positional:
                    raise BadQuery(f"projection field {name!r}: a positional one takes 1 only", code=POSITIONAL_WITH_EXPRESSION)
                self._map(name, value, outer, depth)
            elif isinstance(value, (bool, int, float, Decimal128)):
                if key_of(value) in (sort_key(0), sort_key(False)):
                    self._exclude((*outer, *_parts(name)))
                elif is_positional:
                    self._positional(name, outer)
                else:
                    self._include((*outer, *_parts(name)))
            elif is_positional:
                raise BadQuery(f"projection field {name!r}: a positional one takes 1 only", code=POSITIONAL_WITH_LITERAL)
            else:
                self._compute((*outer, *_parts(name)), value, LITERAL_IN_EXCLUSION)

    def _include(self, parts: tuple[str, ...]) -> None:
        if parts == ("_id",):
            self._place(parts, KEEP)
            self.keeps_id = True
            return
        if self.is_inclusion is False:
            raise BadQuery(
                f"projection field {'.'.join(parts)!r} cannot be kept where others are left out; only _id may differ",
                code=INCLUDED_IN_EXCLUSION,
            )
        self._place(parts, KEEP)
        self.is_inclusion = True

    def _exclude(self, parts: tuple[str, ...]) -> None:
        if parts == ("_id",):
            self._place(parts, KEEP)
            self.keeps_id = False
            return
        if self.is_inclusion:
            raise BadQuery(
                f"projection field {'.'.join(parts)!r} cannot be left out where others are kept; only _id may differ",
                code=EXCLUDED_IN_INCLUSION,
            )
        self._place(parts, KEEP)
        self.is_inclusion = False

    def _compute(self, parts: tuple[str, ...], value: Any, code: int) -> None:
        name = ".".join(parts)
        if self.is_inclusion is False:
            raise BadQuery(f"projection field {name!r} cannot be computed where others are left out", code=code)
        variables = self.variables
        if self.compile_expression is None:
            from .expressions import compile_expression

            evaluate = compile_expression(value, variables)
        else:
            evaluate = self.compile_expression(value)
        self._place(parts, _Compute(lambda document: evaluate(document, variables)))
        self.is_inclusion = True

    def _map(self, name: str, value: Mapping[str, Any], outer: tuple[str, ...], depth: int) -> None:
        parts = (*outer, *_parts(name))
        if not value:
            raise BadQuery(f"projection field {name!r}: an empty map is no projection", code=EMPTY_SUB_PROJECTION)
        first = next(iter(value))
        if len(value) > 1 or not isinstance(first, str) or not first.startswith("$"):
            self.read(value, parts, depth + 1)
        elif first == "$slice":
            self._slice(parts, value[first], value)
        elif first == "$elemMatch":
            self._element_match(parts, value[first])
        elif first == "$meta":
            raise BadQuery(f"projection field {name!r}: $meta is not there", operator=first)
        else:
            self._expression(parts, first, value)

    def _expression(self, parts: tuple[str, ...], operator: str, value: Mapping[str, Any]) -> None:
        try:
            self._compute(parts, value, COMPUTED_IN_EXCLUSION)
        except BadQuery as cause:
            if cause.code == UNKNOWN_OPERATOR and operator in cause.message:
                raise BadQuery(f"projection field {'.'.join(parts)!r}: {cause.message}", code=UNKNOWN_EXPRESSION) from None
            raise

    # -- what works on arrays

    def _slice(self, parts: tuple[str, ...], argument: Any, expression: Mapping[str, Any]) -> None:
        """MongoDB's find form, else the aggregation's expression {"$slice": ["$array", ...]}."""
        try:
            skip, limit = _slice_bounds(".".join(parts), argument)
        except BadQuery:
            if not isinstance(argument, (list, tuple)) or not argument or _is_number(argument[0]):
                raise
            self._compute(parts, expression, COMPUTED_IN_EXCLUSION)
            return
        self._place(parts, SHOWN)
        self.has_slice = True
        self.steps.append(lambda document, shown: _sliced(shown, parts, 0, skip, limit))

    def _element_match(self, parts: tuple[str, ...], argument: Any) -> None:
        field = ".".join(parts)
        if not isinstance(argument, Mapping):
            raise BadQuery(f"projection field {field!r}: $elemMatch takes a map", code=ELEM_MATCH_NO_MAP)
        if self.has_positional:
            raise _positional_beside_element_match(field)
        if len(parts) > 1:
            raise BadQuery(f"projection field {field!r}: $elemMatch takes a field without dots", code=ELEM_MATCH_NESTED)
        node = read_element_match(field, argument)
        assert isinstance(node, Test), "one $elemMatch is one Test"
        locate = compile_position(node)

        def show(document: dict, shown: dict) -> dict:
            place = locate(document)
            rest = {name: value for name, value in shown.items() if name != field}
            if place is not None:
                rest[field] = [document[field][place]]
            return rest

        self._place(parts, SHOWN)
        self.has_element_match = True
        self.steps.append(show)

    def _positional(self, name: str, outer: tuple[str, ...]) -> None:
        if self.is_inclusion is False:
            raise BadQuery(f"projection field {name!r} cannot be kept where others are left out", code=INCLUDED_IN_EXCLUSION)
        if self.has_positional:
            raise BadQuery(f"projection field {name!r} is the second positional one: one is allowed", code=POSITIONALS)
        if self.has_element_match:
            raise _positional_beside_element_match(name)
        path = name.removesuffix(".$")
        if path.endswith(".$") or path == "$":
            raise BadQuery(f"projection field {name!r} has the positional operator twice", code=POSITIONAL_TWICE_IN_PATH)
        if ".$." in name:
            raise BadQuery(f"projection field {name!r}: the positional operator stands at the end of a path", code=POSITIONAL_IN_MIDDLE)
        parts = (*outer, *_parts(path))
        if self.matches is None:
            raise BadQuery(f"projection field {name!r} needs a filter", code=POSITIONAL_WITHOUT_FILTER)
        if parts[0] not in fields_of(self.matches.tree):
            raise BadQuery(
                f"projection field {name!r}: the filter has no condition on {parts[0]!r}, so no element matched",
                code=POSITIONAL_NOT_IN_FILTER,
            )
        position = self.matches.position
        self._place(parts, KEEP)
        self.has_positional = self.is_inclusion = True
        self.steps.append(lambda document, shown: _positioned(shown, parts, 0, document, position))

    # -- the whole

    def _place(self, parts: tuple[str, ...], leaf: Any) -> None:
        name = ".".join(parts)
        Path(name)  # for its rules
        node = self.tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if type(node) is not dict:
                raise BadQuery(f"projection field {name!r} lies inside another one, {part!r}", code=BELOW_ANOTHER)
        if parts[-1] in node:
            raise BadQuery(f"projection field {name!r} collides with another one", code=TWICE)
        node[parts[-1]] = leaf

    def projection(self) -> Project:
        is_inclusion = self.is_inclusion
        if is_inclusion is None:  # nothing said so; MongoDB decides by what else is there
            is_inclusion = self.keeps_id is True if self.has_slice or not self.has_element_match else True
        tree = self.tree
        if not is_inclusion:
            left_out = _without(tree, SHOWN)
            if self.keeps_id:
                del left_out["_id"]
            return _stepping(lambda document: _left(document, left_out), self.steps)
        if self.keeps_id is False:
            del tree["_id"]
        else:
            tree.setdefault("_id", KEEP)
        computed = _computed_only(tree)
        if not computed:
            return _stepping(lambda document: _kept(document, tree), self.steps)
        return _stepping(lambda document: _with_computed(_kept(document, tree), computed, document), self.steps)


def _positional_beside_element_match(field: str) -> BadQuery:
    return BadQuery(
        f"projection field {field!r}: a positional field and $elemMatch do not go together", code=POSITIONAL_AND_ELEM_MATCH
    )


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(name.split("."))
    if not name:
        raise BadQuery("a projection field must have a field name that is not empty", code=EMPTY_NAME)
    for part in parts:
        if not part:
            raise BadQuery(f"projection field {name!r}: a field name in it is empty", code=EMPTY_PART)
        if part.startswith("$") and part not in REFERENCE_KEYS:
            raise BadQuery(f"projection field {name!r}: a field name must not begin with '$'", code=DOLLAR_NAME)
    return parts


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal128)) and not isinstance(value, bool)


def _slice_bounds(name: str, argument: Any) -> tuple[int | None, int]:
    if _is_number(argument):
        return None, _int32(argument)
    if not isinstance(argument, (list, tuple)):
        raise BadQuery(f"projection field {name!r}: $slice takes a number or [skip, limit]", code=SLICE_KIND)
    if len(argument) != 2:
        raise BadQuery(f"projection field {name!r}: $slice takes [skip, limit], two numbers", code=SLICE_FORM)
    skip, limit = argument
    if not _is_number(skip):
        raise BadQuery(f"projection field {name!r}: the skip of $slice must be a number", code=SLICE_SKIP)
    if not _is_number(limit):
        raise BadQuery(f"projection field {name!r}: the limit of $slice must be a number", code=SLICE_LIMIT)
    if _int32(limit) <= 0:
        raise BadQuery(f"projection field {name!r}: the limit of $slice must be positive", code=SLICE_LIMIT_SIGN)
    return _int32(skip), _int32(limit)


def _int32(value: Any) -> int:
    """As MongoDB reads it: cut to a whole number, the nearest bound when it does not fit, 0 for NaN."""
    number = float(str(value)) if isinstance(value, Decimal128) else value
    if number != number:
        return 0
    return int(min(max(number, INT32_MIN), INT32_MAX))


def _without(tree: _Tree, leaf: Any) -> _Tree:
    found = {}
    for name, inner in tree.items():
        if type(inner) is dict:
            found[name] = _without(inner, leaf)
        elif inner is not leaf:
            found[name] = inner
    return found


def _computed_only(tree: _Tree) -> _Tree:
    found = {}
    for name, inner in tree.items():
        if isinstance(inner, _Compute):
            found[name] = inner
        elif type(inner) is dict and (deeper := _computed_only(inner)):
            found[name] = deeper
    return found


def _stepping(shape: Project, steps: list[Step]) -> Project:
    if not steps:
        return shape

    def project(document: dict) -> dict:
        shown = shape(document)
        for step in steps:
            shown = step(document, shown)
        return shown

    return project


def _kept(document: dict, tree: _Tree) -> dict:
    found = {}
    for key, value in document.items():
        if key not in tree:
            continue
        inner = tree[key]
        if inner is KEEP or inner is SHOWN:
            found[key] = value
        elif type(inner) is not dict:
            continue
        elif type(value) is dict:
            found[key] = _kept(value, inner)
        elif type(value) is list:
            found[key] = _kept_elements(value, inner)
    return found


def _kept_elements(array: list, tree: _Tree) -> list:
    found: list[Any] = []
    for element in array:
        if type(element) is dict:
            found.append(_kept(element, tree))
        elif type(element) is list:
            found.append(_kept_elements(element, tree))
    return found


def _with_computed(shown: dict, tree: _Tree, document: dict) -> dict:
    """Put the computed fields into what `_kept` made; a field whose value is missing is not there."""
    for name, inner in tree.items():
        value = inner.evaluate(document) if type(inner) is not dict else _computed_inside(shown.get(name), inner, document)
        if value is not MISSING:
            shown[name] = value
    return shown


def _computed_inside(value: Any, tree: _Tree, document: dict) -> Any:
    if type(value) is list:
        return [_computed_inside(element, tree, document) for element in value]
    return _with_computed(value if type(value) is dict else {}, tree, document)


def _left(document: dict, tree: _Tree) -> dict:
    found = {}
    for key, value in document.items():
        if key not in tree:
            found[key] = value
        elif tree[key] is not KEEP:
            found[key] = _left_value(value, tree[key])
    return found


def _left_value(value: Any, tree: _Tree) -> Any:
    if type(value) is dict:
        return _left(value, tree)
    if type(value) is list:
        return [_left_value(element, tree) for element in value]
    return value


def _sliced(value: dict, parts: tuple[str, ...], at: int, skip: int | None, limit: int) -> dict:
    name = parts[at]
    found = value.get(name)
    is_last = at + 1 == len(parts)
    if type(found) is list and is_last:
        return {**value, name: _cut(found, skip, limit)}
    if type(found) is list:
        inner = [_sliced(e, parts, at + 1, skip, limit) if type(e) is dict else e for e in found]
        return {**value, name: inner}
    if type(found) is dict and not is_last:
        return {**value, name: _sliced(found, parts, at + 1, skip, limit)}
    return value


def _cut(array: list, skip: int | None, limit: int) -> list:
    if skip is None:
        return array[:limit] if limit >= 0 else array[limit:]
    start = skip if skip >= 0 else max(0, len(array) + skip)
    return array[start : start + limit]


def _positioned(shown: dict, parts: tuple[str, ...], at: int, document: dict, position: Callable[[dict], int | None]) -> dict:
    """The first array on the path is left with the one element by which the filter matched."""
    name = parts[at]
    found = shown.get(name)
    if type(found) is dict and at + 1 < len(parts):
        return {**shown, name: _positioned(found, parts, at + 1, document, position)}
    if type(found) is not list:
        return shown
    place = position(document)
    field = ".".join(parts)
    if place is None:
        raise BadQuery(
            f"projection field '{field}.$': the filter matched by no element of an array; ask for one with $elemMatch",
            code=POSITION_UNKNOWN,
        )
    if place >= len(found):
        raise BadQuery(f"projection field '{field}.$': the element that matched is in another array", code=POSITION_OUTSIDE)
    return {**shown, name: [found[place]]}

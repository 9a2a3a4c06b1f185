"""Updates: a MongoDB update document or pipeline to a function from document to document. Pure; knows no storage.

    update      {operator: {path: argument, ...}, ...}        operators: see update_operators and array_operators
                [stage, ...]                                  a pipeline: stages.py
    path        a.b.0        fields of maps and positions of arrays
                a.$.b        the element that made the filter match (once a path)
                a.$[].b      every element
                a.$[x].b     the elements that the array filter of x matches

Everything that can be refused without a document is refused by `compile_update`: unknown operators and arguments,
empty and "$" names, paths that conflict, array filters that are missing or not used. What takes a document (a path
that is not viable, a type mismatch, an overflow, a changed `_id`) is refused by `apply`, which changes nothing it was given.

The size and depth of the result are checked where it is encoded. Codes are MongoDB's.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from bson import Timestamp

from ..errors import BadDocument, BadQuery, ImmutableField
from ..values.documents import DEPTH_MAX, encode_value
from . import array_operators, update_operators
from .array_filters import compile_array_filters
from .filters import Filter
from .paths import MISSING
from .update_tree import POSITIONAL, Application, Fields, Leaf, is_element_part, plant, shown

PATHS_MAX = 10_000  # compiling takes some 10 µs a path, in one piece
_BAD_VALUE, _FAILED_TO_PARSE, _DOLLAR_PREFIXED, _EMPTY_NAME = 2, 9, 52, 56
_REFERENCE_NAMES = frozenset(("$ref", "$id", "$db"))  # fields of a reference may be updated by name
_NO_FILTERS: Mapping[str, Filter] = MappingProxyType({})
Transform = Callable[[dict, Application], dict]
Maker = Callable[[str, str, Any], list[Leaf]]

_MAKERS: Mapping[str, Maker] = MappingProxyType(
    {
        "$addToSet": array_operators.add_to_set,
        "$bit": update_operators.bitwise,
        "$currentDate": update_operators.current_date,
        "$inc": update_operators.increment,
        "$max": update_operators.maximum,
        "$min": update_operators.minimum,
        "$mul": update_operators.multiplied,
        "$pop": array_operators.pop,
        "$pull": array_operators.pull,
        "$pullAll": array_operators.pull_all,
        "$push": array_operators.push,
        "$rename": update_operators.rename,
        "$set": update_operators.set_value,
        "$setOnInsert": update_operators.set_value,
        "$unset": update_operators.unset,
    }
)


class Update:
    """A compiled update, to be applied to any number of documents."""

    __slots__ = ("_transform", "is_replacement", "needs_position")

    def __init__(self, transform: Transform, *, needs_position: bool) -> None:
        self.is_replacement = False  # whole new documents are replace_one's business
        self.needs_position = needs_position  # whether a path has "$": then apply wants Filter.position(document)
        self._transform = transform

    def apply(
        self,
        document: dict,
        *,
        position: int | None,
        is_insert: bool,
        now: datetime.datetime,
        now_timestamp: Timestamp,
        variables: Mapping[str, Any] | None = None,
    ) -> dict:
        """The updated document. The given one is not changed, and is itself the answer when nothing is to be done.

        What did not change is shared with the given document, and values of the update with other results: change no
        part of the answer in place. position: where the filter matched in its array, for "$". is_insert: the document
        is what an upsert will insert. Raises BadQuery, ImmutableField, DocumentTooLarge.
        """
        application = Application(document, position, is_insert, now, now_timestamp, variables)
        found = self._transform(document, application)
        if found is document:
            return document
        if "_id" in document:
            _check_id(document["_id"], found)
        elif "_id" in found and next(iter(found)) != "_id":
            found = {"_id": found["_id"], **found}
        return found


def compile_update(
    spec: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    array_filters: Sequence[Mapping[str, Any]] | None = None,
    names: Iterable[str] = (),
) -> Update:
    """The update of a map of operators, or of a pipeline. names: of the variables that a pipeline will be given. Raises BadQuery."""
    if isinstance(spec, (list, tuple)):
        if array_filters:
            raise BadQuery("array filters cannot be given with a pipeline: use $map or $filter in it", code=_FAILED_TO_PARSE)
        return _pipeline_update(spec, names)
    if not isinstance(spec, Mapping):
        raise BadQuery(f"an update must be a map of operators or a pipeline, not {type(spec).__name__}", code=_FAILED_TO_PARSE)
    if not spec or not str(next(iter(spec))).startswith("$"):
        raise BadQuery(
            "an update must begin with an operator such as $set; use replace_one to replace the whole document",
            code=_FAILED_TO_PARSE,
        )
    filters = compile_array_filters(array_filters) if array_filters else _NO_FILTERS
    if sum(len(fields) for fields in spec.values() if isinstance(fields, Mapping)) > PATHS_MAX:
        raise BadQuery(f"an update can name at most {PATHS_MAX} paths: send it in parts", code=_BAD_VALUE)
    root = Fields("")
    needs_position = False
    used: set[str] = set()
    for operator, fields in spec.items():
        maker = _MAKERS.get(operator) if isinstance(operator, str) else None
        if maker is None:
            raise BadQuery(
                f"unknown update operator {str(operator)[:40]!r}; known are {', '.join(_MAKERS)}", code=_FAILED_TO_PARSE
            )
        if not isinstance(fields, Mapping):
            raise BadQuery(
                f"{operator} takes a map of fields, {{{operator}: {{field: ...}}}}, not {type(fields).__name__}",
                code=_FAILED_TO_PARSE,
            )
        for path, argument in fields.items():
            needs_position |= _check_path(operator, path, filters, used)
            for leaf in maker(operator, path, argument):
                if leaf.path != path:
                    _check_path(operator, leaf.path, filters, used)
                plant(root, leaf, filters)
    unused = [name for name in filters if name not in used]
    if unused:
        raise BadQuery(
            f"the array filter for identifier {unused[0]!r} was not used in the update: no path has $[{unused[0]}]",
            code=_FAILED_TO_PARSE,
        )
    return Update(root.applied, needs_position=needs_position)


def _check_path(operator: str, path: Any, filters: Mapping[str, Filter], used: set[str]) -> bool:
    """Whether the path has "$". Notes the identifiers it uses. Raises BadQuery."""
    if not isinstance(path, str):
        raise BadQuery(f"{operator}: a field name must be text, not {type(path).__name__}", code=_FAILED_TO_PARSE)
    if not path:
        raise BadQuery(f"{operator}: an empty path cannot be updated", code=_EMPTY_NAME)
    if "\0" in path:
        raise BadQuery(f"{operator} {shown(path)}: a field name must not hold NUL", code=_BAD_VALUE)
    parts = path.split(".")
    if "" in parts:
        raise BadQuery(f"{operator}: the path {shown(path)} contains an empty field name", code=_EMPTY_NAME)
    if len(parts) > DEPTH_MAX:
        raise BadQuery(
            f"{operator} {shown(path)}: the path has {len(parts)} parts, but no document nests deeper than {DEPTH_MAX}",
            code=_BAD_VALUE,
        )
    for part in parts:
        if part[0] != "$" or part == POSITIONAL:
            continue
        if is_element_part(part):
            identifier = part[2:-1]
            used.add(identifier)
            if identifier and identifier not in filters:
                raise BadQuery(
                    f"{operator} {shown(path)}: no array filter found for identifier {identifier!r}; give one", code=_BAD_VALUE
                )
        elif part not in _REFERENCE_NAMES or part is parts[0]:
            raise BadQuery(
                f"{operator}: the field {shown(part)} in {shown(path)} begins with '$', which an update cannot store",
                code=_DOLLAR_PREFIXED,
            )
    if parts[0] == POSITIONAL or is_element_part(parts[0]):
        raise BadQuery(f"{operator} {shown(path)}: a path cannot begin with a positional element", code=_BAD_VALUE)
    if parts.count(POSITIONAL) > 1:
        raise BadQuery(f"{operator} {shown(path)}: '$' can stand in a path only once; use $[] below it", code=_BAD_VALUE)
    return POSITIONAL in parts


def _pipeline_update(stages: Sequence[Mapping[str, Any]], names: Iterable[str]) -> Update:
    from . import stages as pipelines  # not needed by updates of operators

    transform = pipelines.compile_update_pipeline(stages, names)

    def applied(document: dict, application: Application) -> dict:
        known = {"NOW": application.now, "CLUSTER_TIME": application.now_timestamp}
        found = transform(document, {**known, **(application.variables or {})})
        if "_id" in document and "_id" not in found:  # a pipeline cannot lose it
            found = {"_id": document["_id"], **found}
        return found

    return Update(applied, needs_position=False)


def _check_id(old: Any, found: dict) -> None:
    """`_id` may be named by an update, but must come out the same value of the same type."""
    new = found.get("_id", MISSING)
    if new is old:
        return
    try:
        is_same = new is not MISSING and encode_value(new) == encode_value(old)
    except BadDocument:
        is_same = False
    if not is_same:
        raise ImmutableField(
            f"performing the update on the document with _id {old!r:.60} would modify the immutable field '_id'; "
            "insert a document with the new _id and delete this one"
        )

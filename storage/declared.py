"""Declared indexes: what create_index is asked for, checked, and how the catalog keeps it. Pure.

    {"name": "email_1", "key": [["email", 1]], "unique": true, ...options..., "number": 7, "state": "building"}

stands in the list `indexes` of a collection's catalog document. `number` is the collection of a unique index's entries (unique.py);
`state` is there only until the entries of what was there before have been made. Keys that are not known here are kept.

Every field can be searched by itself without being declared: an index that is neither unique nor expires documents is a
hint, listed and nothing else. Error codes are MongoDB's: 67 cannot be created, 85 and 86 another index is in the way, 197 an option
that does not belong to such an index.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .errors import BadIndex, BadQuery, IndexNotFound
from .query.filters import compile_filter
from .values.documents import encode_value

ID_INDEX: Final = "_id_"
ALL: Final = "*"  # drop_index takes it for every index but that of `_id`
INDEXES_MAX = 64  # of a collection, that of `_id` included
FIELDS_MAX = 32
NAME_BYTES_MAX = 255
EXPIRE_AFTER_S_MAX = 2**31 - 1
PARTIAL_BYTES_MAX = 16_384
BUILDING: Final = "building"
_KINDS = frozenset(("text", "hashed"))
_FLAGS = frozenset(("unique", "sparse", "background", "hidden"))
_OF_TEXT = frozenset(("weights", "default_language", "language_override", "textIndexVersion"))
_OPTIONS = _FLAGS | _OF_TEXT | {"name", "v", "expireAfterSeconds", "partialFilterExpression"}
_NOT_HERE = frozenset(("collation", "wildcardProjection", "storageEngine", "2dsphereIndexVersion", "bits", "min", "max", "clustered"))
_KEPT = ("unique", "sparse", "hidden", "expireAfterSeconds", "partialFilterExpression", *sorted(_OF_TEXT))
_PARTIAL_OPERATORS = frozenset(("$eq", "$exists", "$gt", "$gte", "$lt", "$lte", "$type", "$in"))
_PARTIAL_LOGICAL = frozenset(("$and", "$or"))
_OWN = frozenset(("key", "number", "state"))  # of a catalog entry, told otherwise or not at all

_BAD_OPTION = 197
_SAME_KEYS = 85
_SAME_NAME = 86
_TOO_MANY_FIELDS = 13103
_HASHED_UNIQUE = 16764


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """One declared index. `entry` is its map in the catalog document; nothing changes it."""

    entry: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.entry["name"]

    @property
    def keys(self) -> list[tuple[str, int | str]]:
        return [(field, kind) for field, kind in self.entry["key"]]

    @property
    def is_unique(self) -> bool:
        return bool(self.entry.get("unique"))

    @property
    def is_sparse(self) -> bool:
        return bool(self.entry.get("sparse"))

    @property
    def is_building(self) -> bool:
        return self.entry.get("state") == BUILDING

    @property
    def number(self) -> int:
        """The collection of its entries; 0: it has none."""
        return self.entry.get("number", 0)

    @property
    def partial(self) -> Mapping[str, Any] | None:
        """The filter of the documents that it is about; None: all."""
        return self.entry.get("partialFilterExpression")

    @property
    def expire_after_s(self) -> int | None:
        return self.entry.get("expireAfterSeconds")

    def changed(self, **entries: Any) -> IndexSpec:
        """The same with other entries; None takes one out."""
        merged = {**self.entry, **entries}
        return IndexSpec({key: value for key, value in merged.items() if value is not None})

    def listed(self) -> dict[str, Any]:
        """As list_indexes shows it."""
        more = {key: value for key, value in self.entry.items() if key not in _OWN and key != "name"}
        shown = {"v": 2, "key": dict(self.keys), "name": self.name, **more}
        return {**shown, "building": True} if self.is_building else shown

    def _identity(self) -> bytes:
        """What makes two indexes the same index, whatever they are called."""
        return encode_value([list(map(list, self.keys)), self.is_unique, self.is_sparse, self.partial])

    def conflicts_with(self, other: IndexSpec) -> bool:
        """Whether self, which is asked for, cannot stand beside other, which is there. False: it can, or it is the same: see
        is_same(). Raises nothing."""
        return not self.is_same(other) and (self.name == other.name or self._identity() == other._identity())

    def is_same(self, other: IndexSpec) -> bool:
        return (
            self.name == other.name
            and self._identity() == other._identity()
            and self.expire_after_s == other.expire_after_s
        )

    def conflict(self, other: IndexSpec, where: str) -> BadIndex:
        """The refusal of self, which conflicts with other."""
        if self._identity() == other._identity():
            what = "with other options" if self.name == other.name else f"under the name {other.name!r}"
            return BadIndex(f"{where}: the index {self.name!r} exists already {what}; drop that one first", code=_SAME_KEYS)
        return BadIndex(
            f"{where}: an index named {other.name!r} exists already with other keys, or is unique, sparse or partial otherwise; "
            "give this one another name or drop that one first",
            code=_SAME_NAME,
        )


def is_entry(value: object) -> bool:
    """Whether a value of a catalog document can be an IndexSpec's entry."""
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str) or not isinstance(value.get("number", 0), int):
        return False
    keys = value.get("key")
    return isinstance(keys, list) and bool(keys) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in keys
    )


ID_SPEC: Final = IndexSpec({"name": ID_INDEX, "key": [["_id", 1]]})


def read_spec(keys: Iterable[Sequence[Any]] | Mapping[str, Any], options: Mapping[str, Any]) -> IndexSpec:
    """The index that create_index(keys, options) asks for. Raises BadIndex, BadQuery. `_id` ascending gives ID_SPEC."""
    pairs = _read_keys(keys)
    if not isinstance(options, Mapping):
        raise BadIndex(f"the options of an index must be a map, not {type(options).__name__}", code=14)
    for option in options:
        if option in _NOT_HERE:
            raise BadIndex(f"the index option {option!r} is not supported: leave it out")
        if option not in _OPTIONS:
            raise BadIndex(f"{option!r} is no option of an index", code=_BAD_OPTION)
    if pairs == [["_id", 1]]:
        _check_id_options(options)
        return ID_SPEC
    name = _read_name(options.get("name"), pairs)
    entry: dict[str, Any] = {"name": name, "key": pairs}
    for option in _KEPT:
        if options.get(option) is not None:
            entry[option] = options[option]
    for flag in _FLAGS & entry.keys():
        if not isinstance(entry[flag], (bool, int, float)):
            raise BadIndex(f"the index option {flag!r} must be true or false", code=14)
        if not entry.pop(flag):
            continue
        entry[flag] = True
    spec = IndexSpec(entry)
    _check_unique(spec)
    if "expireAfterSeconds" in options:
        entry["expireAfterSeconds"] = _read_expiry(options["expireAfterSeconds"], spec)
    if spec.partial is not None:
        _check_partial(spec)
    return spec


def _read_keys(keys: Iterable[Sequence[Any]] | Mapping[str, Any]) -> list[list[Any]]:
    if isinstance(keys, Mapping):
        keys = list(keys.items())
    if isinstance(keys, (str, bytes)) or not isinstance(keys, Sequence) or not keys:
        raise BadIndex("an index needs at least one key: a list of [field, 1 or -1]")
    pairs: list[list[Any]] = []
    for pair in keys:
        if isinstance(pair, (str, bytes)) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise BadIndex("the keys of an index must be a list of [field, 1 or -1]")
        pairs.append([_read_field(pair[0]), _read_kind(*pair)])
    if len({field for field, _ in pairs}) < len(pairs):
        raise BadIndex("a field stands twice in the keys of an index")
    if len(pairs) > FIELDS_MAX:
        raise BadIndex(f"an index of {len(pairs)} fields: at most {FIELDS_MAX}", code=_TOO_MANY_FIELDS)
    if sum(kind == "hashed" for _, kind in pairs) > 1:
        raise BadIndex("an index has at most one hashed field", code=31303)
    return pairs


def _read_field(field: Any) -> str:
    if not isinstance(field, str) or not field or "" in field.split("."):
        raise BadIndex(f"the index key {field!r} must be the name of a field, without empty parts")
    parts = field.split(".")
    if "\0" in field or len(field.encode("utf-8", "surrogatepass")) > NAME_BYTES_MAX * 4:
        raise BadIndex(f"the index key {field[:40]!r} is too long or holds NUL")
    is_wildcard = parts[-1] == "$**"
    if any(part.startswith("$") for part in (parts[:-1] if is_wildcard else parts)):
        raise BadIndex(f"the index key {field!r}: no part may begin with '$'")
    return field


def _read_kind(field: str, kind: Any) -> int | str:
    if type(kind) is str:  # not Code, which cannot be looked up
        if kind in _KINDS:
            return kind
        raise BadIndex(f"index key {field!r}: {kind!r} is not supported; 1, -1, 'text' and 'hashed' are")
    if isinstance(kind, bool) or not isinstance(kind, (int, float)) or not kind or not math.isfinite(kind):
        raise BadIndex(f"index key {field!r}: {kind!r} must be 1, -1, 'text' or 'hashed'")
    return 1 if kind > 0 else -1


def _read_name(name: Any, pairs: Sequence[Sequence[Any]]) -> str:
    if name is None:
        name = "_".join(f"{field}_{kind}" for field, kind in pairs)
    if not isinstance(name, str) or not name or "\0" in name or name == ALL:
        raise BadIndex(f"the index name {name!r} must be text that is not empty and not '*'")
    if name == ID_INDEX:
        raise BadIndex(f"the index name {ID_INDEX!r} is that of the index of _id; choose another name", code=_BAD_OPTION)
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise BadIndex("the index name must be valid Unicode") from None
    if size > NAME_BYTES_MAX:
        raise BadIndex(f"the index name {name[:40]!r}... has {size} bytes, the limit is {NAME_BYTES_MAX}: give a shorter one as 'name'")
    return name


def _check_id_options(options: Mapping[str, Any]) -> None:
    for option, value in options.items():
        if option not in ("name", "v", "background") and value is not None:
            raise BadIndex(f"{option!r} is no option of the index of _id, which is there always and unique", code=_BAD_OPTION)
    if options.get("name") not in (None, ID_INDEX):
        raise BadIndex(f"the index of _id is named {ID_INDEX!r}", code=_BAD_OPTION)


def _check_unique(spec: IndexSpec) -> None:
    if spec.is_sparse and spec.partial is not None:
        raise BadIndex(f"index {spec.name!r}: sparse and partialFilterExpression exclude each other")
    if not spec.is_unique:
        return
    for field, kind in spec.keys:
        if kind == "hashed":
            raise BadIndex(f"index {spec.name!r}: a hashed index cannot be unique; use 1", code=_HASHED_UNIQUE)
        if kind == "text" or field.endswith("$**"):
            raise BadIndex(f"index {spec.name!r}: a text or wildcard index cannot be unique; name the field with 1")
        if any(part.isdigit() for part in field.split(".")):
            raise BadIndex(f"index {spec.name!r}: {field!r} names a position in an array; unique indexes do not support that")


def _read_expiry(value: Any, spec: IndexSpec) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= EXPIRE_AFTER_S_MAX:
        raise BadIndex(f"index {spec.name!r}: expireAfterSeconds must be a number from 0 to {EXPIRE_AFTER_S_MAX}, not {value!r}")
    [(field, kind), *others] = spec.keys
    if others or field == "_id" or isinstance(kind, str) or field.endswith("$**"):
        raise BadIndex(f"index {spec.name!r}: expireAfterSeconds takes one field that holds a date, other than _id")
    return int(value)


def _check_partial(spec: IndexSpec) -> None:
    if not isinstance(spec.partial, Mapping):
        raise BadIndex(f"index {spec.name!r}: partialFilterExpression must be a filter", code=14)
    try:
        size = len(encode_value(spec.partial))
        compile_filter(spec.partial)
    except BadQuery as error:
        raise BadIndex(f"index {spec.name!r}: partialFilterExpression: {error.message}") from error
    if size > PARTIAL_BYTES_MAX:
        raise BadIndex(f"index {spec.name!r}: partialFilterExpression has {size} bytes, the limit is {PARTIAL_BYTES_MAX}")
    _check_partial_operators(spec.name, spec.partial)


def _check_partial_operators(name: str, spec: Mapping[str, Any]) -> None:
    for key, condition in spec.items():
        if key in _PARTIAL_LOGICAL:
            for part in condition:
                _check_partial_operators(name, part)
        elif key.startswith("$"):
            raise _not_in_partial(name, key)
        elif isinstance(condition, Mapping):
            for operator, argument in condition.items():
                if operator.startswith("$") and operator not in _PARTIAL_OPERATORS:
                    raise _not_in_partial(name, operator)
                if operator == "$exists" and not argument:
                    raise _not_in_partial(name, "$exists: false")


def _not_in_partial(name: str, what: str) -> BadIndex:
    return BadIndex(
        f"index {name!r}: {what} is not supported in a partialFilterExpression; $and, $or, $eq, $in, $gt, $gte, $lt, $lte, "
        "$type and $exists: true are"
    )


def not_found(where: str, name: str) -> IndexNotFound:
    return IndexNotFound(f"{where} has no index named {name!r}; list_indexes shows those that it has")

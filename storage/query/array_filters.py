"""Array filters: which elements an update path means by `$[x]`. Pure.

    [{"x.grade": {"$gt": 80}}, {"$or": [{"y": 1}, {"y.n": 2}]}]   filters of elements, here called x and y

An identifier begins with a lowercase letter and has only ASCII letters and digits. Every filter speaks of one
identifier, and no two of the same one. A filter is compiled once and asked with `{identifier: element}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadQuery
from .filters import Filter, compile_filter

FILTERS_MAX = 100
DEPTH_MAX = 100
_BAD_VALUE, _FAILED_TO_PARSE, _TYPE_MISMATCH = 2, 9, 14
_IDENTIFIER = re.compile(r"[a-z][a-zA-Z0-9]*\Z")
_LOGICAL = frozenset(("$and", "$or", "$nor"))


def compile_array_filters(specs: Sequence[Mapping[str, Any]]) -> dict[str, Filter]:
    """Identifier to filter. Raises BadQuery."""
    if not isinstance(specs, (list, tuple)):
        raise BadQuery(f"array filters must be an array of filters, not {type(specs).__name__}", code=_TYPE_MISMATCH)
    if len(specs) > FILTERS_MAX:
        raise BadQuery(f"{len(specs)} array filters were given, the limit is {FILTERS_MAX}", code=_BAD_VALUE)
    found: dict[str, Filter] = {}
    for spec in specs:
        if not isinstance(spec, Mapping):
            raise BadQuery(f"an array filter must be a map, not {type(spec).__name__}", code=_TYPE_MISMATCH)
        names: set[str] = set()
        _collect_names(spec, names, 1)
        if not names:
            raise BadQuery("an array filter must name an identifier, as in {'x.a': 5}", code=_FAILED_TO_PARSE)
        if len(names) > 1:
            first, second = sorted(names)[:2]
            raise BadQuery(
                f"an array filter must speak of one identifier, this one has {first[:40]!r} and {second[:40]!r}",
                code=_FAILED_TO_PARSE,
            )
        (name,) = names
        if _IDENTIFIER.match(name) is None:
            raise BadQuery(
                f"the identifier {name[:40]!r} of an array filter must begin with a lowercase letter "
                "and have only letters and digits",
                code=_BAD_VALUE,
            )
        if name in found:
            raise BadQuery(f"two array filters have the identifier {name!r}: join them by $and", code=_FAILED_TO_PARSE)
        found[name] = compile_filter(spec)
    return found


def _collect_names(spec: Mapping[str, Any], names: set[str], depth: int) -> None:
    if depth > DEPTH_MAX:
        raise BadQuery(f"an array filter nests deeper than {DEPTH_MAX}", code=_BAD_VALUE)
    for name, argument in spec.items():
        if name in _LOGICAL:
            for clause in argument if isinstance(argument, (list, tuple)) else ():
                if isinstance(clause, Mapping):  # compile_filter refuses what is none
                    _collect_names(clause, names, depth + 1)
        elif name == "$comment":
            continue
        elif not isinstance(name, str) or name.startswith("$"):
            raise BadQuery(f"{str(name)[:40]!r} is not allowed in an array filter", code=_FAILED_TO_PARSE)
        else:
            names.add(name.split(".", 1)[0])

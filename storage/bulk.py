"""Many writes of different kinds in one request, one after the other.

    ["insert", doc]   ["replace", filter, doc, upsert]   ["delete", filter, many]
    ["update", filter, change, {"many": bool, "upsert": bool, "array_filters": [...], "sort": [...]}]         all options may be missing

Documents are bytes. Each write stands for itself: its own commits, its own part of the request id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .appended import room
from .committing import part_of, recalled
from .database import Database
from .errors import BadRequest, TwinlogError
from .names import check_collection_name
from .results import WriteError, WriteResult
from .updating import delete, replace_one, update_until_error
from .writing import insert_one_commit

_UPDATE_OPTIONS = frozenset(("many", "upsert", "array_filters", "sort"))


async def bulk(
    db: Database, collection: str, writes: Sequence[Sequence], *, ordered: bool = True, request: bytes = b""
) -> WriteResult:
    """Carry out the writes; ordered: up to the first that is refused."""
    total = WriteResult()
    for index, write in enumerate(writes):
        try:
            part = await _one_of_bulk(db, collection, write, part_of(request, index))
        except TwinlogError as error:
            part = WriteResult(errors=[WriteError(0, error)])
        total.add(part, index)
        if total.errors and ordered:
            break
    return total


async def _one_of_bulk(db: Database, collection: str, write: Sequence, request: bytes) -> WriteResult:
    match write:
        case ["insert", doc]:
            check_collection_name(collection)
            await room(db)
            known = recalled(db, request)
            return known or await insert_one_commit(db, collection, [doc], ordered=True, request=request)
        case ["replace", spec, doc, upsert]:
            return await replace_one(db, collection, spec, doc, upsert=bool(upsert), request=request)
        case ["update", spec, change, options]:
            return await update_until_error(db, collection, spec, change, **_update_options(options), request=request)
        case ["delete", spec, many]:
            return await delete(db, collection, spec, many=bool(many), request=request)
    raise BadRequest(f"a bulk write {write[:1]!r} is not insert, replace, update or delete, or has the wrong number of parts")


def _update_options(options: Any) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise BadRequest("the options of an update in a bulk write must be a map")
    unknown = sorted(map(str, options.keys() - _UPDATE_OPTIONS))
    if unknown:
        raise BadRequest(f"an update in a bulk write has no option {unknown[0]!r}; it has {', '.join(sorted(_UPDATE_OPTIONS))}")
    flags = {name: bool(options.get(name)) for name in ("many", "upsert")}
    return {**flags, "array_filters": options.get("array_filters"), "sort": options.get("sort")}

"""Carrying a client's request to an engine by plain calls: what the node's service does, without links and sessions."""

from __future__ import annotations

from storage import Database, WriteResult, operations
from tests.sim.workload import Request


async def apply(database: Database, request: Request) -> WriteResult:
    """Write, and hand the bytes on; the caller waits for result.seq."""
    try:
        return await _write(database, request)
    finally:
        database.flush()


async def _write(database: Database, request: Request) -> WriteResult:
    if request.kind == "insert":
        result = operations.insert_now(database, request.collection, list(request.docs), request=request.id)
        if result is None:
            result = await operations.insert(database, request.collection, list(request.docs), request=request.id)
        return result
    if request.kind == "replace":
        spec = {"_id": request.key}
        return await operations.replace_one(
            database, request.collection, spec, request.docs[0], upsert=request.upsert, request=request.id
        )
    if request.kind == "delete":
        spec = {"_id": {"$gte": request.key, "$lt": request.key + 10}} if request.many else {"_id": request.key}
        return await operations.delete(database, request.collection, spec, many=request.many, request=request.id)
    return await operations.drop_collection(database, request.collection, request=request.id)


def changed_by(result: WriteResult) -> int:
    return result.inserted + result.modified + result.deleted + len(result.upserted)

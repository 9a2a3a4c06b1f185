"""Carrying a client's request to an engine by plain calls: what the node's service does, without links and sessions."""

from __future__ import annotations

from storage import Database, WriteResult, operations
from tests.sim.workload import INDEXES, Request


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
        return await operations.replace_one(
            database, request.collection, request.filter, request.docs[0], upsert=request.upsert, request=request.id
        )
    if request.kind == "update":
        return await operations.update(
            database, request.collection, request.filter, request.change, many=request.many, upsert=request.upsert, request=request.id
        )
    if request.kind == "delete":
        return await operations.delete(database, request.collection, request.filter, many=request.many, request=request.id)
    if request.kind == "index":
        return (await operations.create_index(database, request.collection, *INDEXES[request.index]))[0]
    if request.kind == "drop index":
        result = await operations.drop_index(database, request.collection, request.index, request=request.id)
        result.deleted = 0  # it counts indexes
        return result
    return await operations.drop_collection(database, request.collection, request=request.id)


def changed_by(result: WriteResult) -> int:
    return result.inserted + result.modified + result.deleted + len(result.upserted)

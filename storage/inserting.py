"""Many single inserts in one commit: what the writers of one wake-up ask for stands or falls one by one, but is logged
together.

Each insert is checked by itself at the appended end, against the others too; those that may be done at once become one
commit, with one seq, one frame and one flush for all of them (INV-2 holds for each the more: all of them survive a crash or none
does). What cannot be decided in place, or would be refused, or goes into a collection with unique indexes, is left to the caller, who does it alone by writing.insert_now()
or insert(): so there is one place where errors are made. Waits for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, repeat

from .appended import unsure
from .commit.codec import CATALOG, PUT, REQUEST
from .committing import collection_for_write
from .database import Database
from .names import check_collection_name
from .results import WriteResult
from .writing import later_ones

EACH_MAX = 256  # inserts in one commit, about 1 ms of the loop (INV-9)


def insert_each(
    db: Database, collection: str, keys: Sequence[bytes], docs: Sequence[bytes], requests: Sequence[bytes]
) -> tuple[int, list[int]] | None:
    """Commit what can be done at once: (seq of the commit or 0, indexes of those that were left out, in order).

    keys: canonical; docs: sound, as values.documents.prepare gives both. requests: each insert's own id, or b"". None: there is no room, nothing
    was done. Raises what refuses all of them: ReadOnly, DiskFull, DiskFailed, BadName.
    """
    assert len(keys) <= EACH_MAX, f"{len(keys)} inserts, {EACH_MAX} fit one commit"
    if not db.sealing.has_room:
        return None
    db.check_writable()
    if collection not in db.catalog.ids:
        check_collection_name(collection)
    collection_id, records = collection_for_write(db, collection)
    if collection_id in db.catalog.unique:
        return 0, list(range(len(keys)))
    left = _left_out(db, collection_id, keys, requests)
    if left:
        if len(left) == len(keys):
            return 0, left
        stays = [True] * len(keys)
        for index in left:
            stays[index] = False
        keys, docs, requests = (list(compress(column, stays)) for column in (keys, docs, requests))
    records += zip(repeat(PUT), repeat(collection_id), keys, docs)  # plain tuples: what is read by name is never among them
    asked = [request for request in requests if request]
    if asked:
        answer = WriteResult(seq=db.position.seq + 1, inserted=1).remembered()
        records += zip(repeat(REQUEST), repeat(CATALOG), asked, repeat(answer))
    return db.commit(records), left


def _left_out(db: Database, collection_id: int, keys: Sequence[bytes], requests: Sequence[bytes]) -> list[int]:
    """The indexes of inserts that are not plainly new: a key that is held, stands twice or is cold, a request that came before."""
    known = db.requests
    left = {index for index, request in enumerate(requests) if request and request in known}
    for index in unsure(db, collection_id, keys):
        if db.end_now(collection_id, keys[index]) is not None:
            left.add(index)
    if len(set(keys)) < len(keys):
        left |= later_ones(keys)
    asked = [request for request in requests if request]
    if len(set(asked)) < len(asked):
        left |= {index for index in later_ones(requests) if requests[index]}
    return sorted(left)


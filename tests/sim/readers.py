"""Looking at a node from inside, without the wire: whole views, single documents, state hashes."""

from __future__ import annotations

import errno
import random

import numpy as np
import trio

from storage import Database, operations
from storage.catalog import HIDDEN
from storage.errors import DamagedRecord, TwinlogError
from storage.values.documents import encode_value
from storage.values.keys import canonical
from storage.views import View
from tests.sim.history import digest_of
from tests.sim.observations import Found, Got, Hashed, Observations, Seen
from tests.sim.sizes import Sizes
from tests.sim.workload import COLLECTIONS

FIELDS = {"_id": 1, "n": 1, "pad": 3}
ASKED_BATCH = 100
DAMAGED_PAUSE_S = 0.3


async def look_at_all(
    observations: Observations, node: str, database: Database, *, final: bool = False, state_hash: bool = False
) -> Seen:
    """Read one view from end to end. Position and chain are taken in the same wake-up as the view."""
    view, chain, at_s = database.view(), database.visible_chain, trio.current_time()
    items = []
    for name, number in sorted(view.catalog.ids.items()):
        rows, by_scan = 0, []
        async for batch in view.scan(number):
            items += [(number, row[2], row[3]) for row in batch]
            rows += len(batch)
            by_scan += [(row[2], row[3]) for row in batch]
        if not name.startswith(HIDDEN):
            await _look_by_index(node, view, number, by_scan)
        counted = await view.count(number)
        assert counted == rows, f"{node}: the view at {view.seq} counts {counted} and scans {rows} documents (INV-2)"
    seen = Seen(
        node,
        observations.opening_of(database),
        at_s,
        view.position.epoch,
        view.seq,
        chain,
        digest_of(items),
        tuple(sorted(view.catalog.ids.items())),
        final,
    )
    observations.seen.append(seen)
    if state_hash:
        observations.hashed.append(Hashed(node, "view", view.seq, chain, await view.state_hash()))
    return seen


async def _look_by_index(node: str, view: View, collection: int, by_scan: list[tuple[bytes, bytes]]) -> None:
    """What a query by index would stand on is what a scan of the same view gives, in its order; and fields come to be indexed."""
    view.want(collection, FIELDS)
    standing = await view.standing(collection)
    if standing is None:
        return
    found = []
    for part in standing.parts:
        rows = np.arange(part.rows, dtype=np.uint32)
        found += part.fetch(rows[~part.dead.test(rows)])
        for path in FIELDS:
            column = part.column(path)
            assert column is None or column.rows == part.rows
    found += [(row.key, row.data) for row in standing.loose]
    assert found == by_scan, f"{node}: the index of collection {collection} at {view.seq} holds other rows than a scan gives"


async def look_up(observations: Observations, node: str, database: Database, collection: str, identity: object) -> None:
    """One document by id, remembered with the chain it was read at."""
    chain = database.visible_chain
    encoded = encode_value(identity)
    found = operations.get_now(database, collection, encoded)
    if found is operations.COLD:
        view = database.view()
        found = await view.get(view.catalog.ids[collection], canonical(identity))
    observations.got.append(Got(node, chain, collection, canonical(identity), found))


async def ask(observations: Observations, node: str, database: Database, collection: str, low: int, high: int) -> None:
    """A query that an index may answer, remembered with its chain; forgotten when the state moved on before its view was taken."""
    chain = database.visible_chain
    cursor = await operations.find(database, collection, {"n": {"$gte": low, "$lt": high}})
    if database.visible_chain != chain:
        await cursor.close()
        return
    documents = []
    while not cursor.done:
        documents += await cursor.next_batch(ASKED_BATCH)
    observations.found.append(Found(node, chain, collection, low, high, tuple(sorted(documents))))


async def keep_looking(
    observations: Observations, node: str, database: Database, rng: random.Random, sizes: Sizes
) -> None:
    """A reader's life: views of everything, single documents and queries, until cancelled."""
    while True:
        await trio.sleep(rng.uniform(0.01, 0.3))
        collection = rng.choice(COLLECTIONS)
        try:
            if rng.random() < sizes.workload.queries:
                low = rng.randint(0, 500)
                await ask(observations, node, database, collection, low, low + rng.choice([5, 100]))
            elif rng.random() < 0.4:
                await look_at_all(observations, node, database, state_hash=rng.random() < 0.2)
            else:
                for _ in range(rng.randint(1, 5)):
                    await look_up(observations, node, database, rng.choice(COLLECTIONS), rng.randint(0, sizes.keys))
        except OSError as error:
            if error.errno != errno.EIO:  # a device that fails a read is passed on as it is; nothing was shown
                raise
        except DamagedRecord as error:
            observations.reported.append(f"{node}: a reader was told of damage: {error}")
            await trio.sleep(DAMAGED_PAUSE_S)
        except TwinlogError as error:
            observations.findings.append(f"{node}: a reader was refused: {error.name}: {error}")
            return

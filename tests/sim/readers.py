"""Looking at a node from inside, without the wire: whole views, single documents, state hashes."""

from __future__ import annotations

import random

import numpy as np
import trio

from storage import Database, operations
from storage.errors import TwinlogError
from storage.values.documents import encode_value
from storage.values.keys import canonical
from storage.views import View
from tests.sim.history import digest_of
from tests.sim.observations import Got, Hashed, Observations, Seen

FIELDS = {"_id": 1, "n": 1, "pad": 3}


async def look_at_all(
    observations: Observations, node: str, database: Database, *, final: bool = False, state_hash: bool = False
) -> Seen:
    """Read one view from end to end. Position and chain are taken in the same wake-up as the view."""
    view, chain, at_s = database.view(), database.visible_chain, trio.current_time()
    items = []
    for _, number in sorted(view.catalog.ids.items()):
        rows, by_scan = 0, []
        async for batch in view.scan(number):
            items += [(number, row[2], row[3]) for row in batch]
            rows += len(batch)
            by_scan += [(row[2], row[3]) for row in batch]
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


async def keep_looking(
    observations: Observations, node: str, database: Database, rng: random.Random, keys: int
) -> None:
    """A reader's life: views of everything and single documents, until cancelled."""
    while True:
        await trio.sleep(rng.uniform(0.01, 0.3))
        try:
            if rng.random() < 0.4:
                await look_at_all(observations, node, database, state_hash=rng.random() < 0.2)
            else:
                for _ in range(rng.randint(1, 5)):
                    await look_up(observations, node, database, f"c{rng.randint(0, 2)}", rng.randint(0, keys))
        except TwinlogError as error:
            observations.findings.append(f"{node}: a reader was refused: {error.name}: {error}")
            return

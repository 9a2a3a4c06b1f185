"""Any interleaving of transactions, plain writes, seals and reopenings, against a small model of snapshot isolation.

The model keeps the state after every commit, and for each place (a document, or a value in the unique index) the last commit that wrote it. A
transaction is the state at its snapshot, changed by its own writes; it may commit when no place that it writes was written since.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from storage import Database, Engine, MemoryDisk, decode_document, encode_document, operations
from storage.errors import DuplicateKey, NoSuchTransaction, WriteConflict
from storage.operations import Action
from storage.transactions import Transaction
from tests.engine.model import check_entries, new_database, opened, settled

COLLECTIONS = ("plain", "unique")
KEYS = range(6)
VALUES = range(4)

State = dict[str, dict[int, dict]]
Place = tuple[str, str, int]


def copied(state: State) -> State:
    return {name: {key: dict(document) for key, document in held.items()} for name, held in state.items()}


def holds(state: State, place: Place) -> bool:
    kind, name, value = place
    held = state.get(name, {})
    return value in held if kind == "_id" else any(document["u"] == value for document in held.values())


@dataclass
class Inside:
    """A transaction in the model."""

    tx: Transaction
    before: State
    now: State
    snapshot: int
    written: set[Place] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)


class World:
    """The database and the model side by side."""

    def __init__(self, database: Database) -> None:
        self.db = database
        self.states: dict[int, State] = {}
        self.last: dict[Place, int] = {}
        self.remade: dict[str, int] = {}  # collection -> seq of its last creation or drop
        self.inside: list[Inside] = []
        self.states[0] = {"unique": {}}

    @property
    def state(self) -> State:
        """After the last commit."""
        return self.states[max(self.states)]

    def note(self, state: State, written: set[Place] = frozenset(), remade: set[str] = frozenset()) -> None:
        seq = self.db.position.seq
        self.states[seq] = state
        self.last.update(dict.fromkeys(written, seq))
        self.remade.update(dict.fromkeys(remade, seq))

    def begin(self) -> None:
        tx = self.db.transactions.begin()
        snapshot = max(seq for seq in self.states if seq <= tx.position.seq)
        assert tx.position == self.db.visible
        self.inside.append(Inside(tx, copied(self.states[snapshot]), copied(self.states[snapshot]), tx.position.seq))

    async def write(self, who: Inside | None, verb: str, name: str, key: int, u: int) -> None:
        db = self.db if who is None else who.tx.scope
        state = copied(self.state) if who is None else who.now
        written: set[Place] = set()
        made = name not in state
        held = state.get(name, {})
        clashes = name == "unique" and any(document["u"] == u for other, document in held.items() if other != key)
        document = {"_id": key, "u": u, "n": len(self.states)}
        old = held.get(key)
        try:
            match verb:
                case "insert":
                    result = await operations.insert(db, name, [encode_document(document)])
                    refused = old is not None or clashes
                    assert len(result.errors) == refused
                    done = None if refused else document
                case "replace":
                    refused = clashes
                    await operations.replace_one(db, name, {"_id": key}, encode_document(document), upsert=True)
                    done = document
                case "update":
                    refused = clashes and old is not None
                    result = await operations.update(db, name, {"n": {"$gte": 0}, "_id": key}, {"$set": {"u": u}})
                    assert result.matched == (old is not None)
                    done = None if old is None else {**old, "u": u}
                case "modify":
                    refused = clashes and old is not None
                    _, answer = await operations.find_one_and(db, name, {"_id": key}, action=Action.UPDATE, change={"$set": {"u": u}})
                    assert (None if answer is None else decode_document(answer)) == old
                    done = None if old is None else {**old, "u": u}
                case "delete":
                    refused = False
                    result = await operations.delete(db, name, {"u": u}, many=True)
                    gone = [other for other, document in held.items() if document["u"] == u]
                    assert result.deleted == len(gone)
                    for other in gone:
                        written |= {("_id", name, other), ("u", name, u)}
                        del held[other]
                    done = None
            assert not refused or verb == "insert"
        except DuplicateKey:
            assert refused
            return
        if done is not None and done != old:
            written.add(("_id", name, key))
            if old is None or old["u"] != u:
                written |= {("u", name, u)} | ({("u", name, old["u"])} if old is not None else set())
            state.setdefault(name, {})[key] = done
        if name == "plain":
            written = {place for place in written if place[0] == "_id"}
        if who is not None:
            who.written |= written
            if written:
                who.touched.add(name)
        elif written:
            self.note(state, written, {name} if made else set())

    async def commit(self, who: Inside, request: bytes) -> None:
        self.inside.remove(who)
        written = {place for place in who.written if holds(who.before, place) or holds(who.now, place)}
        names = {name for _, name, _ in written} | {name for name in who.touched if name not in who.before}
        stale = any(self.last.get(place, 0) > who.snapshot for place in written)
        stale |= any(self.remade.get(name, 0) > who.snapshot for name in names)
        try:
            result = await who.tx.commit(request)
        except WriteConflict:
            assert stale
            return
        assert not stale
        if not names:
            assert result.seq == who.snapshot
            return
        state = copied(self.state)
        for kind, name, key in written:
            if kind == "_id":
                held = state.setdefault(name, {})
                held.pop(key, None)
                if key in who.now[name]:
                    held[key] = who.now[name][key]
        for name in names:
            state.setdefault(name, {})
        assert result.seq == self.db.position.seq
        self.note(state, written, {name for name in names if name not in who.before})
        again = self.db.transactions.committed(request)
        assert again is not None and (again.seq, again.replayed) == (result.seq, True)

    async def drop(self, name: str) -> None:
        if name == "plain" and name in self.state:
            await operations.drop_collection(self.db, name)
            state = copied(self.state)
            del state[name]
            self.note(state, remade={name})

    async def check(self, who: Inside, name: str, u: int) -> None:
        held = who.now.get(name, {})
        assert await rows(who.tx.scope, name, {}) == held
        wanted = {key: document for key, document in held.items() if document["u"] == u}
        assert await rows(who.tx.scope, name, {"u": u}) == wanted
        assert await operations.count(who.tx.scope, name, {"u": {"$gte": u}}) == sum(document["u"] >= u for document in held.values())
        sums: dict[int, int] = {}
        for document in held.values():
            sums[document["u"]] = sums.get(document["u"], 0) + document["n"]
        cursor = await operations.aggregate(who.tx.scope, name, [{"$group": {"_id": "$u", "n": {"$sum": "$n"}}}])
        found = [decode_document(data) for data in await cursor.next_batch(100)]
        assert {row["_id"]: row["n"] for row in found} == sums
        assert set(await operations.distinct(who.tx.scope, name, "u", {})) == set(sums)

    async def check_database(self) -> None:
        await settled(self.db, self.db.position.seq)
        for name in COLLECTIONS:
            assert await rows(self.db, name, {}) == self.state.get(name, {})
        await check_entries(self.db, "unique")


async def rows(db: object, name: str, spec: dict) -> dict[int, dict]:
    cursor = await operations.find(db, name, spec)
    found: list[dict] = []
    while not cursor.done:
        found += [decode_document(data) for data in await cursor.next_batch(100)]
    kept = {document["_id"]: document for document in found}
    assert len(kept) == len(found)
    return kept


WHO = st.integers(0, 2)
NAME = st.sampled_from(COLLECTIONS)
VERB = st.sampled_from(["insert", "replace", "update", "modify", "delete"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin")),
        st.tuples(st.just("inside"), WHO, VERB, NAME, st.sampled_from(KEYS), st.sampled_from(VALUES)),
        st.tuples(st.just("inside"), WHO, VERB, NAME, st.sampled_from(KEYS), st.sampled_from(VALUES)),
        st.tuples(st.just("outside"), VERB, NAME, st.sampled_from(KEYS), st.sampled_from(VALUES)),
        st.tuples(st.just("check"), WHO, NAME, st.sampled_from(VALUES)),
        st.tuples(st.just("commit"), WHO),
        st.tuples(st.just("abort"), WHO),
        st.tuples(st.sampled_from(["settle", "seal", "index", "drop", "reopen"])),
    ),
    max_size=40,
)


async def play(steps: list[tuple]) -> None:
    disk = MemoryDisk()
    states = None
    pending = [*steps, ("reopen",), ("end",)]
    start = 1
    while pending:
        async with opened(disk, start=start, index_rows_min=1, seal_age_s=1e9) as engine:
            world = await prepared(engine, states)
            while pending:
                step = pending.pop(0)
                if step[0] == "reopen":
                    break
                await take(world, step, len(pending))
            await world.check_database()
            states = world.states, world.last, world.remade
        for who in world.inside:
            with pytest.raises(NoSuchTransaction, match="closed"):
                await rows(who.tx.scope, "plain", {})
        start += 1


async def prepared(engine: Engine, states: tuple | None) -> World:
    if states is None:
        db = await new_database(engine)
        await operations.create_index(db, "unique", [["u", 1]], {"unique": True})
        await settled(db, db.position.seq)
        return World(db)
    db = engine.databases["db"]
    await settled(db, db.begin_reign(db.position.epoch + 1))
    world = World(db)
    world.states, world.last, world.remade = states
    await world.check_database()
    return world


async def take(world: World, step: tuple, number: int) -> None:
    inside = world.inside
    match step:
        case ("begin",):
            world.begin()
        case ("inside", who, verb, name, key, u) if who < len(inside):
            await world.write(inside[who], verb, name, key, u)
        case ("outside", verb, name, key, u):
            await world.write(None, verb, name, key, u)
        case ("check", who, name, u) if who < len(inside):
            await world.check(inside[who], name, u)
        case ("commit", who) if who < len(inside):
            await world.commit(inside[who], number.to_bytes(16, "big"))
        case ("abort", who) if who < len(inside):
            inside.pop(who).tx.abort()
        case ("settle",):
            await settled(world.db, world.db.position.seq)
        case ("seal",):
            await settled(world.db, world.db.position.seq)
            await world.db.sealing.seal_now()
        case ("index",):
            await world.db.indexing.wait_built()
        case ("drop",):
            await world.drop("plain")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(STEPS)
def test_transactions_are_what_a_model_of_snapshot_isolation_says(steps: list[tuple]) -> None:
    trio.run(play, steps, clock=MockClock(autojump_threshold=0))

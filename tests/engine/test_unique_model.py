"""Any writes, indexes, seals, restarts and kills: the database holds what a plain dictionary with naive rules holds, and refuses what
that refuses."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from storage import Database, MemoryDisk, canonical, encode_document, operations
from storage.errors import DuplicateKey
from tests.engine.model import check_entries, everything, new_database, opened, settled

THINGS = "things"
INDEXES: dict[str, tuple[list[str], dict]] = {
    "a_1": (["a"], {}),
    "a_1_c_1": (["a", "c"], {}),
    "t_1": (["t"], {"sparse": True}),
    "c_1": (["c"], {"partialFilterExpression": {"on": True}}),
    "m.b_1": (["m.b"], {}),
}
SCALARS = st.sampled_from([1, 1.0, 2, 3, 4, "x", "y", None, True])
ARRAYS = st.sampled_from([[], [1, 2], [2, "x", 2.0], [[1], 3], [None]])
MAPS = st.sampled_from([{"b": 1}, {"b": [2, 3]}, [{"b": 1}, {"b": 4}, 7], [], 5, {}])
FIELDS = st.fixed_dictionaries(
    {}, optional={"a": SCALARS | ARRAYS, "c": SCALARS, "t": SCALARS | ARRAYS, "m": MAPS, "on": st.booleans()}
)
IDS = st.integers(0, 7)
DOCUMENTS = st.builds(lambda number, fields: {"_id": number, **fields}, IDS, FIELDS)
WAYS = st.sampled_from(["now", "general", "each"])
FILTERS = st.one_of(
    st.builds(lambda n: {"_id": n}, IDS), st.builds(lambda v: {"c": v}, SCALARS), st.just({}), st.just({"on": True})
)
OPERATIONS = st.one_of(
    st.tuples(st.just("insert"), st.lists(DOCUMENTS, min_size=1, max_size=5), st.booleans(), WAYS),
    st.tuples(st.just("replace"), IDS, FIELDS, st.booleans()),
    st.tuples(st.just("set"), FILTERS, FIELDS, st.booleans()),
    st.tuples(st.just("take"), IDS),
    st.tuples(st.just("delete"), FILTERS),
    st.tuples(st.just("create"), st.sampled_from(sorted(INDEXES))),
    st.tuples(st.just("drop"), st.sampled_from(sorted(INDEXES))),
    st.sampled_from([("seal",), ("reopen",), ("kill",), ("drop all",)]),
)


def plain(value: Any) -> Any:
    """Equal for values that an index holds equal."""
    if isinstance(value, list):
        return ("array", *map(plain, value))
    if isinstance(value, dict):
        return ("map", *((key, plain(child)) for key, child in value.items()))
    return ("number", float(value)) if type(value) in (int, float) else (type(value).__name__, value)


def reached(document: dict, field: str) -> list:
    """The entries of one field: plain values."""
    first, _, rest = field.partition(".")
    if rest:
        held = document.get(first)
        if isinstance(held, list):
            inside = [{first: element} if isinstance(element, dict) else {} for element in held]
            return [value for element in inside for value in reached(element, field)] or [plain(None)]
        return reached(held, rest) if isinstance(held, dict) else [plain(None)]
    value = document.get(first)
    return ([plain(element) for element in value] or ["empty"]) if isinstance(value, list) else [plain(value)]


def entries(name: str, document: dict) -> set:
    fields, options = INDEXES[name]
    if (options.get("sparse") and fields[0] not in document) or (name == "c_1" and document.get("on") is not True):
        return set()
    found = [()]
    for field in fields:
        found = [(*values, value) for values in found for value in reached(document, field)]
    return set(found)


class Model:
    """Documents by `_id` in the order of their last writes, and the names of the indexes."""

    def __init__(self) -> None:
        self.documents: dict[int, dict] = {}
        self.indexes: set[str] = set()

    def collides(self, document: dict) -> bool:
        return any(
            entries(name, document) & entries(name, other)
            for name in self.indexes
            for number, other in self.documents.items()
            if number != document["_id"]
        )

    def put(self, document: dict) -> bool:
        """False: refused."""
        if self.collides(document):
            return False
        self.documents.pop(document["_id"], None)
        self.documents[document["_id"]] = document
        return True

    def matching(self, spec: dict) -> list[dict]:
        [(field, value)] = spec.items() or [("", None)]
        return [
            document
            for document in self.documents.values()
            if not field or plain(document.get(field)) == plain(value)
        ]


class World:
    """The engine beside the model; every method does one operation on both."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.model = Model()

    async def insert(self, documents: list[dict], ordered: bool, way: str) -> None:
        if way == "each":
            documents = self._insert_each(documents)
            ordered = False
        bad = []
        for index, document in enumerate(documents):
            if document["_id"] in self.model.documents or not self.model.put(document):
                bad.append(index)
                if ordered:
                    break
        data = [encode_document(document) for document in documents]
        result = operations.insert_now(self.database, THINGS, data, ordered=ordered) if way == "now" else None
        result = result or await operations.insert(self.database, THINGS, data, ordered=ordered)
        assert [row.index for row in result.errors] == bad

    def _insert_each(self, documents: list[dict]) -> list[dict]:
        """Gives those that were left out: they are to be inserted alone."""
        keys = [canonical(document["_id"]) for document in documents]
        data = [encode_document(document) for document in documents]
        done = operations.insert_each(self.database, THINGS, keys, data, [b""] * len(data))
        left = range(len(documents)) if done is None else done[1]
        for index, document in enumerate(documents):
            if index not in left:
                assert document["_id"] not in self.model.documents and self.model.put(document)
        return [documents[index] for index in left]

    async def replace(self, number: int, fields: dict, upsert: bool) -> None:
        document = {"_id": number, **fields}
        wanted = (number in self.model.documents or upsert) and not self._put(document)
        call = operations.replace_one(self.database, THINGS, {"_id": number}, encode_document(document), upsert=upsert)
        await self._refused_or_not(call, is_refused=wanted)

    def _put(self, document: dict) -> bool:
        held = self.model.documents.get(document["_id"])
        if held is not None and encode_document(held) == encode_document(document):
            return True  # not written: it keeps its place
        return self.model.put(document)

    async def set(self, spec: dict, fields: dict, many: bool) -> None:
        if not fields:
            return
        found = self.model.matching(spec)
        is_refused = False
        for document in found if many else found[:1]:
            new = {**document, **{key: fields[key] for key in sorted(fields)}}
            if not self._put(new):
                is_refused = True
                break
        await self._refused_or_not(
            operations.update(self.database, THINGS, spec, {"$set": fields}, many=many), is_refused=is_refused
        )

    async def take(self, number: int) -> None:
        wanted = self.model.documents.pop(number, None)
        action = operations.Action.DELETE
        _, data = await operations.find_one_and(self.database, THINGS, {"_id": number}, action=action)
        assert data == (None if wanted is None else encode_document(wanted))

    async def delete(self, spec: dict) -> None:
        found = self.model.matching(spec)
        for document in found:
            del self.model.documents[document["_id"]]
        result = await operations.delete(self.database, THINGS, spec, many=True)
        assert result.deleted == len(found)

    async def create(self, name: str) -> None:
        fields, options = INDEXES[name]
        seen: set = set()
        is_refused = False
        for document in self.model.documents.values():
            is_refused |= bool(seen & entries(name, document))
            seen |= entries(name, document)
        if not is_refused:
            self.model.indexes.add(name)
        keys = [[field, 1] for field in fields]
        call = operations.create_index(self.database, THINGS, keys, {"unique": True, **options})
        await self._refused_or_not(call, is_refused=is_refused)

    async def drop(self, name: str) -> None:
        if name in self.model.indexes:
            self.model.indexes.remove(name)
            await operations.drop_index(self.database, THINGS, name)

    async def drop_all(self) -> None:
        self.model = Model()
        await operations.drop_collection(self.database, THINGS)

    async def _refused_or_not(self, call: Awaitable[Any], *, is_refused: bool) -> None:
        try:
            await call
        except DuplicateKey:
            assert is_refused, "refused a write that collides with nothing"
        else:
            assert not is_refused, "took a write that collides"

    async def check(self) -> None:
        await settled(self.database, self.database.position.seq)
        assert await everything(self.database) == list(self.model.documents.values())
        await check_entries(self.database)
        listed = {row["name"] for row in operations.list_indexes(self.database, THINGS)} - {"_id_"}
        assert listed == self.model.indexes


async def play(steps: list[tuple]) -> None:
    disk, world, start = MemoryDisk(), None, 1
    place = 0
    while place < len(steps):
        async with opened(disk, start=start, memtable_records_max=30) as engine:
            if world is None:
                world = World(await new_database(engine))
            else:
                world.database = engine.database("db")
                await settled(world.database, world.database.begin_reign(1))
                await world.check()
            while place < len(steps):
                name, *arguments = steps[place]
                place += 1
                if name in ("reopen", "kill"):
                    await settled(world.database, world.database.position.seq)
                    start += 1
                    disk = killed(disk) if name == "kill" else disk
                    break
                if name == "seal":
                    await world.database.sealing.seal_now()
                else:
                    step: Callable[..., Awaitable[None]] = getattr(world, name.replace(" ", "_"))
                    await step(*arguments)
                await world.check()


def killed(disk: MemoryDisk) -> MemoryDisk:
    """The disk as it is in this moment, for a process that knows nothing of the one that still runs."""
    copied = MemoryDisk()
    copied._files, copied._directories, copied._inodes = copy.deepcopy(disk._files), set(disk._directories), disk._inodes
    return copied


@given(st.lists(OPERATIONS, min_size=1, max_size=14))
@settings(deadline=None, max_examples=150)
def test_uniqueness_is_what_a_naive_model_says(steps: list[tuple]) -> None:
    trio.run(play, steps, clock=MockClock(autojump_threshold=0))

"""Looking up many keys at once gives what looking up each gives: with the filter of keys and before there is one, also where hashes collide."""

from __future__ import annotations

import pytest

from storage.shard.shardset import MISSING, SEARCHED_TOGETHER_MIN
from storage.values.keys import canonical, hash64
from tests.shard.shard_world import World


def few_hashes(collection: int, key: bytes) -> int:
    return hash64(collection, key) % 7


@pytest.mark.parametrize(
    ("hash_key", "knows_keys"), [(hash64, False), (hash64, True), (few_hashes, False)], ids=["no filter yet", "filter", "colliding"]
)
@pytest.mark.parametrize("count", [1, SEARCHED_TOGETHER_MIN - 1, SEARCHED_TOGETHER_MIN, 400])
def test_many_are_found_as_each_is(count: int, hash_key, knows_keys: bool):
    world = World(hash_key=hash_key)
    users, others = world.create("users"), world.create("others")
    for start in range(0, 300, 60):
        for number in range(start, start + 60):
            world.put(users, number, value=number)
            world.put(others, -number, value=number)
        if start:
            world.delete(users, start)
            world.put(users, start - 1, value="again")
        world.commit()
        if start % 120:
            world.seal()
    world.seal()
    opened = world.open()
    if knows_keys:
        opened.know_keys(None)
    keys = [canonical(number) for number in range(-20, 2 * count - 20, 2)] + [canonical("no number"), b""]
    for collection in (users, others, 99):
        found = opened.find_many(collection, keys)
        assert found == [opened.find(collection, key) for key in keys]
        assert [record is not MISSING for record in found] == [key in world.live.get(collection, {}) for key in keys]
    assert opened.find_many(users, []) == []


def test_an_empty_database_holds_none():
    world = World()
    world.create("users")
    world.commit()
    world.seal()
    keys = [canonical(number) for number in range(SEARCHED_TOGETHER_MIN)]
    assert set(world.open().find_many(1, keys)) == {MISSING}

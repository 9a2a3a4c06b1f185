"""INV-8: a standby that is away, slow, or being copied to, however long, cannot fill the primary's disk or memory; and loses nothing by it."""

from __future__ import annotations

import trio

from storage import load_of

from .world import World, open_world

KEEP_BYTES = 200_000
SMALL = {"memtable_records_max": 100, "log_segment_bytes": 50_000, "log_keep_bytes": KEEP_BYTES, "copy_grace_s": 0.0}
MEMTABLE_BYTES = 100 * 1_200  # of log: what a full memtable of these tests stands in


def log_bytes(world: World, node: str) -> int:
    """What the database's commit log takes on the node's disk."""
    disk, folder = world.nodes[node].disk, f"{world.database(node).directory}/commit"
    return sum(disk.size(f"{folder}/{name}") for name in disk.list_dir(folder))


async def write_much(world: World, commits: int, **options: object) -> tuple[int, int]:
    """(the last seq, the most that the log took meanwhile). Each commit of about 1 kB; the last one is acknowledged."""
    most = seq = 0
    for _ in range(commits // 20):
        await world.database("a").wait_room()
        seq = world.write("a", 20, size=1_000)
        await trio.sleep(0.2)
        most = max(most, log_bytes(world, "a"))
    await world.member("a").acknowledged(world.database("a"), seq)
    return seq, most


async def test_a_standby_that_is_away_costs_a_bounded_log_an_alarm_and_a_seed(autojump_clock: object) -> None:
    async with open_world("real", "abc", acks=1, ack_timeout_s=30.0) as world:
        world.engine_options |= SMALL
        await world.start("a", "b", "c")
        await world.create("a")
        kept = world.write("a", 5)
        await world.until(lambda: world.same("a", "b", "c"))
        await world.stop("c")
        seq, most = await write_much(world, 12_000)
        assert 20 * most < 12_000_000 and most <= KEEP_BYTES + 4 * MEMTABLE_BYTES, f"{most} bytes of log at most"
        load = load_of(world.database("a"))
        assert load.log_kept[0] <= KEEP_BYTES + 2 * MEMTABLE_BYTES and load.log_outruns > 50
        await world.until(lambda: "log-outrun" in world.alarms("a"))
        (alarm,) = [alarm for alarm in world.member("a").alarms if alarm.kind.value == "log-outrun"]
        assert (alarm.peer, alarm.database) == ("c", "d")
        assert all(word in alarm.message for word in ("standby c", " bytes", "log_keep_mb", f"up to commit {kept}"))
        assert world.same("a", "b"), "who keeps up is not concerned"
        await world.start("c")
        await world.until(lambda: world.same("a", "b", "c"))
        for key in range(10, seq + 1, 997):
            name = f"a-{key}".encode()
            assert await world.document("c", name) == await world.document("a", name) != None  # noqa: E711
        await world.until(lambda: world.alarms("a") == set())
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b", "c"))


async def test_old_shard_files_do_not_wait_for_a_standby_that_the_log_has_outrun(autojump_clock: object) -> None:
    """A checkpoint at the floor is kept to rewind to; once the log from there is gone it would hold the files of its time for ever."""
    async with open_world("real", "ab") as world:
        world.engine_options |= SMALL
        await world.start("a", "b")
        await world.create("a")
        world.write("a", 150, size=1_000)
        await world.database("a").sealing.seal_now()
        await world.until(lambda: world.same("a", "b"))
        await world.stop("b")
        await write_much(world, 2_000)
        await world.database("a").sealing.seal_now()
        world.write("a", 1)
        await world.database("a").sealing.seal_now()
        disk = world.nodes["a"].disk
        await world.until(lambda: len(disk.list_dir(f"{world.database('a').directory}/checkpoints")) <= 2)


async def test_a_slow_standby_costs_a_window_of_memory_and_a_bounded_log(autojump_clock: object) -> None:
    async with open_world("real", "ab", window_bytes=50_000) as world:
        world.engine_options |= SMALL
        await world.start("a", "b")
        await world.create("a")
        await world.until(lambda: world.same("a", "b"))
        world.delay_s = 0.4
        most = most_window = 0
        for _ in range(1_200):
            await world.database("a").wait_room()
            world.write("a", 10, size=1_000)
            await trio.sleep(0.01)
            most = max(most, log_bytes(world, "a"))
            most_window = max([most_window, *(value for _, value, _ in world.member("a").window_fills())])
        assert most <= KEEP_BYTES + 4 * MEMTABLE_BYTES, f"{most} bytes of log at most"
        assert 0 < most_window <= 50_000 + 2**20, f"{most_window} bytes under way at most"
        world.delay_s = 0.0
        await world.until(lambda: world.same("a", "b"))


async def test_a_seed_that_takes_for_ever_holds_no_more_log_than_the_copy_is_large(autojump_clock: object) -> None:
    async with open_world("real", "ab", seed_bytes_min=1, seed_chunk_bytes=4_096) as world:
        world.engine_options |= SMALL
        await world.start("a")
        await world.create("a")
        await write_much(world, 600)
        await world.database("a").sealing.seal_now()
        world.delay_s = 2.0
        await world.start("b")
        await world.until(lambda: world.nodes["a"].engine.databases["d"].sealing.pins)
        _, most = await write_much(world, 6_000)
        copy = world.database("a").sealed_bytes
        assert most <= max(KEEP_BYTES, copy) + 4 * MEMTABLE_BYTES, f"{most} bytes of log at most, the copy has {copy}"
        world.delay_s = 0.0
        await world.until(lambda: world.same("a", "b"))

"""A delayed standby shows the primary's state of delay_s ago, counts for nothing, is promoted by force only, and costs bounded memory and log.

On the real engine, in virtual time: the wall clock of every node is the virtual one, and may be set apart.
"""

from __future__ import annotations

import pytest
import trio

from replication import Role
from replication.delaying import HeldFrames
from storage import AckTimeout, PeerError, PromotionRefused, decode_document, encode_document, operations
from storage.commit.codec import Op, Record, encode, encode_body

from .world import World, open_world

DELAY_S = 120
MARGIN_S = 2.0  # a heartbeat to look at the clock, and a message


async def start_delayed(world: World, *others: str, delayed: str = "c", delay_s: int = DELAY_S, **options: object) -> None:
    """Every node is told of the delay, as by one configuration file."""
    for name in others:
        await world.start(name, peer_delays_s={delayed: delay_s}, **options)
    await world.start(delayed, delay_s=delay_s, **options)


async def test_it_shows_the_primary_of_so_long_ago_commit_by_commit(autojump_clock: object) -> None:
    async with open_world("real", "abc") as world:
        await start_delayed(world, "a", "b")
        await world.create("a")
        ends: list[tuple[float, int]] = []
        for _ in range(40):
            ends.append((trio.current_time(), world.write("a", 3)))
            await trio.sleep(5)
            shown = world.database("c").visible.seq if "d" in world.nodes["c"].engine.databases else 0
            due = [seq for at, seq in ends if at + DELAY_S <= trio.current_time() - MARGIN_S]
            not_due = [seq for at, seq in ends if at + DELAY_S > trio.current_time()]
            assert shown >= max(due, default=0), "INV-3: all that is old enough"
            assert not not_due or shown < min(not_due), "and nothing younger"
        await world.until(lambda: world.same("a", "b"))
        lag = world.member("a").status()["databases"]["d"]["standbys"]["c"]["lag"]
        assert DELAY_S - 30 <= lag["seconds"] <= DELAY_S + 30 and lag["commits"] > 60
        await world.until(lambda: world.same("a", "b", "c"), 2 * DELAY_S)
        assert all(world.alarms(name) == set() for name in "abc"), "its delay is no lag to warn of"


async def test_a_collection_that_was_dropped_is_read_from_it_and_put_back(autojump_clock: object) -> None:
    """The recipe of docs/operations.md: what was there before the accident, from the delayed standby, while there is time."""
    async with open_world("real", "abc") as world:
        await start_delayed(world, "a", "b")
        db = await world.nodes["a"].engine.create_database("shop")
        for number in range(20):
            await operations.insert(db, "orders", [encode_document({"_id": number, "sum": number * 10})])
        db.flush()
        await trio.sleep(2 * DELAY_S)
        await operations.drop_collection(db, "orders")
        db.flush()
        await world.until(lambda: world.same("a", "b", name="shop"))
        assert await operations.count(world.database("b", "shop"), "orders", {}) == 0, "the drop is everywhere else at once"
        await trio.sleep(DELAY_S / 2)
        late = world.database("c", "shop")
        assert await operations.count(late, "orders", {}) == 20
        found = [decode_document(bytes(doc)) for doc in await read_all(late, "orders")]
        await operations.insert(db, "orders", [encode_document(doc) for doc in found])
        db.flush()
        await world.until(lambda: world.same("a", "b", name="shop"))
        assert await operations.count(world.database("b", "shop"), "orders", {}) == 20
        await trio.sleep(DELAY_S / 2 + MARGIN_S)
        assert await operations.count(late, "orders", {}) == 0, "after its delay the drop is there too"
        await world.until(lambda: world.same("a", "b", "c", name="shop"), 2 * DELAY_S)
        assert await operations.count(late, "orders", {}) == 20


async def read_all(db: object, collection: str) -> list[bytes]:
    cursor = await operations.find(db, collection, {})
    docs = await cursor.next_batch(100)
    await cursor.close()
    return docs


async def test_it_counts_for_no_acknowledgement(autojump_clock: object) -> None:
    async with open_world("real", "abc", acks=1, ack_timeout_s=2.0 * DELAY_S) as world:
        await start_delayed(world, "a", "b")
        database = await world.create("a")
        began = trio.current_time()
        await world.member("a").acknowledged(database, world.write("a"))
        assert trio.current_time() - began < 5, "nobody waits for the delayed one"
        await world.until(lambda: world.member("a").status()["databases"]["d"]["standbys"]["c"]["streaming"])
        await world.stop("b")
        seq = world.write("a")
        with pytest.raises(AckTimeout):
            await world.member("a").acknowledged(database, seq)
        assert world.database("c").visible.seq >= seq, "not even when it has it"


async def test_a_delay_that_only_the_node_itself_was_told_is_kept_by_all(autojump_clock: object) -> None:
    async with open_world("real", "ab", acks=1, ack_timeout_s=2.0 * DELAY_S) as world:
        await world.start("a")
        await world.start("b", delay_s=DELAY_S)
        database = await world.create("a")
        await world.until(lambda: world.member("a").status()["peers"]["b"]["delay_s"] == DELAY_S)
        seq = world.write("a")
        with pytest.raises(AckTimeout):
            await world.member("a").acknowledged(database, seq)
        assert world.database("b").visible.seq >= seq


async def test_it_is_refused_by_name_as_primary_unless_forced_and_then_goes_back_to_what_it_shows(autojump_clock: object) -> None:
    async with open_world("real", "abc") as world:
        await start_delayed(world, "a", "b")
        await world.create("a")
        kept = world.write("a", 10)
        await world.until(lambda: "d" in world.nodes["c"].engine.databases and world.database("c").visible.seq >= kept, 2 * DELAY_S)
        undone = world.write("a", 10)
        await world.until(lambda: world.same("a", "b"))
        row = world.member("a").status()["peers"]["c"]
        assert (row["delay_s"], row["promotable"]) == (DELAY_S, False) and "delayed" in row["why_not"]
        assert world.member("a").status()["peers"]["b"]["promotable"]
        with pytest.raises(PromotionRefused, match="delayed standby"):
            await world.member("a").switch_over("c", 5.0)
        assert world.member("a").role is Role.PRIMARY
        await world.stop("a")
        with pytest.raises(PromotionRefused, match="c is a delayed standby"):
            await world.member("c").promote()
        await world.member("c").promote(force=True)
        assert world.member("c").status()["delay_s"] == 0, "a primary is behind nobody"
        await world.start("a", peer_delays_s={"c": DELAY_S})
        await world.until(lambda: world.same("a", "b", "c"))
        assert world.database("a").history[-1].first_seq <= undone, "the commits that it did not show yet are gone everywhere"


async def test_it_follows_whoever_is_promoted_and_stays_as_far_behind(autojump_clock: object) -> None:
    async with open_world("real", "abc") as world:
        await start_delayed(world, "a", "b")
        await world.create("a")
        world.write("a", 10)
        await world.until(lambda: world.same("a", "b"))
        await world.stop("a")
        await world.apart("b", "a")
        await world.member("b").promote()
        seq, at = world.write("b", 5), trio.current_time()
        await trio.sleep(DELAY_S - MARGIN_S)
        assert world.database("c").visible.seq < seq
        await world.until(lambda: world.same("b", "c"))
        assert trio.current_time() - at >= DELAY_S
        assert world.database("c").visible.seq >= seq


@pytest.mark.parametrize("ahead_s", [-40.0, 40.0])
async def test_clocks_that_differ_shift_the_delay_and_nothing_else(ahead_s: float, autojump_clock: object) -> None:
    async with open_world("real", "ac") as world:
        world.clocks_ahead_s["c"] = ahead_s
        await start_delayed(world, "a")
        await world.create("a")
        seq, at = world.write("a", 5), trio.current_time()
        await world.until(lambda: "d" in world.nodes["c"].engine.databases and world.database("c").visible.seq == seq, 2 * DELAY_S)
        assert trio.current_time() - at == pytest.approx(DELAY_S - ahead_s, abs=MARGIN_S)


async def test_a_restart_shows_nothing_younger(autojump_clock: object) -> None:
    async with open_world("real", "ac") as world:
        await start_delayed(world, "a")
        await world.create("a")
        first, at = world.write("a", 5), trio.current_time()
        await trio.sleep(DELAY_S / 2)
        world.write("a", 5)
        await world.kill("c")
        await world.start("c", delay_s=DELAY_S)
        await trio.sleep(at + DELAY_S - MARGIN_S - trio.current_time())
        assert world.database("c").visible.seq == 0
        await trio.sleep(2 * MARGIN_S)
        assert world.database("c").visible.seq == first


async def test_what_it_holds_is_bounded_by_the_window_and_the_primary_goes_on(autojump_clock: object) -> None:
    """INV-8: two databases share the window, so that a busy one does not keep the other's commits from being on time."""
    async with open_world("real", "ac", window_bytes=200_000) as world:
        await start_delayed(world, "a")
        for name in ("busy", "quiet"):
            await world.create("a", name)
        world.write("a", 1, "quiet")
        await world.until(lambda: all(name in world.nodes["c"].engine.databases for name in ("busy", "quiet")))
        for _ in range(200):
            world.write("a", 1, "busy", size=10_000)
            await trio.sleep(0.05)
        seq, at = world.write("a", 1, "quiet"), trio.current_time()
        highest = 0
        while trio.current_time() < at + DELAY_S / 2:
            await trio.sleep(5)
            highest = max(highest, world.member("c").held_fill()[0])
            assert world.member("a").window_fills() == [], "its full window is no news"
        assert 50_000 < highest <= 200_000 + 30_000
        await world.until(lambda: world.database("c", "quiet").visible.seq >= seq, 2 * DELAY_S)
        assert trio.current_time() - at == pytest.approx(DELAY_S, abs=MARGIN_S)
        await world.until(lambda: world.same("a", "c", name="busy"), 2 * DELAY_S)
        assert world.member("c").held_fill()[0] < 1_000, "nothing but a MARK"


async def test_a_mark_does_not_wait_for_it(autojump_clock: object) -> None:
    async with open_world("real", "abc") as world:
        await start_delayed(world, "a", "b")
        await world.create("a")
        await world.until(lambda: world.same("a", "b"))
        began = trio.current_time()
        answers = await world.member("a").mark("d")
        assert set(answers) == {"a", "b"} and trio.current_time() - began < 10


async def test_its_copy_is_compared_with_what_the_primary_had_then(autojump_clock: object) -> None:
    """INV-6, long after the primary has forgotten the MARK's hash by itself."""
    delay_s = 2_000
    async with open_world("real", "ac") as world:
        await start_delayed(world, "a", delay_s=delay_s)
        await world.create("a")
        for _ in range(delay_s // 8):
            world.write("a", 1)
            await trio.sleep(10)
        assert min(world.database("a").marks) > world.database("c").visible.seq
        copy = world.member("a").status()["databases"]["d"]["standbys"]["c"]
        assert copy["mark"]["equal"] and copy["mark"]["seq"] > 10, "compared lately"


async def test_after_a_seed_it_says_that_it_is_too_young_until_it_is_not(autojump_clock: object) -> None:
    async with open_world("real", "ac", window_bytes=50_000) as world:
        world.engine_options |= {"memtable_records_max": 100, "log_segment_bytes": 500_000, "log_keep_bytes": 2_000_000, "copy_grace_s": 0.0}
        await start_delayed(world, "a")
        await world.create("a")
        seq = world.write("a", 5)
        await world.until(lambda: "d" in world.nodes["c"].engine.databases and world.database("c").visible.seq == seq, 2 * DELAY_S)
        for _ in range(60):  # more than the log may hold within the delay, and more than the newest part of it that is in memory
            world.write("a", 10, size=20_000)
            await trio.sleep(1)
        await world.until(lambda: "delay-short" in world.alarms("c"), 2 * DELAY_S)
        (alarm,) = [alarm for alarm in world.member("c").alarms if alarm.kind.value == "delay-short"]
        assert f"delay_s ({DELAY_S} s)" in alarm.message and "log_keep_mb" in alarm.message
        await world.until(lambda: "delay-short" not in world.alarms("c"), 3 * DELAY_S)
        world.write("a", 1)
        await world.until(lambda: world.same("a", "c"), 3 * DELAY_S)
        assert world.alarms("a") == world.alarms("c") == set()


# The held frames alone.


def frames(*times_us: int) -> bytes:
    made, chain = b"", 0
    for seq, time_us in enumerate(times_us, 1):
        body = encode_body([Record(Op.PUT, 1, b"k%d" % seq, b"v" * 20)])
        frame, chain = encode(body, record_count=1, epoch=1, seq=seq, synced_seq=0, time_us=time_us, chain_before=chain)
        made += frame
    return made


def test_frames_leave_whole_and_in_order_when_they_are_due() -> None:
    data = frames(10, 20, 30)
    size = len(data) // 3
    held = HeldFrames(delay_us=100, window_bytes=1_000)
    held.add(b"a", data)
    held.add(b"b", frames(15))
    assert held.next_due_us() == 110 and held.take_due(109) is None
    assert held.take_due(110) == (b"a", data[:size])
    assert held.take_due(125) == (b"b", frames(15)) and held.take_due(125) == (b"a", data[size : 2 * size])
    assert held.bytes == size and held.next_due_us() == 130
    held.forget(b"a")
    assert held.bytes == 0 and held.next_due_us() is None and held.take_due(10**9) is None


def test_more_than_its_bound_is_refused_by_the_setting_to_change() -> None:
    held = HeldFrames(delay_us=100, window_bytes=1_000)
    held.bound = 2 * len(frames(1))
    held.add(b"a", frames(1))
    held.add(b"a", frames(1))
    with pytest.raises(PeerError, match="replication_window_mb"):
        held.add(b"b", frames(1))

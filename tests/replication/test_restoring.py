"""A restore on the primary: a new epoch, a history that every standby comes to, from wherever it is (INV-4, INV-6, INV-7)."""

from __future__ import annotations

import copy
import json
from contextlib import suppress

import pytest
import trio

from replication import Role
from storage import Backups, BadRequest, DamagedRecord, MemoryDisk, NotPrimary, TwinlogError
from storage.errors import ReadOnly

from .world import World, open_world

PATIENCE_S = 30.0


async def restore(world: World, node: str, name: str, *, database: str = "d", new_name: str = "") -> dict:
    """As a node does it."""
    member = world.member(node)
    target = new_name or database
    async with member.new_history(target, is_other=bool(new_name)) as history:
        await Backups(world.nodes[node].engine).restore(database, name, new_name=new_name, turnover=history)
    return await member.converged(target, history.linked, PATIENCE_S)


async def backed_up(world: World, nodes: str, *, before: int = 20, after: int = 10) -> tuple[str, str]:
    """A backup with more written behind it: (its name, its state hash)."""
    await world.start(*nodes)
    await world.create("a")
    world.write("a", before)
    await world.until(lambda: world.same(*nodes))
    made = await Backups(world.nodes["a"].engine).backup("d")
    world.write("a", after)
    await world.until(lambda: world.same(*nodes))
    return made.name, made.manifest.state_hash


def dropped(world: World, node: str) -> list[bytes]:
    """As its disk has it."""
    disk = world.nodes[node].disk
    return [bytes.fromhex(text) for text in json.loads(disk.read_file("dropped.json"))["uuids"]] if disk.exists("dropped.json") else []


async def state_hash(world: World, node: str, name: str = "d") -> str:
    return await world.database(node, name).view().state_hash()


async def test_the_standbys_come_to_what_was_restored(autojump_clock: object) -> None:
    async with open_world("real", "abc") as world:
        name, digest = await backed_up(world, "abc")
        later = await state_hash(world, "a")
        found = await restore(world, "a", name)
        assert found["equal"] is True and set(found["nodes"]) == {"a", "b", "c"} and not found["missing"]
        assert found["hash"] == digest
        assert [await state_hash(world, node) for node in "abc"] == [digest] * 3
        assert (world.member("a").role, world.member("a").epoch) == (Role.PRIMARY, 2)
        (safety,) = await Backups(world.nodes["a"].engine).list("d", safety=True)
        assert safety.manifest.state_hash == later
        world.write("a", 5)
        await world.until(lambda: world.same("a", "b", "c"))
        undone = await restore(world, "a", safety.name)
        assert undone["hash"] == later and undone["equal"] is True and world.member("a").epoch == 3
        assert not world.alarms("a") and not world.alarms("b")


async def test_a_standby_that_was_away_is_brought_to_it_and_never_the_other_way(autojump_clock: object) -> None:
    async with open_world("real", "abc") as world:
        name, digest = await backed_up(world, "abc")
        await world.stop("c")
        world.write("a", 7)
        await world.until(lambda: world.same("a", "b"))
        found = await restore(world, "a", name)
        assert found["equal"] is True and "not connected" in found["missing"]["c"]
        await world.start("c")
        await world.until(lambda: world.same("a", "b", "c"))
        assert await state_hash(world, "c") == digest


async def test_acks_count_only_what_the_standby_has_of_the_new_history(autojump_clock: object) -> None:
    async with open_world("real", "ab", acks=1, ack_timeout_s=1.0) as world:
        name, _ = await backed_up(world, "ab")
        found = await restore(world, "a", name)
        assert found["equal"] is True
        seq = world.write("a")
        await world.member("a").acknowledged(world.database("a"), seq)
        world.cut("a", "b")
        await world.apart("a", "b")
        with pytest.raises(TwinlogError, match="did not confirm"):
            await world.member("a").acknowledged(world.database("a"), world.write("a"))


async def test_writes_meet_an_error_that_says_why_and_is_not_retried(autojump_clock: object) -> None:
    async with open_world("real", "ab") as world:
        name, _ = await backed_up(world, "ab")
        member = world.member("a")
        async with member.new_history("d") as history:
            await history.close(world.database("a").uuid)
            with pytest.raises(ReadOnly, match="is being restored") as refused:
                world.write("a")
            assert refused.value.fields["retry"] is False
            with pytest.raises(BadRequest, match="being restored"):
                await member.drop_database("d")
            with pytest.raises(BadRequest, match="under way"):
                async with member.new_history("d"):
                    raise AssertionError
        world.write("a")
        await world.until(lambda: world.same("a", "b"))
        assert member.epoch == 1, "nothing has changed"


async def test_given_up_in_the_last_moment_what_was_there_goes_on(autojump_clock: object) -> None:
    async with open_world("real", "ab") as world:
        await backed_up(world, "ab")
        member, held = world.member("a"), world.database("a")
        async with member.new_history("d") as history:
            await history.close(held.uuid)
            await history.begin(b"another database")
            assert member.epoch == 2
            await trio.sleep(5)
            assert held.history[-1].epoch == 1, "what may be replaced begins no reign of the new epoch"
            assert held.uuid in dropped(world, "a"), "known before it is gone, or a standby would keep it for good"
        await world.until(lambda: member.status()["databases"]["d"]["writable"])
        world.write("a")
        await world.until(lambda: world.same("a", "b"))
        assert held.history[-1].epoch == 2 and held.uuid not in dropped(world, "a")


async def test_only_a_primary_restores(autojump_clock: object) -> None:
    async with open_world("real", "ab") as world:
        name, _ = await backed_up(world, "ab")
        with pytest.raises(NotPrimary, match="restore on the primary") as refused:
            await restore(world, "b", name)
        assert refused.value.fields["primary"] == "a:6900"


async def test_a_damaged_backup_changes_nothing(autojump_clock: object) -> None:
    async with open_world("real", "ab") as world:
        name, _ = await backed_up(world, "ab")
        before = await state_hash(world, "a")
        disk = world.nodes["a"].disk
        path = f"_backups/d/{name}/shard_000.db"
        data = disk.read_file(path)
        disk.replace_file(path, data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DamagedRecord):
            await restore(world, "a", name)
        assert await state_hash(world, "a") == before and world.member("a").epoch == 1
        world.write("a")
        await world.until(lambda: world.same("a", "b"))


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made_again"])
async def test_a_dropped_database_comes_back_on_every_node(again: bool, autojump_clock: object) -> None:
    async with open_world("real", "abc") as world:
        name, digest = await backed_up(world, "abc")
        await world.stop("c")  # it still has the dropped one
        await world.member("a").drop_database("d")
        await world.until(lambda: "d" not in world.nodes["b"].engine.databases)
        if again:
            await world.create("a")
            world.write("a", 3)
            await world.until(lambda: world.same("a", "b"))
        found = await restore(world, "a", name)
        assert found["equal"] is True and set(found["nodes"]) == {"a", "b"}
        await world.start("c")
        world.write("a", 2)
        await world.until(lambda: world.same("a", "b", "c"))
        assert not world.alarms("b") and not world.alarms("c")
        for node in "abc":
            assert len(world.nodes[node].engine.databases) == 1
            assert world.database(node).uuid not in dropped(world, node), "a promotion counts what it lacks of this one"


async def test_under_a_new_name_it_stands_beside_the_old_one(autojump_clock: object) -> None:
    async with open_world("real", "ab") as world:
        name, digest = await backed_up(world, "ab")
        later = await state_hash(world, "a")
        found = await restore(world, "a", name, new_name="copy")
        assert found["equal"] is True and found["hash"] == digest
        assert world.member("a").epoch == 1, "nobody had a copy, so it takes no epoch"
        assert world.database("a", "copy").uuid != world.database("a").uuid
        assert await state_hash(world, "b", "copy") == digest and await state_hash(world, "b") == later
        world.write("a", 3, "copy")
        world.write("a", 3)
        await world.until(lambda: world.same("a", "b") and world.same("a", "b", name="copy"))
        with pytest.raises(TwinlogError, match="already"):
            await restore(world, "a", name, new_name="copy")


CHANGES = ("create", "open_append", "replace_file", "rename", "remove", "remove_tree", "make_dir", "sync_dir")


class Moment:
    """Copies a node's disk right before its n-th change from now on, and cuts the node off at once: what a kill in that moment leaves."""

    def __init__(self, world: World, node: str, number: int) -> None:
        self._world, self._node, self._left = world, node, number
        self._disk = world.nodes[node].disk
        self.kept: MemoryDisk | None = None
        for change in CHANGES:
            setattr(self._disk, change, self._counted(getattr(self._disk, change)))

    def _counted(self, call):
        def run(*args):
            self._left -= 1
            if self._left == 0:
                self.take()
            return call(*args)

        return run

    def take(self) -> None:
        plain = copy.copy(self._disk)
        for change in CHANGES:
            del plain.__dict__[change]
        self.kept = copy.deepcopy(plain)
        for other in self._world.nodes:
            if other != self._node:
                self._world.cut(self._node, other)


async def killed_at(number: int) -> tuple[bool, str]:
    """The primary is killed right before its n-th change of the disk in a restore: (whether the restore had ended before, what is there afterwards)."""
    async with open_world("real", "ab") as world:
        name, digest = await backed_up(world, "ab", before=6, after=4)
        later = await state_hash(world, "a")
        node = world.nodes["a"]
        moment = Moment(world, "a", number)
        await restore_for_a_while(world, name)
        ended = moment.kept is None
        if ended:
            moment.take()
        await world.stop("a")
        assert moment.kept is not None
        node.disk = moment.kept
        world.heal("a", "b")
        await world.start("a")
        await world.until(lambda: "d" in node.engine.databases and world.member("a").status()["databases"]["d"]["writable"])
        found = await state_hash(world, "a")
        assert found in (digest, later), "one of the two states, never another"
        await world.until(lambda: world.same("a", "b"))
        assert await state_hash(world, "b") == found
        world.write("a", 2)
        await world.until(lambda: world.same("a", "b"))
        assert not world.alarms("a") and not world.alarms("b"), "no two histories in one epoch"
        epochs = [reign.epoch for reign in world.database("a").history]
        assert epochs == sorted(epochs) and epochs[-1] == world.member("a").epoch
        if found == digest:
            assert world.member("a").epoch >= 2, "the restored one is of the new epoch"
            safeties = await Backups(node.engine).list("d", safety=True)
            assert [info.manifest.state_hash for info in safeties] == [later], "what was there is on the shelf"
        return ended, "restored" if found == digest else "old"


async def restore_for_a_while(world: World, name: str) -> None:
    with suppress(TwinlogError, OSError), trio.move_on_after(10):
        member = world.member("a")
        async with member.new_history("d") as history:
            await Backups(world.nodes["a"].engine).restore("d", name, turnover=history)
        await member.converged("d", history.linked, 5)


async def _every(step: int, start: int) -> set[str]:
    outcomes = set()
    for number in range(start, 2_000, step):
        ended, outcome = await killed_at(number)
        outcomes.add(outcome)
        if ended:
            return outcomes
    raise AssertionError("the restore never ended")


@pytest.mark.parametrize("start", range(1, 4))
async def test_a_primary_that_is_killed_leaves_one_of_the_two_states(start: int, autojump_clock: object) -> None:
    assert await _every(12, start * 4) == {"old", "restored"}


@pytest.mark.sweep
async def test_a_primary_that_is_killed_at_any_step_leaves_one_of_the_two_states(autojump_clock: object) -> None:
    assert await _every(1, 1) == {"old", "restored"}

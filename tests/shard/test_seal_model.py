"""Sealing against a dict: whatever is written and wherever the seals fall, the shard set reads as the dict does."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from storage.check import check_database
from storage.commit.codec import CATALOG
from storage.shard import checkpoint as checkpoints
from storage.values.keys import hash64
from tests.shard.shard_world import DIRECTORY, World

KEYS = st.integers(0, 12) | st.sampled_from(["a", "b", "ü"])
NAMES = st.sampled_from(["users", "chat", "é"])


def colliding(collection: int, key: bytes) -> int:
    """Many keys share a hash, also over collections; some hashes are next to each other."""
    return hash64(collection % 2, key) % 3


def keep_newest_checkpoint(world: World) -> None:
    """Remove older manifests, and then every file that only they named."""
    newest, _ = checkpoints.newest_valid(world.disk, DIRECTORY)
    for seq in checkpoints.list_seqs(world.disk, DIRECTORY)[:-1]:
        world.disk.remove(checkpoints.path_of(DIRECTORY, seq))
    for name in checkpoints.orphans(world.disk, DIRECTORY, [newest]):
        world.disk.remove(f"{DIRECTORY}/{name}")
    world.check(world.open())


class Sealing(RuleBasedStateMachine):
    """Random writes, drops, seals, compactions, damage to index files, reopening."""

    @initialize(shards=st.sampled_from([1, 2, 5]), crc=st.booleans(), collide=st.booleans())
    def begin(self, shards: int, crc: bool, collide: bool) -> None:
        self.world = World(shards=shards, crc=crc, hash_key=colliding if collide else hash64)
        self.world.create("chat")
        self.world.commit()
        self.shards = None
        self.pinned: list = []

    def pick(self, name: str) -> int:
        number = self.world.names.get(name)
        return number if number is not None else self.world.create(name)

    @rule(name=NAMES, writes=st.lists(st.tuples(KEYS, st.integers(0, 3)), max_size=6))
    def write(self, name: str, writes: list) -> None:
        collection = self.pick(name)
        for identity, value in writes:
            if value:
                self.world.put(collection, identity, value=value, pad="x" * value)
            else:
                self.world.delete(collection, identity)
        self.world.commit()

    @rule(name=NAMES, again=st.booleans())
    def drop(self, name: str, again: bool) -> None:
        if name in self.world.names:
            self.world.drop(name)
            if again:
                self.world.put(self.world.create(name), 1, value=9)
            self.world.commit()

    @rule(name=NAMES)
    def rename(self, name: str) -> None:
        number = self.world.names.pop(name, None)
        if number is not None and "renamed" not in self.world.names:
            self.world.delete(CATALOG, name)
            self.world.put(CATALOG, "renamed", id=number)
            self.world.names["renamed"] = number
            self.world.commit()
        elif number is not None:
            self.world.names[name] = number

    @rule()
    def seal(self) -> None:
        self.world.seal()
        self.shards = self.world.open(self.shards)
        assert not self.shards.findings
        self.world.check(self.shards)

    @precondition(lambda self: self.shards is not None)
    @rule(data=st.data(), offers=st.booleans())
    def compact(self, data: st.DataObject, offers: bool) -> None:
        """A shard's logs are copied; seals come and go, with or without taking the copy up."""
        taken = {each.shard for each in self.world.compacted}
        free = [number for number, shard in enumerate(self.shards.shards) if shard.files.logs and number not in taken]
        if free and self.world.sealed is not None:
            self.world.compact(data.draw(st.sampled_from(free)))
        self.world.offers = offers

    @precondition(lambda self: self.shards is not None)
    @rule()
    def forget_compactions(self) -> None:
        """As after a restart: what was not taken up is left lying."""
        self.world.compacted.clear()

    @precondition(lambda self: self.shards is not None)
    @rule(data=st.data(), scribble=st.booleans())
    def damage_index(self, data: st.DataObject, scribble: bool) -> None:
        """INV-5: an index file that is gone or scribbled on changes no answer, neither now nor after the next seal."""
        self.world.seal()
        checkpoint, _ = checkpoints.newest_valid(self.world.disk, DIRECTORY)
        files = [index.file for shard in checkpoint.shards for index in shard.index]
        if not files:  # all that was written came and went
            return
        path = f"{DIRECTORY}/{data.draw(st.sampled_from(files))}"
        content = bytearray(self.world.disk.read_file(path))
        if scribble:
            content[data.draw(st.integers(0, len(content) - 1))] ^= 0x40
            self.world.disk.replace_file(path, bytes(content))
        else:
            self.world.disk.remove(path)
        opened = self.world.open()
        assert len(opened.findings) == 1
        self.world.check(opened)
        self.world.create(f"after {self.world.seq}")
        self.world.commit()
        self.world.seal()
        self.shards = self.world.open()
        assert not self.shards.findings
        self.world.check(self.shards)

    @precondition(lambda self: self.shards is not None)
    @rule()
    def pin(self) -> None:
        """A set that is held reads the same however the database goes on."""
        if self.shards.seq == self.world.seq:
            number = self.world.names.get("chat", CATALOG)
            self.pinned.append((self.shards, number, list(self.shards.scan(number))))

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.offers = True
        self.world.create("the end")
        self.world.commit()
        self.world.seal()
        self.world.check(self.world.open())
        assert not self.world.compacted, "what is offered is taken up"
        keep_newest_checkpoint(self.world)
        for shards, number, rows in self.pinned:
            assert list(shards.scan(number)) == rows
        if self.world.hash_key is hash64:
            assert [str(finding) for finding in check_database(self.world.disk, DIRECTORY)] == []


TestSealing = Sealing.TestCase
TestSealing.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

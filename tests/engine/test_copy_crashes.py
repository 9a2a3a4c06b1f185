"""A copy of a live directory whose first opening is killed, or cut off from power, before any of its disk changes: it stays a copy until it
is settled (INV-1, INV-5)."""

from __future__ import annotations

import copy
import json
import random

import pytest

from storage import Engine, Seams, WorkHere, identity, recovery
from storage.check import check_database
from storage.commit.anew import write_anew
from storage.commit.scan import list_segments, written_end
from storage.commit.synced import begin_anew, heard
from storage.copied import NOTE_FILE, is_copied, note_copy
from storage.errors import DamagedRecord
from storage.finding import Severity
from storage.recovery import recover
from storage.rewinding import CLOSED_FILE, REWIND_FILE
from storage.shard import checkpoint as checkpoints
from tests.engine.model import memory_seams, options
from tests.engine.test_hot_copy import (
    FOREIGN_INODES,
    SMALL,
    CopiedDisk,
    both,
    copied_while_writing,
    prefix_of,
)
from tests.sim.disk import Platter, SimCrash, SimDisk

STEPS_MAX = 300
GRACE_S = 1000.0
COPIES = 2  # of each kind one
BOUND = pytest.mark.parametrize("records_max", [5, 1000])  # with and without sealing while the log is replayed


async def torn_copies() -> list[tuple[CopiedDisk, int]]:
    """(a copy with several checkpoints whose newest segment, or the one before it, was read in the middle of an append; the last seq that it
    comes to)."""
    found: list[tuple[CopiedDisk, int]] = []
    for seed in range(100):
        made, _ = await copied_while_writing(seed, 8, copy_grace_s=GRACE_S)
        segments = [path for path, _ in list_segments(made, "db")]
        if len(checkpoints.list_seqs(made, "db")) < 3 or len(segments) < 3:
            continue
        torn = made._files[segments[-1 - len(found) % 2]].data
        del torn[written_end(torn) - 5 :]
        opened = recover(copy.deepcopy(made), "db", records_max=1000)
        if not opened.damaged and any("kept in salvage/" in finding for finding in opened.findings):
            found.append((made, opened.last_seq))
        if len(found) == COPIES:
            return found
    raise AssertionError("too few copies were torn: the test shows nothing")


def on_a_platter(made: CopiedDisk, seed: int) -> Platter:
    """Names are durable, bytes are not: what a copying program leaves that syncs nothing, some seconds later."""
    platter = Platter(random.Random(seed))
    platter.sync_delay_s = platter.call_delay_s = platter.usual_call_delay_s = 0.0
    platter._next_number = 10 * FOREIGN_INODES
    disk = platter.mount()
    for directory in sorted(made._directories - {""}):
        disk.make_dir(directory)
    for path, inode in made._files.items():
        if path.startswith("db/"):
            disk.create(path).append(bytes(inode.data))
    for directory in sorted(made._directories):
        disk.sync_dir(directory)
    disk.kill()
    return platter


async def shown_by(disk: SimDisk) -> int:
    """The last seq, as an engine shows it; its documents are one state that the writer went through."""
    seams = memory_seams(disk, start=2)
    async with Engine.open(Seams(disk, seams.time_us, seams.random_bytes, WorkHere(disk)), options=options(**SMALL)) as engine:
        database = engine.database("db")
        assert not database.damaged, database.findings
        prefix_of(*await both(database))
        return database.position.seq


def struck(platter: Platter, step: int, records_max: int) -> bool:
    """Whether an opening was killed before its step-th change of the disk; false when it has fewer."""
    disk = platter.mount()
    disk.crash_in(step)
    try:
        recover(disk, "db", records_max=records_max)
    except SimCrash:
        return True
    finally:
        disk.kill()
    return False


async def check_every_kill(whole: Platter, last_seq: int, records_max: int) -> None:
    """However an opening is killed, the next one settles the copy: one checkpoint, all of it durable."""
    for step in range(1, STEPS_MAX):
        platter = copy.deepcopy(whole)
        if not struck(platter, step, records_max):
            break
        disk = platter.mount()
        found = recover(disk, "db", records_max=records_max)
        assert not found.damaged, found.findings
        kept = [found.checkpoint.seq] if found.checkpoint else []
        assert checkpoints.list_seqs(disk, "db") == kept, f"killed at step {step}: another one could seem whole later"
        assert not is_copied(disk, "db"), f"killed at step {step}"
        disk.kill()
        platter.rng = random.Random(step)
        platter.power_cut()
        disk = platter.mount()
        assert await shown_by(disk) == found.last_seq == last_seq, f"killed at step {step}: what was shown is gone after a power cut"
        assert [each for each in check_database(disk, "db") if each.severity is Severity.ERROR] == [], f"killed at step {step}"
    assert step > 20, "an opening has that many steps"


@BOUND
async def test_a_copy_that_is_killed_at_any_step_of_its_opening_is_settled_by_the_next(records_max: int) -> None:
    for made, last_seq in await torn_copies():
        await check_every_kill(on_a_platter(made, 1), last_seq, records_max)


async def test_a_copy_made_in_the_middle_of_a_rewind_is_settled_after_it() -> None:
    for made, last_seq in await torn_copies():
        to_seq = last_seq - 3
        made.replace_file(f"db/{REWIND_FILE}", json.dumps({"to_seq": to_seq, "entry": None}).encode())
        await check_every_kill(on_a_platter(made, 1), to_seq, 1000)


@BOUND
async def test_a_copy_that_a_power_cut_met_in_its_opening_has_a_prefix_or_says_what_is_missing(records_max: int) -> None:
    """What the copying program did not sync may be gone; what is shown then is one state, and stays."""
    shown = 0
    for number, (made, _) in enumerate(await torn_copies()):
        whole = on_a_platter(made, number)
        for step in range(1, STEPS_MAX):
            platter = copy.deepcopy(whole)
            platter.rng = random.Random(number * STEPS_MAX + step)
            if not struck(platter, step, records_max):
                break
            platter.power_cut()
            disk = platter.mount()
            try:
                found = recover(disk, "db", records_max=records_max)
            except DamagedRecord:
                continue  # it has lost what it is
            if found.damaged:
                assert "twinlog hold" in found.damaged, f"cut off at step {step}: {found.damaged}"
                continue
            shown += 1
            disk.kill()
            platter.power_cut()
            disk = platter.mount()
            assert await shown_by(disk) == found.last_seq, f"cut off at step {step}"
        assert step > 20, "an opening has that many steps"
    assert shown > 20, "too few could be opened: the test shows nothing"


async def test_what_an_earlier_try_said_it_had_synced_does_not_outlive_the_log_that_was_cut_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a full disk lets no segment be written anew, nothing is said in its place either."""
    monkeypatch.setattr(recovery, "_could_write_anew", lambda *_: False)
    for made, last_seq in await torn_copies():
        disk = on_a_platter(made, 1).mount()
        note_copy(disk, "db")
        uuid = identity.read(disk, "db").uuid
        begin_anew(disk, "db", uuid, last_seq + 7)
        for _ in range(2):
            found = recover(disk, "db", records_max=1000)
            assert (found.last_seq, found.damaged, heard(disk, "db", uuid)) == (last_seq, "", 0)


async def test_on_a_full_disk_a_copy_is_shown_untouched_until_there_is_space() -> None:
    for made, last_seq in await torn_copies():
        before = {path: bytes(inode.data) for path, inode in made._files.items()}
        made.capacity_bytes = sum(map(len, before.values()))
        found = recover(made, "db", records_max=5)
        assert found.wants_space and "the disk is full" in found.damaged and found.last_seq == last_seq
        assert {path: data for path, data in before.items() if path != f"db/{CLOSED_FILE}"} == {
            path: bytes(inode.data) for path, inode in made._files.items()
        }
        assert is_copied(made, "db")
        made.capacity_bytes = None
        found = recover(made, "db", records_max=5)
        assert (found.last_seq, found.damaged, is_copied(made, "db")) == (last_seq, "", False)
        assert not made.exists(f"db/{NOTE_FILE}")


async def test_a_copy_of_a_copy_that_was_not_settled_is_one_until_it_is() -> None:
    made, last_seq = (await torn_copies())[0]
    whole = on_a_platter(made, 1)
    disk = whole.mount()
    note_copy(disk, "db")
    for path, _ in list_segments(disk, "db"):
        write_anew(disk, path, disk.read_file(path))
    assert is_copied(disk, "db")
    again = CopiedDisk()
    for directory in sorted(made._directories - {""}):
        again.make_dir(directory)
    for path, inode in whole.files():
        again.replace_file(path, bytes(inode.data))
    found = recover(again, "db", records_max=1000)
    assert (found.last_seq, found.damaged, is_copied(again, "db")) == (last_seq, "", False)

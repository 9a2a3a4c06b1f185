"""Each checker on records made by hand: silent on a run that kept its promises, loud on the smallest run that did not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import msgpack
import pytest

from storage.commit.codec import CATALOG, Op, first_chain
from storage.commit.codec import Record as Row
from tests.sim import checkers
from tests.sim.checkers import Record
from tests.sim.history import Commit, CommitTree, Digest, digest_of
from tests.sim.observations import Acknowledged, Found, Got, Hashed, Observations, Promotion, Seen, Transacted
from tests.sim.sizes import draw_sizes

ROOT = 7
KEY, DOC = b"k", msgpack.packb({"_id": 1})


def commit(seq: int, *rows: Row, epoch: int = 1, parent: int | None = None, origin: str = "a", chain: int = 0) -> Commit:
    parent = (ROOT if seq == 1 else 100 + seq - 1) if parent is None else parent
    return Commit(chain or 100 + seq, parent, seq, epoch, rows, origin, float(seq))


def request(name: bytes) -> Row:
    return Row(Op.REQUEST, 0, name, b"")


@pytest.fixture
def record() -> Record:
    """Reign, a collection with one document (request one), another request; shown and acknowledged as it was."""
    tree = CommitTree(lambda: 0.0)
    tree.roots.add(ROOT)
    named = Row(Op.PUT, CATALOG, b"c0", msgpack.packb({"_id": "c0", "id": 1}))
    tree._add(commit(1, Row(Op.REIGN, 0, b"", bytes(8))))
    tree._add(commit(2, named, Row(Op.PUT, 1, KEY, DOC), request(b"one")))
    tree._add(commit(3, Row(Op.DELETE, 1, b"other", b""), request(b"two")))
    sizes = replace(draw_sizes(random.Random(0), standbys=1), acks=1, degrades=False)
    sizes = replace(sizes, engine=replace(sizes.engine, sync_mode=type(sizes.engine.sync_mode)("sync")))
    seen = Seen("a", 0, 4.0, 1, 3, 103, digest_of([(1, KEY, DOC)]), (("c0", 1),), final=True)
    observations = Observations(seen=[seen], acknowledged=[Acknowledged(b"one", "a", 2.5, 1, 2)])
    return Record(sizes, tree, observations, {}, [], 103)


def told(lines: Iterator[str], promise: str) -> bool:
    return any(line.startswith(promise) for line in lines)


def test_a_good_record_passes(record: Record) -> None:
    assert checkers.broken_promises(record) == []


def test_lost_acknowledgement(record: Record) -> None:
    record.observations.acknowledged.append(Acknowledged(b"gone", "a", 3.5, 1, 4))
    assert told(checkers.inv1_acknowledged_is_kept(record), "INV-1")


def test_request_applied_twice(record: Record) -> None:
    record.tree._add(commit(4, request(b"one")))
    record.end_chain = 104
    assert told(checkers.inv1_acknowledged_is_kept(record), "INV-1")


def test_a_power_cut_excuses_async_within_the_window_only(record: Record) -> None:
    lost = Acknowledged(b"gone", "a", 10.0, 1, 4)
    record.power_cuts = [(10.01, "a")]
    assert not checkers.may_be_lost(record, lost), "sync mode is never excused"
    mode = type(record.sizes.engine.sync_mode)("async")
    record.sizes = replace(record.sizes, acks=0, engine=replace(record.sizes.engine, sync_mode=mode))
    assert checkers.may_be_lost(record, lost)
    record.power_cuts = [(12.0, "a")]
    assert not checkers.may_be_lost(record, lost)
    record.power_cuts = [(10.01, "b")]
    assert not checkers.may_be_lost(record, lost), "only the node that acknowledged it had to keep it"
    record.sizes = replace(record.sizes, acks=1)
    record.power_cuts = [(10.01, "a")]
    assert not checkers.may_be_lost(record, lost), "a standby has it too"
    record.power_cuts = [(10.01, "a"), (10.02, "b")]
    assert checkers.may_be_lost(record, lost)
    record.power_cuts = [(10.02, "b")]
    record.observations.promotions.append(Promotion("b", 10.01, 2, 103, True))
    held = Acknowledged(b"one", "a", 10.0, 1, 2)
    assert any(b"one" in commit.requests for commit in record.tree.path_to(103))
    assert checkers.may_be_lost(record, held), "b alone counted when it lost power"
    record.power_cuts = []
    assert not checkers.may_be_lost(record, held), "and it had it when it was promoted"


def test_an_answer_from_memory_is_excused_as_the_first_one_is(record: Record) -> None:
    mode = type(record.sizes.engine.sync_mode)("async")
    record.sizes = replace(record.sizes, engine=replace(record.sizes.engine, sync_mode=mode))
    answers = [Acknowledged(b"gone", "a", at_s, 1, 4) for at_s in (5.0, 10.0)]
    record.observations.promotions.append(Promotion("b", 11.0, 2, 103, True))
    record.observations.acknowledged += answers
    record.power_cuts = [(5.01, "b")]
    assert not told(checkers.inv1_acknowledged_is_kept(record), "INV-1"), "b had it, and lost power before it had synced it"
    record.power_cuts = [(7.0, "b")]
    assert told(checkers.inv1_acknowledged_is_kept(record), "INV-1")
    record.power_cuts = [(5.01, "b")]
    record.observations.acknowledged[-1] = replace(answers[1], seq=5)
    assert told(checkers.inv1_acknowledged_is_kept(record), "INV-1"), "done again, and acknowledged again"


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("acks", [0, 1])
@pytest.mark.parametrize("before", [False, True])
def test_a_promotion_excuses_what_it_may(record: Record, safe: bool, acks: int, before: bool) -> None:
    record.sizes = replace(record.sizes, acks=acks)
    record.observations.promotions.append(Promotion("b", 5.0, 2, 103, safe))
    lost = Acknowledged(b"gone", "a", 4.0 if before else 6.0, 1, 4)
    assert checkers.may_be_lost(record, lost) == (not before or not safe or acks == 0)
    assert not checkers.may_be_lost(record, replace(lost, request=b"one")), "the promoted node had it"
    assert not checkers.may_be_lost(record, replace(lost, at_s=6.0, epoch=2)), "acknowledged by the new primary"


def test_content_of_no_commit(record: Record) -> None:
    record.observations.seen.append(replace(record.observations.seen[0], digest=Digest(2, 5)))
    assert told(checkers.inv2_prefix(record), "INV-2")


def test_a_database_that_was_created_and_never_written_to_is_empty(record: Record) -> None:
    empty = replace(record.observations.seen[0], epoch=0, seq=0, chain=first_chain(b"u" * 16), digest=Digest(), collections=(), final=False)
    record.observations.seen.append(empty)
    assert told(checkers.inv2_prefix(record), "INV-2"), "nobody ever created it"
    record.tree.begins(b"u" * 16)
    assert not told(checkers.inv2_prefix(record), "INV-2")
    record.observations.seen[-1] = replace(empty, digest=Digest(1, 5))
    assert told(checkers.inv2_prefix(record), "INV-2")


def test_state_of_a_chain_nobody_wrote(record: Record) -> None:
    record.observations.seen.append(replace(record.observations.seen[0], chain=999))
    assert told(checkers.inv2_prefix(record), "INV-2")


@pytest.mark.parametrize(("chain", "document", "holds"), [(103, DOC, True), (103, None, False), (101, DOC, False), (101, None, True)])
def test_single_reads(record: Record, chain: int, document: bytes | None, holds: bool) -> None:
    record.observations.got.append(Got("a", chain, "c0", KEY, document))
    assert told(checkers.inv2_single_reads(record), "INV-2") != holds


def test_going_back_within_one_opening(record: Record) -> None:
    older = replace(record.observations.seen[0], seq=2, chain=102)
    record.observations.seen.append(older)
    assert told(checkers.inv3_order(record), "INV-3")
    record.observations.seen[-1] = replace(older, opening=1)
    assert not told(checkers.inv3_order(record), "INV-3")


def test_a_position_that_is_not_its_chains(record: Record) -> None:
    record.observations.seen.append(replace(record.observations.seen[0], seq=4))
    assert told(checkers.inv3_order(record), "INV-3")


@pytest.mark.parametrize(
    "bad",
    [
        commit(4, epoch=1, origin="b"),
        commit(5, parent=103),
        commit(4, epoch=0),
        commit(4, epoch=2, origin="b"),
        commit(2, parent=ROOT, chain=900),
    ],
    ids=["second writer", "gap", "epoch falls", "no reign", "begins late"],
)
def test_one_writer_an_epoch(record: Record, bad: Commit) -> None:
    record.tree._add(bad)
    assert told(checkers.inv4_one_writer(record), "INV-4")


def test_equal_positions_with_two_chains(record: Record) -> None:
    record.tree._add(commit(3, parent=102, chain=933))
    record.observations.seen.append(replace(record.observations.seen[0], node="b", chain=933))
    assert told(checkers.inv6_equal_state(record), "INV-6")


def test_state_hash_of_something_else(record: Record) -> None:
    fold = dict(record.tree.walk())
    assert fold, "the tree can be walked"
    record.observations.hashed.append(Hashed("a", "mark", 3, 103, "00" * 32))
    assert told(checkers.inv6_equal_state(record), "INV-6")


def test_a_run_without_an_end(record: Record) -> None:
    record.end_chain = None
    assert list(checkers.no_surprises(record))


def test_answers_of_queries(record: Record) -> None:
    document = msgpack.packb({"_id": 2, "n": 5})
    record.tree._add(commit(4, Row(Op.PUT, 1, b"k2", document)))
    record.observations.found.append(Found("a", 104, "c0", 0, 10, (document,)))
    assert not told(checkers.inv2_queries(replaced_first(record)), "INV-2")
    record.observations.found.append(Found("a", 104, "c0", 0, 10, ()))
    assert told(checkers.inv2_queries(record), "INV-2")


def replaced_first(record: Record) -> Record:
    """The document without n goes: queries ask for n."""
    record.tree._add(commit(5, Row(Op.DELETE, 1, KEY, b""), parent=103, chain=901))
    record.tree.commits[104] = replace(record.tree.commits[104], parent=901, seq=6)
    return record


def transacted(record: Record, reads: bytes | None = DOC, outcome: str = "committed", chain: int = 103) -> None:
    """A transaction begun at commit 3 that read the document and wrote it, as commit 4 says."""
    record.tree._add(commit(4, Row(Op.PUT, 1, KEY, b"new"), request(b"tx"), parent=103))
    record.observations.transacted.append(
        Transacted(b"tx", "a", 3.5, chain, (("c0", KEY, reads),), (("c0", KEY),), outcome)
    )


@pytest.mark.parametrize("outcome", ["committed", "unknown"])
def test_a_good_transaction(record: Record, outcome: str) -> None:
    transacted(record, outcome=outcome)
    assert not list(checkers.snapshot_isolation(record))


def test_a_dirty_read(record: Record) -> None:
    transacted(record, reads=b"never committed")
    assert told(checkers.snapshot_isolation(record), "snapshot")


def test_an_aborted_read(record: Record) -> None:
    transacted(record, outcome="aborted")
    assert told(checkers.snapshot_isolation(record), "aborted read")


def test_a_lost_update(record: Record) -> None:
    record.tree._add(commit(4, Row(Op.PUT, 1, KEY, b"between"), parent=103, chain=903))
    record.tree._add(commit(5, Row(Op.PUT, 1, KEY, b"new"), request(b"tx"), parent=903))
    record.observations.transacted.append(Transacted(b"tx", "a", 3.5, 103, (("c0", KEY, DOC),), (("c0", KEY),), "committed"))
    assert told(checkers.snapshot_isolation(record), "lost update")


def test_a_commit_in_another_history(record: Record) -> None:
    record.tree._add(commit(3, parent=102, chain=933))
    record.tree._add(commit(4, Row(Op.PUT, 1, KEY, b"new"), request(b"tx"), parent=933))
    record.observations.transacted.append(Transacted(b"tx", "a", 3.5, 103, (), (("c0", KEY),), "committed"))
    assert told(checkers.snapshot_isolation(record), "snapshot")


def test_half_a_transaction(record: Record) -> None:
    transacted(record)
    record.observations.transacted[-1] = replace(record.observations.transacted[-1], writes=(("c0", KEY), ("c0", b"other")))
    assert told(checkers.snapshot_isolation(record), "half a transaction")


def test_a_value_twice_in_a_unique_index(record: Record) -> None:
    index = {"name": "v", "key": [["v", 1]], "unique": True, "number": 2}
    entry = Row(Op.PUT, CATALOG, b"c0", msgpack.packb({"_id": "c0", "id": 1, "indexes": [index]}))
    rows = [Row(Op.PUT, 1, bytes([n]), msgpack.packb({"_id": n, "v": 7})) for n in (1, 2)]
    record.tree._add(commit(4, entry, Row(Op.DELETE, 1, KEY, b""), *rows, parent=103))
    record.end_chain = 104
    assert told(checkers.unique_values(record), "unique")


@pytest.mark.parametrize(("harm", "reported", "excused"), [("flip", False, False), ("flip", True, True), ("lie", False, True)])
def test_what_a_harmed_device_excuses(record: Record, harm: str, reported: bool, excused: bool) -> None:
    record.harmed, record.sizes = True, replace(record.sizes, harm=harm)
    record.observations.reported += ["damage"] * reported
    record.observations.acknowledged.append(Acknowledged(b"gone", "a", 3.5, 1, 4))
    assert told(checkers.inv1_acknowledged_is_kept(record), "INV-1") != excused


def test_a_last_frame_that_was_misdirected_is_excused_and_none_before_it(record: Record) -> None:
    record.harmed, record.sizes = True, replace(record.sizes, harm="misdirect")
    record.power_cuts.append((8.0, "a"))
    record.observations.acknowledged.append(Acknowledged(b"gone", "a", 5.5, 1, 4))
    assert not told(checkers.inv1_acknowledged_is_kept(record), "INV-1")
    record.observations.acknowledged.append(Acknowledged(b"later", "a", 9.0, 1, 5))
    assert told(checkers.inv1_acknowledged_is_kept(record), "INV-1: request 6c61746572"), "nothing was cut after that one"
    record.observations.acknowledged[-1] = Acknowledged(b"later", "a", 6.0, 1, 5)
    assert told(checkers.inv1_acknowledged_is_kept(record), "INV-1: request 676f6e65"), "a later frame vouched for it"


def test_damage_where_none_was_done(record: Record) -> None:
    record.observations.reported.append("a reader was told of damage")
    assert told(checkers.no_surprises(record), "damage")


def test_two_writers_of_one_epoch_at_one_moment(record: Record) -> None:
    record.observations.rivals.append("a and b both take writes in epoch 1")
    assert told(checkers.inv4_one_writer(record), "INV-4: a and b both take writes")


def test_an_epoch_that_the_operator_gave_to_two_nodes_promises_nothing_from_then_on(record: Record) -> None:
    record.tree._add(commit(4, origin="b"))
    lost = Acknowledged(b"gone", "a", 9.0, 1, 4)
    assert told(checkers.inv4_one_writer(record), "INV-4") and not checkers.may_be_lost(record, lost)
    record.observations.contradicted[1] = 8.0
    assert not list(checkers.inv4_one_writer(record)) and checkers.may_be_lost(record, lost)
    assert not checkers.may_be_lost(record, replace(lost, at_s=7.0)), "what was acknowledged before counts"
    assert not checkers.may_be_lost(record, replace(lost, epoch=2)), "other epochs count"


def test_of_two_primaries_of_one_epoch_the_one_that_was_kept_excuses_what_it_lacked(record: Record) -> None:
    """Before the operator's mistake everything counts that the twin had, and where the other one is kept everything."""
    reign = Row(Op.REIGN, 0, b"", bytes(8))
    record.tree._add(commit(3, reign, origin="b", chain=903, parent=102))
    record.observations.contradicted[1] = 8.0
    record.observations.twins.append(Promotion("b", 8.0, 1, 102, safe=False))
    lost, had = Acknowledged(b"two", "a", 7.0, 1, 3), Acknowledged(b"one", "a", 7.0, 1, 2)
    assert record.end_chain == 103 and not checkers.may_be_lost(record, lost), "the other one was kept"
    record.end_chain = 903
    assert checkers.may_be_lost(record, lost) and not checkers.may_be_lost(record, had)
    record.observations.acknowledged = [lost, had]
    assert not told(checkers.inv1_acknowledged_is_kept(record), "INV-1")
    assert not checkers.may_be_lost(record, replace(lost, epoch=2, at_s=9.0)), "other epochs count"
    record.observations.twins[0] = replace(record.observations.twins[0], epoch=2)
    assert not checkers.may_be_lost(record, lost), "it led, but not by the old role.json"


def test_every_branch_is_folded_from_its_own_commits(record: Record) -> None:
    put = Row(Op.PUT, 1, b"later", msgpack.packb({"_id": 2}))
    record.tree._add(commit(3, put, chain=903, parent=102))
    record.tree._add(commit(4, Row(Op.DELETE, 1, KEY, b""), chain=904, parent=903))
    record.tree._add(commit(4))
    held = {chain: sorted(fold.content.get(1, {})) for chain, fold in record.tree.walk()}
    assert held == {ROOT: [], 101: [], 102: [KEY], 103: [KEY], 104: [KEY], 903: [KEY, b"later"], 904: [b"later"]}

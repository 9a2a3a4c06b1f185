"""The matching table, checked against copies as plain lists of commits, for every small pair of them."""

from __future__ import annotations

import itertools

import pytest

from replication.matching import Verdict, common_point, is_longer, match, settle
from replication.messages import Order
from storage import Reign

# A copy is a list of (epoch, reign id) for each commit; the chain before a reign is told by the commits before it.
Copy = tuple[tuple[int, int], ...]


def history(copy: Copy) -> tuple[Reign, ...]:
    reigns = []
    for seq, (epoch, number) in enumerate(copy, start=1):
        if not reigns or (reigns[-1].epoch, reigns[-1].id) != (epoch, number):
            reigns.append(Reign(epoch, number, seq, hash(copy[: seq - 1]) & 0xFFFFFFFF))
    return tuple(reigns)


def shared(left: Copy, right: Copy) -> int:
    count = 0
    for a, b in zip(left, right):
        if a != b:
            break
        count += 1
    return count


REIGNS = [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5)]
COPIES: list[Copy] = [()]
for length in range(1, 5):
    for picks in itertools.combinations_with_replacement(range(len(REIGNS)), length):
        COPIES.append(tuple(REIGNS[index] for index in picks))


def test_common_point_is_the_longest_common_prefix_of_every_pair() -> None:
    for left, right in itertools.product(COPIES, COPIES):
        assert common_point(history(left), len(left), history(right), len(right)) == shared(left, right)


def test_every_pair_of_copies_has_the_right_verdict() -> None:
    seen = set()
    for primary, standby in itertools.product(COPIES, COPIES):
        verdict = match(history(primary), len(primary), history(standby), len(standby))
        common = shared(primary, standby)
        seen.add(verdict.order)
        if common == len(standby):
            assert verdict.order is Order.STREAM and verdict.seq == len(standby), (primary, standby)
        elif common == 0 or standby[-1][0] >= primary[-1][0] and not _new_reign_same_epoch(primary, standby, common):
            assert verdict.order is Order.REFUSE and verdict.reason, (primary, standby)
        elif common == len(primary):
            assert verdict.order is Order.REFUSE, (primary, standby)
        else:
            assert verdict == Verdict(Order.REWIND, common, verdict.reason), (primary, standby)
    assert seen == {Order.STREAM, Order.REWIND, Order.REFUSE}


def _new_reign_same_epoch(primary: Copy, standby: Copy, common: int) -> bool:
    """The primary stopped uncleanly and began anew in its epoch; the standby has more of the reign before."""
    return (
        primary[-1][0] == standby[-1][0]
        and len(primary) > common
        and all(commit == standby[common - 1] for commit in standby[common:])
        and primary[common] != standby[common - 1]
    )


def test_a_copy_is_never_moved_towards_something_older() -> None:
    for primary, standby in itertools.product(COPIES, COPIES):
        verdict = match(history(primary), len(primary), history(standby), len(standby))
        if verdict.order is Order.REWIND:
            assert primary[-1] > standby[-1] and len(primary) > verdict.seq


@pytest.mark.parametrize("order", [Order.STREAM, Order.REWIND, Order.REFUSE])
@pytest.mark.parametrize("seq", [0, 7])
@pytest.mark.parametrize("chain", [None, 1, 2])
@pytest.mark.parametrize("rewindable", [False, True])
@pytest.mark.parametrize("reseed", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_settle_enumerated(
    order: Order, seq: int, chain: int | None, rewindable: bool, reseed: bool, large: bool
) -> None:
    settled = settle(
        Verdict(order, seq, "r"),
        primary_chain=chain,
        standby_chain=1,
        rewindable=rewindable,
        reseed=reseed,
        files_rather=large,
    )
    if reseed:
        expected = Order.SEED
    elif order is Order.REFUSE:
        expected = Order.REFUSE
    elif order is Order.REWIND and not rewindable:
        expected = Order.SEED
    elif seq == 0:
        expected = Order.SEED if large and order is Order.STREAM else order
    elif chain is None:
        expected = Order.SEED
    elif order is Order.STREAM and chain != 1:
        expected = Order.REFUSE
    else:
        expected = order
    assert settled.order is expected
    if order is Order.STREAM and expected is Order.REFUSE:
        assert settled.reason.startswith("INV-6")


def test_a_longer_tail_is_one_that_only_i_can_have_written() -> None:
    for mine, theirs in itertools.product(COPIES, COPIES):
        longer = is_longer(history(mine), len(mine), history(theirs), len(theirs), my_epoch=2)
        extends = len(theirs) > len(mine) and shared(mine, theirs) == len(mine)
        assert longer == (extends and theirs[-1][0] <= 2)

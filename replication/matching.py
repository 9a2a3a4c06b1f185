"""Where two copies of a database agree, and what a standby must do about it. Pure: a table over plain values.

Histories are compared reign by reign. Reigns that are equal in epoch, id, first_seq and chain are the same reign, and
within one reign there is one series of commits; so the common point is the end of the shorter copy within the last
common reign. A copy that ends there is a prefix (INV-3); one that goes on has commits the other never had.

The verdict never moves a copy towards something older (DESIGN, Replication): a primary whose history ends in a lower
epoch, shares no reign, or is simply shorter, is refused until an operator decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage import History

from .messages import Order


@dataclass(frozen=True, slots=True)
class Verdict:
    """order: what to do; seq: from or to where; reason: why, for people (empty for STREAM)."""

    order: Order
    seq: int = 0
    reason: str = ""


def common_reigns(ours: History, theirs: History) -> int:
    """How many reigns both histories begin with."""
    count = 0
    for left, right in zip(ours, theirs):
        if left != right:
            break
        count += 1
    return count


def end_of(history: History, index: int, end: int) -> int:
    """The last seq of the reign at index, in a copy that ends at `end`."""
    return history[index + 1].first_seq - 1 if index + 1 < len(history) else end


def common_point(ours: History, our_end: int, theirs: History, their_end: int) -> int:
    """The highest seq up to which both copies are the same; 0 when they share no reign."""
    shared = common_reigns(ours, theirs)
    if shared == 0:
        return 0
    return min(end_of(ours, shared - 1, our_end), end_of(theirs, shared - 1, their_end))


def match(primary: History, primary_end: int, standby: History, standby_end: int) -> Verdict:
    """What the standby's copy needs to follow the primary's. Ends are appended seqs.

    STREAM and REWIND are provisional until `settle` has seen the primary's chain at the verdict's seq.
    """
    if standby_end == 0:
        return Verdict(Order.STREAM, 0)
    if not primary or primary_end == 0:
        return Verdict(Order.REFUSE, 0, f"the primary's copy is empty, the standby's has {standby_end} commits")
    shared = common_reigns(primary, standby)
    if shared == 0:
        return Verdict(Order.REFUSE, 0, "the two copies share no reign: they are not of one history")
    if standby[-1].epoch > primary[-1].epoch:
        return Verdict(
            Order.REFUSE,
            0,
            f"the primary's copy ends in epoch {primary[-1].epoch}, the standby's in the later epoch {standby[-1].epoch}",
        )
    common = common_point(primary, primary_end, standby, standby_end)
    if standby_end == common:
        return Verdict(Order.STREAM, common)
    if shared == len(primary):
        return Verdict(
            Order.REFUSE,
            common,
            f"the primary's copy ends at {primary_end} in a reign that the standby has up to {standby_end}",
        )
    if shared < len(standby) and standby[-1].epoch == primary[-1].epoch:
        return Verdict(
            Order.REFUSE, common, f"both copies went on after {common} in the same epoch {primary[-1].epoch}"
        )
    return Verdict(Order.REWIND, common, f"{standby_end - common} commits after {common} are not in the primary's history")


def settle(
    verdict: Verdict,
    *,
    primary_chain: int | None,
    standby_chain: int,
    rewindable: bool,
    reseed: bool = False,
    files_rather: bool = False,
) -> Verdict:
    """The final verdict, given the primary's chain at verdict.seq (None: its log no longer holds it).

    standby_chain is the chain at the standby's end, which for STREAM is verdict.seq. Equal position with another chain is
    INV-6 broken: refused, never repaired silently. reseed: an operator's order to replace the copy, which beats all else.
    files_rather: the primary's checkpoint is so large that a standby with nothing is better sent its files than all the log.
    """
    if reseed:
        return Verdict(Order.SEED, 0, "an operator ordered this copy to be replaced")
    if verdict.order is Order.REWIND and not rewindable:
        return Verdict(Order.SEED, 0, f"no usable checkpoint to rewind to {verdict.seq}")
    if verdict.order is Order.STREAM and verdict.seq == 0 and files_rather:
        return Verdict(Order.SEED, 0, "the checkpoint's files are copied sooner than the log is replayed")
    if verdict.order not in (Order.STREAM, Order.REWIND) or verdict.seq == 0:
        return verdict
    if primary_chain is None:
        return Verdict(Order.SEED, 0, f"the primary's log no longer holds commit {verdict.seq}")
    if verdict.order is Order.STREAM and primary_chain != standby_chain:
        return Verdict(
            Order.REFUSE,
            verdict.seq,
            f"INV-6: at commit {verdict.seq} of one history the chains differ "
            f"({primary_chain:016x} on the primary, {standby_chain:016x} on the standby)",
        )
    return verdict


def is_longer(mine: History, my_end: int, theirs: History, their_end: int, *, my_epoch: int) -> bool:
    """Whether the other copy is mine plus commits that only I can have written (nothing in it is of a later epoch)."""
    if their_end <= my_end or (theirs and theirs[-1].epoch > my_epoch):
        return False
    if my_end == 0:
        return not mine
    return common_reigns(mine, theirs) == len(mine) and common_point(theirs, their_end, mine, my_end) == my_end

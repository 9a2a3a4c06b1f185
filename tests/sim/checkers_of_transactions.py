"""Snapshot isolation, from what transactions saw and what the commit log holds.

A snapshot is named by the chain that was visible when the transaction began, and the commit that carries its request id is its end. So each
anomaly is a sentence about two places in the tree of commits (history.py):

    dirty read, read skew   a document that was read is not the one at the snapshot's chain
    aborted read            the writes of a transaction that was refused stand in the log
    lost update             between snapshot and commit another commit wrote a key of its own (collections dropped included)
    half a transaction      a key that it says it wrote is not in its commit, or the commit is not there although it was acknowledged
                            (INV-1 says that one)
    long fork               every snapshot, on whatever node, is one state of one history: two that disagree about an order would need
                            two chains that do not follow one another, of which the surviving history has but one; a look on a branch that
                            a promotion left behind is allowed, as is every read there

A transaction whose commit was not answered may have happened or not: if it did, it must have happened rightly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from storage.commit.codec import CATALOG, Op, Record
from storage.values.keys import canonical
from tests.sim.history import Commit, CommitTree
from tests.sim.observations import Observations, Transacted


def snapshot_reads(tree: CommitTree, observations: Observations) -> Iterator[str]:
    """Dirty read, read skew, long fork."""
    wanted = defaultdict(list)
    for transacted in observations.transacted:
        wanted[transacted.chain].append(transacted)
    for chain, fold in tree.walk():
        group = wanted.pop(chain, ())
        ids = fold.ids() if group else {}
        for transacted in group:
            for collection, key, document in transacted.reads:
                expected = fold.content.get(ids.get(collection, -1), {}).get(key)
                if document != expected:
                    yield (
                        f"snapshot: a transaction begun on {transacted.node} at commit {tree.seq_of(chain)} read {document!r} of "
                        f"{collection}/{key!r}, not {expected!r} (dirty read or read skew)"
                    )
    for transacted in (each for group in wanted.values() for each in group):
        yield f"snapshot: a transaction on {transacted.node} began at a chain nobody ever wrote"


def snapshot_writes(tree: CommitTree, observations: Observations) -> Iterator[str]:
    """Lost update, aborted read, half a transaction."""
    ends = defaultdict(list)
    for commit in tree.commits.values():
        for request in commit.requests:
            ends[request].append(commit)
    wanted = {commit.chain for transacted in observations.transacted for commit in ends.get(transacted.request, ())}
    drops = {commit.parent for commit in tree.commits.values() if any(map(_is_drop, commit.records))}
    named = {chain: fold.ids() for chain, fold in tree.walk() if chain in wanted or chain in drops}
    for transacted in observations.transacted:
        name = transacted.request.hex()[:8]
        for commit in ends.get(transacted.request, ()):
            if transacted.outcome == "aborted":
                yield f"aborted read: transaction {name} was refused, and its writes stand in commit {commit.seq}"
                continue
            yield from _between(tree, named, transacted, commit)


def _between(tree: CommitTree, named: dict[int, dict[str, int]], transacted: Transacted, end: Commit) -> Iterator[str]:
    """named: the ids of collections by name, at the ends of transactions and before drops."""
    name = transacted.request.hex()[:8]
    path, chain = [], end.parent
    while chain != transacted.chain:
        if chain not in tree.commits:
            yield f"snapshot: transaction {name} was committed at {end.seq} in a history that its snapshot is not of"
            return
        path.append(tree.commits[chain])
        chain = path[-1].parent
    ids = named[end.chain]
    mine = {(ids.get(collection), key) for collection, key in transacted.writes}
    written = {(record.collection, record.id) for record in end.records if record.op in (Op.PUT, Op.DELETE)}
    if not mine <= written:
        yield f"half a transaction: {name} at {end.seq} has {len(mine & written)} of its {len(mine)} writes"
    for commit in path:
        for record in commit.records:
            if record.op in (Op.PUT, Op.DELETE) and (record.collection, record.id) in mine:
                yield f"lost update: transaction {name} at {end.seq} wrote over what commit {commit.seq} wrote after its snapshot"
                return
            if _is_drop(record) and _dropped_id(named[commit.parent], record) in {number for number, _ in mine}:
                yield f"lost update: transaction {name} at {end.seq} wrote to a collection that commit {commit.seq} dropped"
                return


def _is_drop(record: Record) -> bool:
    return record.collection == CATALOG and record.op == Op.DELETE


def _dropped_id(ids: dict[str, int], record: Record) -> int:
    """The collection whose catalog entry this record removes."""
    return next((number for name, number in ids.items() if canonical(name) == record.id), -1)

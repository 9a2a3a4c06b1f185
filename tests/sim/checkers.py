"""One checker for each promise: from what was written (history.py) and what was seen (observations.py) to broken promises.

Each takes a Record of the run and yields lines; no line means the promise was kept. None asks the engine for an opinion
except check_offline, which runs the engine's own checker over what is left on the disks.

What can be demanded of a device that breaks its word (nemesis.py, HARMS; an engine alone, with checksums):

    flip, misdirect   no wrong answer, ever: every state, document, query and hash that is shown is that of its commits (INV-2, 3, 6). What is
                      lost is told: either everything acknowledged is there at the end (INV-1), or a finding, a refusal or an opening that
                      fails has said that something is damaged, or salvage/ holds it (INV-7)
    lie               no wrong answer, ever; nothing else. A device that loses what it said it had may lose commits without a trace, or
                      whole files

A device that says that it failed (EIO, ENOSPC), is slow, or a clock that jumps breaks no promise: all of them are demanded in full.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgpack

from storage.check import check_database
from storage.commit.codec import CATALOG
from storage.finding import Severity
from storage.versions.statehash import CollectionState, hash_document, state_hash
from tests.sim.checkers_of_transactions import snapshot_reads, snapshot_writes
from tests.sim.disk import ROOT, Platter
from tests.sim.history import Commit, CommitTree, Fold
from tests.sim.observations import Acknowledged, Observations, Promotion
from tests.sim.sizes import Sizes

SLACK_S = 0.005


@dataclass(slots=True)
class Record:
    """One finished run."""

    sizes: Sizes
    tree: CommitTree
    observations: Observations
    platters: dict[str, Platter]
    power_cuts: list[tuple[float, str]]  # (when, which node)
    end_chain: int | None  # of the history that survived; None when the run never came to an end
    longest_call_s: float = 0.0
    harmed: bool = False  # a device has broken its word
    vandalised: bool = False  # index files and checkpoints were taken away: the offline checker may say so

    def surviving(self) -> list[Commit]:
        return self.tree.path_to(self.end_chain) if self.end_chain is not None else []


def inv1_acknowledged_is_kept(record: Record) -> Iterator[str]:
    """Every acknowledged request stands exactly once in the surviving history, but for the losses the promise allows: of the answer, or of
    the first one to the same request, since an answer from memory says what was so when the commit was made.

    Of a harmed device: unless damage was told of; nothing when its syncs lied. What it misdirected was perhaps the last frame before the power
    went: nothing stands behind such a one that could vouch for it, and one disk alone cannot tell it from an append that never happened."""
    if record.end_chain is None:
        return
    if record.harmed and (record.sizes.harm == "lie" or record.observations.reported):
        return
    times = Counter(request for commit in record.surviving() for request in commit.requests)
    first: dict[tuple[bytes, int, int], Acknowledged] = {}
    for acknowledged in record.observations.acknowledged:
        found = times[acknowledged.request]
        answer = first.setdefault((acknowledged.request, acknowledged.epoch, acknowledged.seq), acknowledged)
        if not found and not any(may_be_lost(record, each) or _was_misdirected_last(record, each) for each in (acknowledged, answer)):
            yield (
                f"INV-1: request {acknowledged.request.hex()} was acknowledged by {acknowledged.node} at "
                f"{acknowledged.at_s:.4f} as ({acknowledged.epoch}, {acknowledged.seq}) and is gone"
            )
    for request, found in times.items():
        if found > 1:
            yield f"INV-1: request {request.hex()} was applied {found} times"


def _was_misdirected_last(record: Record, acknowledged: Acknowledged) -> bool:
    """Whether nothing was acknowledged after it before its node, whose device misdirects, next lost power."""
    if not record.harmed or record.sizes.harm != "misdirect":
        return False
    cuts = [at_s for at_s, node in record.power_cuts if node == acknowledged.node and at_s >= acknowledged.at_s]
    return bool(cuts) and not any(
        other.node == acknowledged.node and other.seq > acknowledged.seq and acknowledged.at_s <= other.at_s < min(cuts)
        for other in record.observations.acknowledged
    )


def may_be_lost(record: Record, acknowledged: Acknowledged) -> bool:
    """async: power cuts within flush_interval (and the syncs around it) of the primary and of as many standbys as had to
    confirm it. Any mode: a promotion of a node that did not have it, when too few standbys had to confirm it or too few
    were asked, or acknowledged by a primary of a lower epoch that had not yet heard of the promotion. A twin that was kept was
    promoted so, by its role.json."""
    contradicted_s = record.observations.contradicted.get(acknowledged.epoch)
    if contradicted_s is not None and acknowledged.at_s >= contradicted_s:
        return True  # of two primaries that an operator made in one epoch, one is dropped
    sizes = record.sizes
    needed = 0 if sizes.degrades else sizes.acks  # standbys that have it too
    cut: set[str] = set()
    if not sizes.is_sync:
        window_s = sizes.engine.flush_interval_s + 2 * record.longest_call_s + SLACK_S
        late_s = record.longest_call_s + SLACK_S  # a sync that fails is known only when its call returns
        cut = {node for at_s, node in record.power_cuts if -late_s <= at_s - acknowledged.at_s <= window_s}
        if acknowledged.node in cut and len(cut) > needed:
            return True
    for promotion in (*record.observations.promotions, *_twins_kept(record)):
        if acknowledged.at_s < promotion.at_s:
            if promotion.node in cut:  # the one copy that counts from then on lost power within its own window
                return True
            if needed and promotion.safe and len(cut) < needed:
                continue
        elif acknowledged.epoch >= promotion.epoch:
            continue
        path = record.tree.path_to(promotion.chain) if promotion.chain else []  # 0: a node that held nothing
        had = {request for commit in path for request in commit.requests}
        if acknowledged.request not in had:
            return True
    return False


def _twins_kept(record: Record) -> Iterator[Promotion]:
    """Of the twins those whose own reign stands in the surviving history; where the other one was kept, it had all that it acknowledged."""
    if record.observations.twins:
        reigns = {(commit.origin, commit.epoch) for commit in record.surviving() if commit.begins_reign}
        yield from (twin for twin in record.observations.twins if (twin.node, twin.epoch) in reigns)


def inv2_prefix(record: Record) -> Iterator[str]:
    """Every state ever shown, and every one found after a restart, is the fold of a whole number of commits of one history."""
    yield from (f"INV-2: {line}" for line in record.tree.conflicts)
    wanted = defaultdict(list)
    for seen in record.observations.seen:
        wanted[seen.chain].append(seen)
    for chain, fold in record.tree.walk():
        for seen in wanted.pop(chain, ()):
            if seen.digest != fold.digest or dict(seen.collections) != fold.ids():
                yield (
                    f"INV-2: {seen.node} showed {seen.digest.count} documents at ({seen.epoch}, {seen.seq}) at "
                    f"{seen.at_s:.4f}; the {seen.seq} commits before come to {fold.digest.count}, or to others"
                )
    for seen in (seen for group in wanted.values() for seen in group):
        yield f"INV-2: {seen.node} showed a state at ({seen.epoch}, {seen.seq}) at {seen.at_s:.4f} that no log ever held"


def inv2_single_reads(record: Record) -> Iterator[str]:
    """Every look-up by id gave the document of its commit, or nothing where there was nothing."""
    wanted = defaultdict(list)
    for got in record.observations.got:
        wanted[got.chain].append(got)
    for chain, fold in record.tree.walk():
        lookups = wanted.pop(chain, ())
        ids = fold.ids() if lookups else {}
        for got in lookups:
            number = ids.get(got.collection)
            expected = fold.content.get(number, {}).get(got.key) if number is not None else None
            if got.document != expected:
                seq = record.tree.seq_of(chain)
                yield f"INV-2: {got.node} answered {got.document!r} for {got.collection}/{got.key!r} at {seq}, not {expected!r}"


def inv2_queries(record: Record) -> Iterator[str]:
    """Every answer of a query, by index or by scan, was what its filter gives over the documents of its commit."""
    wanted = defaultdict(list)
    for found in record.observations.found:
        wanted[found.chain].append(found)
    for chain, fold in record.tree.walk():
        group = wanted.pop(chain, ())
        ids = fold.ids() if group else {}
        for found in group:
            held = fold.content.get(ids.get(found.collection, -1), {}).values()
            expected = tuple(sorted(doc for doc in held if found.low <= msgpack.unpackb(doc)["n"] < found.high))
            if found.documents != expected:
                yield (
                    f"INV-2: {found.node} found {len(found.documents)} documents of {found.collection} with n from {found.low} to "
                    f"{found.high} at {record.tree.seq_of(chain)}, not those {len(expected)} that are there"
                )


def snapshot_isolation(record: Record) -> Iterator[str]:
    """No dirty read, read skew, lost update, aborted read, half a transaction or long fork (checkers_of_transactions.py)."""
    yield from snapshot_reads(record.tree, record.observations)
    yield from snapshot_writes(record.tree, record.observations)


def unique_values(record: Record) -> Iterator[str]:
    """In the surviving history no two documents share a value of a unique index that is ready, and its entries are theirs."""
    if record.end_chain is None:
        return
    fold = Fold()
    for commit in record.surviving():
        fold.apply(commit)
    for entry in (msgpack.unpackb(doc) for doc in fold.content[CATALOG].values()):
        for index in entry.get("indexes", ()):
            if not index.get("unique") or index.get("state"):
                continue
            [(path, _)] = index["key"]
            docs = [msgpack.unpackb(doc) for doc in fold.content.get(entry["id"], {}).values()]
            values = [doc.get(path) for doc in docs if path in doc or not index.get("sparse")]
            if len(set(values)) < len(values):
                yield f"unique: {entry['_id']}.{path} holds a value twice although its index {index['name']} is unique"
            entries = len(fold.content.get(index["number"], {}))
            if entries != len(values):
                yield f"unique: {entry['_id']}.{path} has {entries} entries for {len(values)} values"


def inv3_order(record: Record) -> Iterator[str]:
    """Views carry the position of their chain; within one opening of a database they never go back."""
    newest: dict[tuple[str, int], tuple[int, int]] = {}
    for seen in record.observations.seen:
        commit = record.tree.commits.get(seen.chain)
        named = (commit.epoch, commit.seq) if commit is not None else (0, 0)
        if (seen.epoch, seen.seq) != named:
            yield f"INV-3: {seen.node} called the state of {named} ({seen.epoch}, {seen.seq})"
        key = (seen.node, seen.opening)
        if (seen.epoch, seen.seq) < newest.get(key, (0, 0)):
            yield f"INV-3: {seen.node} showed ({seen.epoch}, {seen.seq}) after {newest[key]} at {seen.at_s:.4f}"
        newest[key] = max(newest.get(key, (0, 0)), (seen.epoch, seen.seq))


def inv4_one_writer(record: Record) -> Iterator[str]:
    """All commits of one epoch were first written by one node, and no two ever took writes in it at one time (but where the operator made
    two primaries of it by mistake); epochs and seqs grow along every history."""
    yield from (f"INV-4: {line}" for line in record.observations.rivals)
    writers: dict[int, set[str]] = defaultdict(set)
    for commit in record.tree.commits.values():
        writers[commit.epoch].add(commit.origin)
        parent = record.tree.commits.get(commit.parent)
        if parent is None:
            if commit.seq != 1:
                yield f"INV-4: a history begins with commit {commit.seq}"
            continue
        if commit.seq != parent.seq + 1 or commit.epoch < parent.epoch:
            yield f"INV-4: ({commit.epoch}, {commit.seq}) follows ({parent.epoch}, {parent.seq})"
        if commit.epoch != parent.epoch and not commit.begins_reign:
            yield f"INV-4: epoch {commit.epoch} begins at seq {commit.seq} without a REIGN record"
    for epoch, nodes in sorted(writers.items()):
        if len(nodes) > 1 and epoch not in record.observations.contradicted:
            yield f"INV-4: epoch {epoch} was written by {' and '.join(sorted(nodes))}"


def inv6_equal_state(record: Record) -> Iterator[str]:
    """One position names one chain on all nodes at the end; every state hash is the one of the fold at its chain."""
    finals: dict[tuple[int, int], set[int]] = defaultdict(set)
    for seen in record.observations.seen:
        if seen.final:
            finals[seen.epoch, seen.seq].add(seen.chain)
    for position, chains in finals.items():
        if len(chains) > 1:
            yield f"INV-6: at {position} there are {len(chains)} chains"
    if len(finals) > 1:
        yield f"INV-6: the nodes did not converge: {sorted(finals)}"
    wanted = defaultdict(list)
    for hashed in record.observations.hashed:
        wanted[hashed.chain].append(hashed)
    for chain, fold in record.tree.walk():
        group = wanted.pop(chain, ())
        expected = fold_state_hash(fold) if group else ""
        for hashed in group:
            if hashed.state_hash != expected:
                yield f"INV-6: {hashed.node} gave another state hash ({hashed.how}) at {hashed.seq} than its commits come to"
    for hashed in (hashed for group in wanted.values() for hashed in group):
        yield f"INV-6: {hashed.node} gave a state hash at {hashed.seq} for a chain nobody wrote"


def fold_state_hash(fold: Fold) -> str:
    states = []
    for name, number in fold.ids().items():
        docs = fold.content.get(number, {}).values()
        states.append((name, CollectionState(len(docs), sum(map(hash_document, docs)) % 2**256)))
    return state_hash(states)


def check_offline(record: Record) -> Iterator[str]:
    """The engine's offline checker finds nothing wrong in what is left, on any disk (but what the vandal or the device did)."""
    if record.harmed:
        return
    for node, platter in record.platters.items():
        platter.read_failures = 0
        disk = platter.mount()
        for name in disk.list_dir(ROOT):
            if disk.exists(f"{name}/database.json"):
                for finding in check_database(disk, name):
                    if finding.severity is Severity.NOTE or (finding.severity is Severity.WARNING and record.vandalised):
                        continue
                    yield f"storage.check: {node}: {finding}"
        disk.kill()


def no_surprises(record: Record) -> Iterator[str]:
    """No living process ended by an exception, no reader was refused, no alarm was raised."""
    yield from (f"crash: {line}" for line in record.observations.crashes)
    yield from (f"finding: {line}" for line in record.observations.findings)
    yield from (f"alarm: {line}" for line in record.observations.alarms)
    if record.observations.reported and not record.harmed:
        yield from (f"damage where none was done: {line}" for line in record.observations.reported)
    if record.end_chain is None and not record.harmed:
        yield "the run never came to an end: no final state was reached"


CHECKERS: tuple[Callable[[Record], Iterator[str]], ...] = (
    no_surprises,
    inv1_acknowledged_is_kept,
    inv2_prefix,
    inv2_single_reads,
    inv2_queries,
    snapshot_isolation,
    unique_values,
    inv3_order,
    inv4_one_writer,
    inv6_equal_state,
    check_offline,
)


def broken_promises(record: Record, *, lines_max: int = 20) -> list[str]:
    """What all checkers say, in order; INV-5 is the same checkers after index files and checkpoints were taken away."""
    lines: list[str] = []
    for checker in CHECKERS:
        try:
            lines += checker(record)
        except KeyError as error:
            lines.append(f"{checker.__name__}: a node is at a chain nobody ever wrote: {error}")
    return list(dict.fromkeys(lines))[:lines_max]



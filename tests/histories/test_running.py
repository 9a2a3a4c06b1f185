"""Concurrent transactions upon the engine are what snapshot isolation allows, and breaking a rule of it is seen."""

from __future__ import annotations

import trio

from storage.transaction_scope import TransactionScope
from storage.transactions import Transactions
from tests.histories.checker import check
from tests.histories.history import Anomaly, Outcome
from tests.histories.running import Plan, run
from tests.histories.test_checker import without_positions


def test_concurrent_transactions_with_seals_between_leave_a_sound_history() -> None:
    ran = trio.run(run, Plan(transactions=600, seed=3, clients=8, keys=16, memtable_records_max=300))
    committed = sum(transaction.outcome is Outcome.COMMITTED for transaction in ran.history)
    assert committed > 200 and ran.conflicts > 20 and ran.seals > 0
    assert check(ran.history) == []
    assert check(without_positions(ran.history)) == []


def test_an_engine_that_looks_for_no_conflicts_is_caught(monkeypatch) -> None:
    monkeypatch.setattr(Transactions, "check_unchanged", lambda self, of: None)
    ran = trio.run(run, Plan(transactions=300, seed=3, clients=8, keys=8))
    for history in (ran.history, without_positions(ran.history)):
        assert Anomaly.LOST_UPDATE in {finding.anomaly for finding in check(history)}


def test_an_engine_whose_transactions_read_the_newest_state_is_caught(monkeypatch) -> None:
    monkeypatch.setattr(TransactionScope, "view", lambda self: self._db.view())
    with_positions, without = set(), set()
    for seed in range(8):  # trio shuffles the clients: of one history in ten the values alone tell nothing
        ran = trio.run(run, Plan(transactions=300, seed=seed, clients=8, keys=8))
        with_positions |= {finding.anomaly for finding in check(ran.history)}
        without |= {finding.anomaly for finding in check(without_positions(ran.history))}
    assert {Anomaly.NOT_AT_SNAPSHOT, Anomaly.READ_SKEW} & with_positions and without

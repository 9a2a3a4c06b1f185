"""When a sync may run on the event loop (INV-9)."""

from __future__ import annotations

from storage.commit.pace import IN_PLACE_S_MAX, SyncPace


def asks_until_in_place(pace: SyncPace, *, each_s: float) -> int:
    """How many syncs go to the thread, each taking each_s, before one may be done in place."""
    pace.allows_in_place("db")
    for count in range(100):
        if pace.allows_in_place("db"):
            return count
        pace.took(each_s)
    return 100


def test_it_begins_in_the_thread_and_comes_to_the_loop_by_itself() -> None:
    assert 1 <= asks_until_in_place(SyncPace(), each_s=0.0002) <= 5


def test_a_long_sync_sends_the_next_ones_away_for_a_bounded_while() -> None:
    for long_s, away in ((0.0011, 0), (0.004, 0), (0.005, 1), (0.025, 9), (30.0, 9)):
        pace = SyncPace()
        pace.expected_s = 0.0002
        pace.took(long_s)
        assert asks_until_in_place(pace, each_s=0.0002) == away, long_s


def test_a_device_that_becomes_slow_holds_the_loop_a_few_times_only() -> None:
    pace = SyncPace()
    pace.expected_s = 0.0002
    held = 0
    while pace.allows_in_place("db") or not held:
        pace.took(0.003)
        held += 1
    assert held <= 3


def test_a_device_that_stays_slow_never_holds_the_loop() -> None:
    assert asks_until_in_place(SyncPace(), each_s=IN_PLACE_S_MAX * 1.01) == 100


def test_databases_written_in_turn_go_to_the_thread() -> None:
    pace = SyncPace()
    asks_until_in_place(pace, each_s=0.0002)
    assert [pace.allows_in_place(name) for name in ("db", "other", "db", "other", "other")] == [True, False, False, False, True]

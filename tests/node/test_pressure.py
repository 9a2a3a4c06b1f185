"""Who is served and who is cut when all connections together hold too much."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from node.pressure import FREE, FULL, FULL_S_MAX, LITTLE_BYTES, PRESSED, STALLED_S, Pressure, overdue, to_cut

from .fakes import limits

MAX = 1000 * LITTLE_BYTES
TAKEN = 1_000


@dataclass
class Talk:
    opened: bool = True
    in_flight: int = 0


@dataclass
class Link:
    accounted: int = 0
    out: memoryview | None = None
    sent_at: float = 0.0
    received_at: float = 0.0
    accepted_at: float = 0.0
    lingers_until: float | None = None
    conversation: Talk = field(default_factory=Talk)


def test_levels_rise_at_once_and_fall_late():
    pressure = Pressure(100)
    seen = []
    for held in (75, 76, 100, 101, 80, 76, 75, 51, 76, 50, 75):
        pressure.measure(held, 0.0)
        seen.append(pressure.level)
    assert seen == [FREE, PRESSED, PRESSED, FULL, FULL, FULL, PRESSED, PRESSED, PRESSED, FREE, FREE]


def test_who_takes_its_answers_is_served_under_pressure():
    pressure = Pressure(MAX)
    assert pressure.allows(MAX, 0)
    pressure.measure(int(0.8 * MAX), 0.0)
    assert pressure.allows(0, 0) and not pressure.allows(LITTLE_BYTES, TAKEN)
    pressure.measure(MAX + 1, 0.0)
    assert pressure.allows(0, TAKEN) and not pressure.allows(0, 7) and not pressure.allows(1, TAKEN)
    pressure.measure(2 * MAX, 0.0)
    assert not pressure.allows(0, TAKEN)


@given(st.lists(st.tuples(st.integers(0, MAX // 3), st.floats(0, 10), st.booleans()), max_size=30))
def test_only_who_is_stalled_is_cut_the_largest_first_and_no_more_than_it_takes(rows):
    now = 10.0
    links = [Link(held, memoryview(b"x") if sends else None, sent_at=at, received_at=at) for held, at, sends in rows]
    held = sum(link.accounted for link in links)
    pressure = Pressure(MAX)
    pressure.measure(held, now)
    cut = to_cut(links, pressure, held, now)
    stalled = sorted((link.accounted for link in links if link.accounted and now - link.sent_at > STALLED_S), reverse=True)
    assert [link.accounted for link in cut] == stalled[: len(cut)]
    left = held - sum(link.accounted for link in cut)
    assert left <= pressure.goal or len(cut) == len(stalled)
    assert not cut or left + cut[-1].accounted > pressure.goal


def test_a_node_that_stays_full_cuts_whoever_holds_most():
    """A client that takes a byte now and then is never stalled."""
    links = [Link(MAX, memoryview(b"x"), sent_at=100.0), Link(7, None, received_at=100.0)]
    pressure = Pressure(MAX)
    pressure.measure(MAX + 7, 100.0 - FULL_S_MAX)
    assert to_cut(links, pressure, MAX + 7, 100.0) == []
    assert to_cut(links, pressure, MAX + 7, 100.1) == [links[0]]


def test_a_request_under_way_is_waited_for():
    busy = Link(MAX, None, conversation=Talk(in_flight=1))
    pressure = Pressure(MAX)
    pressure.measure(MAX + 1, 50.0)
    assert to_cut([busy], pressure, MAX + 1, 50.0) == []


def test_each_bound_of_time_is_called_by_its_setting():
    chosen = limits(handshake_timeout_s=10, slow_client_timeout_s=30, idle_timeout_s=600)
    assert overdue(Link(conversation=Talk(opened=False)), chosen, 11.0) == "handshake_timeout_s"
    assert overdue(Link(out=memoryview(b"x")), chosen, 31.0) == "slow_client_timeout_s"
    assert overdue(Link(out=memoryview(b"x"), sent_at=5.0), chosen, 31.0) is None
    assert overdue(Link(), chosen, 601.0) == "idle_timeout_s"
    assert overdue(Link(conversation=Talk(in_flight=1)), chosen, 601.0) is None
    assert overdue(Link(lingers_until=1.0), chosen, 2.0) == "linger"

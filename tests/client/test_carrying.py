"""Which node is asked, what is sent again and when a call gives up: the pure part, without any connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from node.wire import EMPTY_MAP, Failure, Insert, Ping, Reply
from twinlog import errors
from twinlog.carrying import PAUSE_MOST_S, Attempt, Patience, Pause, Refused, carry
from twinlog.exchange import Exchange, Kind
from twinlog.nodes import Nodes, role_in
from twinlog.url import HOSTS_MAX, ReadFrom


class World:
    """Plays the transport: scripted outcomes by node, a clock that only pauses move."""

    def __init__(self, addresses, script, *, retry_s=10.0, kind=Kind.READ, read_from=ReadFrom.PRIMARY, node=None):
        self.now = 0.0
        self.nodes = Nodes(addresses)
        self.asked = []
        self.pauses = []
        self.script = {node: list(outcomes) for node, outcomes in script.items()}
        self.exchange = Exchange(kind, iter([Ping(0)]), read_from=read_from, node=node)
        self.patience = Patience(retry_s, lambda: self.now, lambda: 0)

    def play(self):
        steps = carry(self.exchange, self.nodes, self.patience)
        outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration:
                return self.asked
            outcome = None
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.now += step.seconds
            else:
                assert isinstance(step, Attempt)
                self.asked.append(step.node)
                outcome = self.attempt(step.node)

    def attempt(self, node):
        outcomes = self.script[node]
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        if outcome == "refused connection":
            return errors.ConnectionFailure(f"{node}: connection refused")
        if isinstance(outcome, Refused):
            return outcome
        self.exchange.sent(1, self.exchange.take())
        if outcome == "cut":
            return errors.AutoReconnect("cut")
        if outcome == "late":
            return errors.NetworkTimeout("late")
        if outcome == "ok":
            self.exchange.answered(Reply(1, EMPTY_MAP))
        else:
            name, fields = outcome
            self.exchange.answered(Failure(1, 1, name, f"{node} says {name}", fields))
        self.exchange.draw()
        return None


def test_the_first_node_is_asked_first_and_only():
    assert World(["a", "b"], {"a": ["ok"]}).play() == ["a"]


def test_not_primary_names_the_node_to_ask():
    world = World(["a", "b"], {"a": [("NotPrimary", {"primary": "c"})], "c": ["ok"]}, kind=Kind.WRITE)
    assert world.play() == ["a", "c"]
    assert world.nodes.primary == "c"
    assert not world.pauses


def test_without_a_name_every_node_is_tried_then_all_again_after_a_pause():
    script = {"a": [("NotPrimary", {"primary": ""}), "ok"], "b": ["refused connection"]}
    world = World(["a", "b"], script, kind=Kind.WRITE)
    assert world.play() == ["a", "b", "b", "a"]
    assert len(world.pauses) == 1


def test_a_read_whose_connection_was_cut_is_asked_again():
    world = World(["a"], {"a": ["cut", "cut", "ok"]})
    assert world.play() == ["a", "a", "a"]


def test_a_write_with_an_id_is_sent_again_and_one_without_is_not():
    assert World(["a"], {"a": ["cut", "ok"]}, kind=Kind.WRITE).play() == ["a", "a"]
    world = World(["a"], {"a": ["cut", "ok"]}, kind=Kind.ONCE)
    with pytest.raises(errors.AutoReconnect, match="unknown"):
        world.play()
    assert world.asked == ["a"]


def test_what_never_left_is_always_sent_again():
    script = {"a": ["refused connection", "ok"]}
    assert World(["a"], script, kind=Kind.ONCE).play() == ["a", "a"]
    assert World(["x"], script, kind=Kind.HERE, node="a").play() == ["a", "a"]


def test_a_time_out_is_the_callers_to_judge():
    world = World(["a", "b"], {"a": ["late"], "b": ["ok"]}, kind=Kind.WRITE)
    with pytest.raises(errors.NetworkTimeout):
        world.play()
    assert world.asked == ["a"]


def test_a_refused_client_is_not_retried():
    cause = errors.OperationFailure("wrong key", 18)
    world = World(["a", "b"], {"a": [Refused(cause)], "b": ["ok"]})
    with pytest.raises(errors.OperationFailure, match="wrong key"):
        world.play()


def test_patience_ends_and_the_last_failure_is_shown():
    world = World(["a"], {"a": ["refused connection"]}, retry_s=3)
    with pytest.raises(errors.AutoReconnect, match="connection refused"):
        world.play()
    assert 3 <= world.now <= 3 + PAUSE_MOST_S
    assert len(world.asked) < 12


def test_no_patience_means_one_round():
    world = World(["a", "b"], {"a": ["refused connection"], "b": ["refused connection"]}, retry_s=0)
    with pytest.raises(errors.AutoReconnect):
        world.play()
    assert world.asked == ["a", "b"]
    assert not world.pauses


def test_pauses_double_up_to_a_limit():
    world = World(["a"], {"a": ["refused connection"]}, retry_s=60)
    with pytest.raises(errors.AutoReconnect):
        world.play()
    assert world.pauses[:4] == [0.05, 0.1, 0.2, 0.4]
    assert max(world.pauses) == PAUSE_MOST_S


def test_a_courtesy_is_tried_once():
    world = World(["a"], {"a": ["refused connection"]}, kind=Kind.COURTESY, node="a")
    with pytest.raises(errors.AutoReconnect):
        world.play()
    assert world.asked == ["a"]


def test_progress_renews_the_patience():
    """Six requests, each answered after an outage of its own that is nearly as long as retry_s."""
    world = World(["a"], {}, retry_s=1.0, kind=Kind.WRITE)
    world.exchange = Exchange(Kind.WRITE, iter([Ping(0) for _ in range(6)]))
    world.script = {"a": ["refused connection", "refused connection", "cut", "ok"] * 6}
    world.play()
    assert len(world.exchange.answers) == 6
    assert world.now > 2.0


def test_an_overloaded_node_is_given_the_time_it_asks_for():
    world = World(["a"], {"a": [("Overloaded", {"retry_after_ms": 700}), "ok"]}, kind=Kind.WRITE)
    assert world.play() == ["a", "a"]
    assert world.pauses == [0.7]


def test_those_refused_together_do_not_come_back_together():
    """What the node asks for is the least; jitter is on top of it."""
    for byte, longest in ((0, 0.7), (255, 1.05)):
        patience = Patience(10.0, lambda: 0.0, lambda byte=byte: byte)
        patience.failed()
        pause = patience.pause(0.7)
        assert pause is not None and 0.7 <= pause.seconds <= longest


def test_a_node_that_takes_no_more_connections_is_given_the_time_it_asks_for():
    fields = {"bound": "connections_max", "limit": 1, "retry_after_ms": 800}
    full = errors.AutoReconnect("1 connection, its limit", 462, {"name": "Overloaded", "fields": fields})
    exchange, patience = Exchange(Kind.WRITE, iter([Ping(0)])), Patience(1.0, lambda: 0.0, lambda: 0)
    steps = carry(exchange, Nodes(["a"]), patience)
    assert next(steps) == Attempt("a")
    assert steps.send(full) == Pause(0.8)


def test_a_refusal_that_waiting_does_not_end_is_an_answer():
    world = World(["a", "b"], {"a": [("Overloaded", {"bound": "databases_max", "retry_after_ms": 0})]}, kind=Kind.WRITE)
    assert world.play() == ["a"]
    assert isinstance(world.exchange.answers[0], Failure) and not world.pauses


def test_an_overloaded_node_in_the_end_says_how_long_to_wait():
    with pytest.raises(errors.Overloaded) as caught:
        World(["a"], {"a": [("Overloaded", {"bound": "requests_max", "limit": 9, "retry_after_ms": 700})] * 50}, retry_s=1.0).play()
    assert (caught.value.retry_after_ms, caught.value.bound, caught.value.code) == (700, "requests_max", 1)


def test_a_node_that_takes_no_writes_yet_is_waited_for_and_others_are_tried():
    """A primary refuses so for a moment after an unclean stop."""
    world = World(["a"], {"a": [("ReadOnly", {}), ("ReadOnly", {}), "ok"]}, kind=Kind.WRITE)
    assert world.play() == ["a", "a", "a"]
    assert World(["a", "b"], {"a": [("ReadOnly", {})], "b": ["ok"]}, kind=Kind.WRITE).play() == ["a", "b"]
    with pytest.raises(errors.NotPrimaryError, match="ReadOnly"):
        World(["a"], {"a": [("ReadOnly", {})]}, kind=Kind.WRITE).play()


def test_reads_go_to_the_kind_of_node_that_was_asked_for():
    for kind, expected in ((ReadFrom.STANDBY, {"b", "c"}), (ReadFrom.ANY, {"a", "b", "c"})):
        nodes = Nodes(["a", "b", "c"])
        nodes.learn_role("a", "primary")
        nodes.learn_role("b", "standby")
        nodes.learn_role("c", "standby")
        exchange = Exchange(Kind.READ, iter([Ping(0)]), read_from=kind)
        assert {nodes.choose(exchange, ()) for _ in range(6)} == expected


def test_without_a_standby_a_standby_read_says_so():
    world = World(["a"], {"a": ["ok"]}, read_from=ReadFrom.STANDBY, retry_s=0)
    world.nodes.learn_role("a", "primary")
    with pytest.raises(errors.ServerSelectionTimeoutError, match="no standby"):
        world.play()


def test_nodes_that_nodes_name_are_bounded():
    nodes = Nodes(["a"])
    for number in range(2 * HOSTS_MAX):
        nodes.learn_refusal("a", {"primary": f"n{number}"})
    assert len(nodes.addresses) == HOSTS_MAX


def answers_to(exchange):
    return [bytes(answer.result) for answer in exchange.answers]


@given(
    count=st.integers(0, 12),
    window=st.integers(1, 5),
    choices=st.lists(st.integers(0, 5), max_size=60),
)
def test_every_request_is_answered_once_whatever_is_lost(count, window, choices):
    """Invariant of Exchange: waiting, out or answered. choices: 0 loses the connection, 1 sends, else answers one out."""
    requests = [Insert(0, "db", "c", [Raw(bytes([number]))]) for number in range(count)]
    exchange = Exchange(Kind.WRITE, iter(requests), window=window)
    out, next_id = {}, 0

    def send():
        nonlocal next_id
        item = exchange.take()
        if item is not None:
            next_id += 1
            exchange.sent(next_id, item)
            out[next_id] = item[1].docs[0]
        assert exchange.unanswered == len(out) <= window

    for choice in [*choices, *([1, 2] * (count + 1) * window)]:
        if choice == 0:
            exchange.restart()
            out.clear()
        elif choice == 1:
            send()
        elif out:
            request_id = sorted(out)[choice % len(out)]
            assert exchange.answered(Reply(request_id, out.pop(request_id)))
    assert not exchange.answered(Reply(next_id + 1, EMPTY_MAP))
    exchange.take()
    assert exchange.finished
    assert answers_to(exchange) == [bytes([number]) for number in range(count)]


def test_a_delayed_standby_is_read_only_by_who_names_it_alone():
    for kind in (ReadFrom.STANDBY, ReadFrom.ANY):
        exchange = Exchange(Kind.READ, iter([Ping(0)]), read_from=kind)
        nodes = Nodes(["a", "b", "c"])
        for node, role in (("a", "primary"), ("b", "standby"), ("c", role_in({"role": "standby", "delay_s": 60}))):
            nodes.learn_role(node, role)
        nodes.learn_refusal("c", {"primary": "a"})
        assert "c" not in {nodes.choose(exchange, ()) for _ in range(6)}
        assert nodes.choose(exchange, ("a", "b")) is None and not nodes.serves("c", exchange)
        alone = Nodes(["c"])
        alone.learn_role("c", role_in({"role": "standby", "delay_s": 60}))
        alone.learn_refusal("c", {"primary": "a"})
        assert "c" in {alone.choose(exchange, ()) for _ in range(6)} and alone.serves("c", exchange)
    assert role_in({"role": "primary", "delay_s": 0}) == "primary"

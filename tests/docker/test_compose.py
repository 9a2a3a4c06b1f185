"""The compose pair as an operator meets it: up, import, compare, crash, partition, failover, and the old primary's return."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.docker

DOCUMENTS = 3000


def test_a_pair_replicates_survives_a_crash_and_a_cut_and_fails_over(pair):
    lines = "".join(json.dumps({"_id": number, "text": f"message {number}", "tags": ["x", number]}) + "\n" for number in range(DOCUMENTS))
    pair.twinlog("import", "-", "--collection", "messages", stdin=lines)
    shown = pair.wait_equal()
    assert {node["role"] for node in shown["nodes"]} == {"primary", "standby"}
    assert shown["databases"]["shop"]["equal"] is True
    for node in "ab":
        assert count(pair, node) == DOCUMENTS

    pair.crash("a")
    pair.wait(lambda: [] if pair.inspect("a", "{{.RestartCount}}") == "1" else ["a"], "not restarted")
    pair.wait_healthy("a", "b")
    pair.wait_equal()
    assert count(pair, "a") == DOCUMENTS, "what was acknowledged is kept (INV-1)"

    pair.repl("b", connected=False)
    pair.twinlog("insert", "messages", '{"_id": "while b was away"}')
    assert count(pair, "b") == DOCUMENTS, "b still answers its clients, from an earlier state (INV-3)"
    pair.repl("b", connected=True)
    pair.wait_equal()
    assert count(pair, "b") == DOCUMENTS + 1

    pair.run("stop", "-t", "5", "a")
    pair.twinlog("promote", "b", "--yes")
    pair.twinlog("insert", "messages", '{"_id": "written to b"}')
    pair.run("start", "a")
    pair.wait_healthy("a", "b")
    shown = pair.wait_equal()
    assert {node["node"]: node["role"] for node in shown["nodes"]} == {"a": "standby", "b": "primary"}
    assert count(pair, "a") == count(pair, "b") == DOCUMENTS + 2


def count(pair, node: str) -> int:
    return int(pair.twinlog("find", "messages", "--count", "--url", pair.url_of(node)))

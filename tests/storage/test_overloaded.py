"""Overloaded says the same three things wherever it is raised: which bound, how large, when to come again."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from storage import errors

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {"bound", "limit", "retry_after_ms"}


def refusals() -> list[tuple[str, set[str | None]]]:
    found = []
    for package in ("storage", "node", "replication"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for call in ast.walk(ast.parse(path.read_text())):
                if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "Overloaded":
                    found.append((f"{path.relative_to(ROOT)}:{call.lineno}", {keyword.arg for keyword in call.keywords}))
    return found


def test_every_refusal_at_a_bound_names_the_bound_its_size_and_when_to_come_again():
    found = refusals()
    assert len(found) > 8
    assert [place for place, named in found if not named >= FIELDS] == []


def test_it_cannot_be_raised_without():
    with pytest.raises(TypeError):
        errors.Overloaded("full", bound="queue")


def test_what_an_older_peer_left_out_is_filled_in():
    error = errors.from_wire("Overloaded", "full", {"bound": "queue"})
    assert isinstance(error, errors.Overloaded)
    assert error.fields == {"bound": "queue", "limit": 0, "retry_after_ms": 1000}

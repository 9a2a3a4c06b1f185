"""docs/metrics.md lists every metric a node has, with its type, labels and meaning, row by row, both ways; and the names are Prometheus' way."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import storage
from node.config import load
from node.metrics import PHASES, ROLES, Metrics
from node.server import Node

from .fakes import FakeMember, open_rig

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
NAMED_BEFORE = {"twinlog_compaction_bytes_total"}  # how much a compaction has to do: known by this name


def _rows() -> dict[str, tuple[str, ...]]:
    rows = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `twinlog_") and len(cells) == 4:
            name = cells[0].strip("`")
            assert name not in rows, f"{name} stands twice"
            rows[name] = tuple(cells[1:])
    return rows


def _families(metrics: Metrics) -> dict[str, tuple[str, ...]]:
    """As the page shows them: name, type, labels, meaning."""
    found = {}
    for family in metrics.collect():
        labels = ", ".join(f"`{label}`" for label in family._labelnames)
        found[family.name + ("_total" if family.type == "counter" else "")] = (family.type, labels, family.documentation)
    return found


async def _all(tmp_path) -> dict[str, tuple[str, ...]]:
    """Of a whole node, and with what only a status can bring."""
    config = load(None, {"data": str(tmp_path), "listen.client": "127.0.0.1:0", "listen.admin": "none"})
    async with Node.open(config, seams=storage.real_seams(config.data)) as node:
        status = node.service.oversight.status_now() | {"last_promotion_us": 1, "last_switchover_us": 2}
        node.metrics.watch_status(lambda: status)
        return _families(node.metrics)


async def test_every_metric_has_its_row_and_every_row_its_metric(tmp_path):
    assert _rows() == await _all(tmp_path)


async def test_names_are_of_the_form_that_prometheus_asks_for(tmp_path):
    for name, (kind, _labels, meaning) in (await _all(tmp_path)).items():
        assert re.fullmatch(r"twinlog_[a-z][a-z0-9]*(_[a-z0-9]+)*", name), name
        assert name in NAMED_BEFORE or (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
        assert not re.search(r"_(ms|us|milliseconds|mb|kb|percent)(_|$)", name), f"{name}: base units only"
        assert meaning and (meaning[0].isupper() or meaning[0].isdigit()), name


async def test_role_phase_lag_and_readiness_are_told_for_alarms(tmp_path):
    def value(text: str, sample: str) -> float:
        (line,) = (line for line in text.splitlines() if line.startswith(sample + " "))
        return float(line.split()[-1])

    async with open_rig() as rig:
        await rig.engine.create_database("chat")
        told = FakeMember.status(rig.member) | {"phase": "primary", "paused": {"since_us": 1, "why": "x"}, "failures": {}}
        told["peers"]["b"] |= {"phase": "catching-up"}
        rig.member.status = lambda: deepcopy(told)
        rig.metrics.watch_status(rig.service.oversight.status_now)
        text = rig.metrics.exposition().decode()
        assert [value(text, f'twinlog_role{{role="{role}"}}') for role in ROLES] == [role == "primary" for role in ROLES]
        assert [value(text, f'twinlog_phase{{phase="{phase}"}}') for phase in PHASES] == [phase == "primary" for phase in PHASES]
        assert value(text, "twinlog_ready") == value(text, "twinlog_paused") == 1 and value(text, "twinlog_fenced") == 0
        assert value(text, 'twinlog_standby_phase{phase="catching-up",standby="b"}') == 1
        assert value(text, 'twinlog_standby_lag_commits{standby="b"}') == 3
        assert "last_promotion" not in text, "nobody has told when that was"
        told["last_promotion_us"], told["role"] = 1_700_000_000_500_000, "fenced"
        text = rig.metrics.exposition().decode()
        assert value(text, "twinlog_last_promotion_timestamp_seconds") == 1_700_000_000.5 and value(text, "twinlog_fenced") == 1
        assert value(text, 'twinlog_role{role="fenced"}') == 1 and value(text, "twinlog_takes_writes") == 0

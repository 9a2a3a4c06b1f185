"""docs/settings.md says what the settings table says, row by row, both ways."""

from __future__ import annotations

import re
from pathlib import Path

from node.config import load
from node.settings import SETTINGS, Kind

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def _rows() -> dict[str, tuple[str, ...]]:
    rows = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 5:
            name = cells[0].strip("`")
            assert name not in rows, f"{name} stands twice"
            rows[name] = (cells[1].strip("`"), cells[2], cells[3], cells[4])
    return rows


def test_every_setting_has_its_row_and_every_row_its_setting():
    table = {row.path: (row.default_text, row.unit, row.limits, row.meaning) for row in SETTINGS}
    assert _rows() == table


def test_defaults_are_within_their_own_limits():
    for row in SETTINGS:
        if row.kind is Kind.INTEGER:
            assert row.at_least <= row.default <= row.at_most, row.path
            assert row.unit, f"{row.path} has no unit"
        if row.kind is Kind.CHOICE:
            assert row.default in row.choices


def test_the_page_names_a_relation_that_the_code_checks():
    page = " ".join(PAGE.read_text().split())
    assert "`ack_timeout_ms` at least twice `heartbeat_ms`" in page
    assert re.search(r"`log_keep_mb` at least `log_segment_mb`", page)


def test_the_examples_of_the_page_are_accepted(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        overrides = {"data": str(tmp_path)} | ({"node": "b"} if "nodes:" in block else {})
        assert load(str(path), overrides).data == str(tmp_path)

"""Every checker fires: a rule that is switched off (planted/rules.py) is told within a few seeds, by the promise it breaks.

Here the quick ones; all of them, with fresh seeds: python -m tests.sim --planted.
"""

from __future__ import annotations

import pytest

from tests.sim.planted.rules import PLANTED, Planted
from tests.sim.planted.table import seek

SEEDS_MAX = 60


@pytest.mark.parametrize("planted", [each for each in PLANTED if each.quick], ids=lambda planted: planted.rule.replace(" ", "-"))
def test_a_planted_fault_is_told(planted: Planted) -> None:
    told = seek(planted, range(planted.first, planted.first + SEEDS_MAX))
    assert told.seeds, f"{SEEDS_MAX} seeds while {planted.rule}, and no checker said {planted.tells or 'anything'}"


def test_rules_have_names_of_their_own() -> None:
    assert len({planted.rule for planted in PLANTED}) == len(PLANTED) >= 10

"""Which standby could lead: every row of the table."""

from __future__ import annotations

import itertools

import pytest

from replication.promotable import LAG_SECONDS_MAX, StandbyFacts, why_not_promotable
from replication.roles import Role

FACTS = list(itertools.product(Role, [False, True], ["", "database 'd' is damaged"], [0.0, 3600.0], [(), ("d",)], [0.0, LAG_SECONDS_MAX, 11.0]))


@pytest.mark.parametrize(("role", "connected", "unfit", "delay_s", "not_streaming", "lag"), FACTS)
def test_the_first_reason_is_told_and_only_a_standby_with_none_is_promotable(role, connected, unfit, delay_s, not_streaming, lag) -> None:
    facts = StandbyFacts(connected=connected, role=role, unfit=unfit, delay_s=delay_s, not_streaming=not_streaming, lag_seconds=lag)
    reasons = [
        (role is Role.FENCED, "fenced"), (not connected, "not connected"), (role is not Role.STANDBY, role.value), (unfit != "", "damaged"),
        (delay_s > 0, "delayed standby, 3600 s"), (bool(not_streaming), "does not stream d"), (lag > LAG_SECONDS_MAX, "11.0 s behind"),
    ]  # fmt: skip
    expected = next((word for holds, word in reasons if holds), "")
    found = why_not_promotable(facts)
    assert expected in found and bool(found) == bool(expected)

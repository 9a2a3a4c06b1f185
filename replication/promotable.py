"""Whether a standby could take the office, and if not, the first reason that an operator should hear. Pure: a table over plain values.

What it lacks of the newest commits is not a reason here as long as it streams: that is told beside, in commits, bytes and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from .roles import Role

LAG_SECONDS_MAX = 10.0  # a standby that is further behind is catching up, not standing by


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyFacts:
    """unfit: its own word on what keeps it from leading. delay_s: how late it applies the log on purpose. not_streaming: names of
    databases whose log it does not receive now."""

    connected: bool
    role: Role
    unfit: str = ""
    delay_s: float = 0.0
    not_streaming: tuple[str, ...] = ()
    lag_seconds: float = 0.0


def why_not_promotable(facts: StandbyFacts) -> str:
    """Empty when it could."""
    if facts.role is Role.FENCED:
        return "it is fenced: unfence it first"
    if not facts.connected:
        return "it is not connected"
    if facts.role is not Role.STANDBY:
        return f"it is {facts.role.value}"
    if facts.unfit:
        return facts.unfit
    if facts.delay_s > 0:
        return f"it is a delayed standby, {facts.delay_s:g} s behind on purpose"
    if facts.not_streaming:
        return f"it does not stream {', '.join(sorted(facts.not_streaming))}"
    if facts.lag_seconds > LAG_SECONDS_MAX:
        return f"it is {facts.lag_seconds:.1f} s behind"
    return ""

"""The cases by name, in the order in which they run. Each is one module with WHAT and measure(run, case)."""

from __future__ import annotations

from types import ModuleType

from . import (
    backup,
    bulk,
    catchup,
    chat,
    client,
    compaction,
    durable,
    exchange,
    failover,
    opening,
    overload,
    point,
    rejoin,
    sealing,
    slow,
    transactions,
    volume,
)

CASES: dict[str, ModuleType] = {
    "point": point,
    "durable": durable,
    "bulk": bulk,
    "client": client,
    "sealing": sealing,
    "catchup": catchup,
    "open": opening,
    "volume": volume,
    "exchange": exchange,
    "chat": chat,
    "compaction": compaction,
    "overload": overload,
    "slow": slow,
    "transactions": transactions,
    "backup": backup,
    "failover": failover,
    "rejoin": rejoin,
}

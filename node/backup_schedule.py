"""How a database is backed up by itself: the schedule, its rules, and when the next backup is due. Pure.

The reference's fields, as they stand in `_system` and, mirrored on every node, in `_backups/<db>/_backup_config.json`:

    {"enabled": true, "interval_minutes": 60, "max_copies": 24, "path": "", "full_every": 1}

full_every is ours: of so many backups in a row one is full and the others are incremental; 1, which is what a document without it means, makes
every one full.

When is counted from the newest backup on the shelf, so it is the same after a restart; runs that were missed meanwhile are made up for
once. A try that failed is followed by the next one an interval later.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from storage import errors

CONFIG_FILE = "_backup_config.json"
INTERVAL_MINUTES_MAX = 525_600
COPIES_MAX = 100_000
FULL_EVERY_MAX = 500  # a shard log that grows each time has as many parts
MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """max_copies 0: all are kept. path "": `_backups/<db>` below the data directory."""

    enabled: bool = False
    interval_minutes: int = 60
    max_copies: int = 0
    path: str = ""
    full_every: int = 1

    @classmethod
    def read(cls, fields: Any) -> Self:
        """From a document or a request's fields. Raises BadRequest naming the field and its rule."""
        enabled, path = fields.get("enabled"), fields.get("path", "")
        if not isinstance(enabled, bool):
            raise errors.BadRequest(f"enabled: {enabled!r} must be true or false")
        if not isinstance(path, str):
            raise errors.BadRequest(f"path: {path!r} must be text")
        return cls(
            enabled=enabled,
            interval_minutes=_whole("interval_minutes", fields.get("interval_minutes"), 1, INTERVAL_MINUTES_MAX),
            max_copies=_whole("max_copies", fields.get("max_copies", 0), 0, COPIES_MAX),
            path=path,
            full_every=_whole("full_every", fields.get("full_every", 1), 1, FULL_EVERY_MAX),
        )

    def as_fields(self) -> dict[str, Any]:
        return asdict(self)

    def as_file(self) -> bytes:
        return json.dumps(self.as_fields(), indent=2).encode() + b"\n"

    def wants_full(self, in_a_row: int | None) -> bool:
        """Whether the next backup is a full one. in_a_row: incremental ones since the newest full one that is sound; None: there is none."""
        return in_a_row is None or in_a_row + 1 >= self.full_every

    def next_us(self, newest_us: int | None, tried_us: int | None, now_us: int) -> int | None:
        """When the next backup is due; None when none is. newest_us: of the newest one there is; tried_us: when one was last tried by this
        process. Never later than an interval from now, whatever the clocks have done."""
        if not self.enabled:
            return None
        last_us = max((at for at in (newest_us, tried_us) if at is not None), default=None)
        interval_us = self.interval_minutes * MINUTE_US
        return now_us if last_us is None else min(last_us, now_us) + interval_us


def _whole(name: str, value: Any, at_least: int, at_most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
        raise errors.BadRequest(f"{name}: {value!r} must be a whole number from {at_least} to {at_most}")
    return value


def time_of(created_at: str) -> int | None:
    """Microseconds of an RFC 3339 time in UTC, as manifests have it; None for anything else."""
    try:
        return int(datetime.strptime(created_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * 1_000_000
    except ValueError:
        return None


def shown_time(time_us: int) -> str:
    """RFC 3339, whole seconds in UTC."""
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

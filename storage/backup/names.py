"""What backups are called: backup_YYYYMMDD_HHMMSS and _pre_restore_YYYYMMDD_HHMMSS, in UTC, as the reference has it. Pure.

Two in one second differ by a number at the end: backup_20260415_120000_2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from ..errors import BadName

BACKUP = "backup_"
SAFETY = "_pre_restore_"
PART = ".part"  # behind the name of one that is being made
_STAMP = r"\d{8}_\d{6}(?:_\d{1,6})?"
_BACKUP = re.compile(rf"{BACKUP}{_STAMP}\Z")
_SAFETY = re.compile(rf"{SAFETY}{_STAMP}\Z")
_NUMBER = re.compile(r"(\d{8}_\d{6})(?:_(\d+))?\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_name(prefix: str, time_us: int, taken: Iterable[str]) -> str:
    """A name of this second, after every one of it that is taken."""
    stamp = f"{(_EPOCH + timedelta(microseconds=time_us)):%Y%m%d_%H%M%S}"
    numbers = [number for when, number in (order(name) for name in taken if name.startswith(prefix)) if when == stamp]
    return f"{prefix}{stamp}_{max(numbers) + 1}" if numbers else f"{prefix}{stamp}"


def is_backup(name: str) -> bool:
    return _BACKUP.match(name) is not None


def is_safety(name: str) -> bool:
    """Whether it is a snapshot made before a restore: never rotated, not in the list."""
    return _SAFETY.match(name) is not None


def check_name(name: str) -> str:
    """Returns name. Raises BadName for one that no backup has, and so for every name that is a path."""
    if not isinstance(name, str) or not (is_backup(name) or is_safety(name)):
        raise BadName(f"{str(name)[:80]!r} is no backup's name: those are backup_YYYYMMDD_HHMMSS or _pre_restore_YYYYMMDD_HHMMSS; list them")
    return name


def order(name: str) -> tuple[str, int]:
    """Sorts by the time in the name."""
    found = _NUMBER.search(name)
    return (found[1], int(found[2] or 1)) if found is not None else ("", 0)


def rfc3339(time_us: int) -> str:
    """Whole seconds in UTC."""
    return f"{(_EPOCH + timedelta(microseconds=time_us)):%Y-%m-%dT%H:%M:%SZ}"

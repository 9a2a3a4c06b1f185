"""`twinlog hold DIR`: keep every file of a live data directory while it is copied, until a time limit.

Knows how leases are shown; what one is, is storage's (keeping.py). Works on the directory, so on the machine that holds it, beside a running
node or an embedded database, as the copying program does.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, refusals
from ops.tables import print_table

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(\d+)([smh]?)\Z")


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("databases", nargs=-1)
@click.option("--for", "duration", default="10m", show_default=True, help="How long, as 90s, 10m or 2h; at most 24h.")
@click.option("--id", "hold_id", help="Renew this hold instead of taking a new one.")
@click.option("--list", "as_list", is_flag=True, help="Show the holds in force.")
@click.option("--release", metavar="ID", help="End this hold.")
def hold(
    directory: Path, databases: tuple[str, ...], duration: str, hold_id: str | None,
    as_list: bool, release: str | None,  # noqa: FBT001
) -> None:
    """Keep the files of DATABASES (none: all) below DIRECTORY, a node's data directory, and print the hold's id.

    For copies that take longer than copy_grace_s. The hold outlives this command: it ends at its time, or with --release ID.
    """
    from storage import (  # late: --help must not pay for the engine
        OsDisk,
        active_holds,
        release_hold,
        take_hold,
        wall_clock_us,
    )

    disk = OsDisk(str(directory))
    with refusals():
        if release is not None:
            if not _is_id(release) or not release_hold(disk, release):
                raise Refusal(f"there is no hold {release!r}; --list shows those in force")
            click.echo(f"released {release}")
            return
        if as_list:
            now = wall_clock_us()
            rows = [
                (held.id, ", ".join(held.databases) or "all", f"{(held.until_us - now) / 1e6:.0f} s", held.note)
                for held in active_holds(disk, now)
            ]
            print_table("holds", ("id", "databases", "left>", "note"), rows)
            return
        _check(directory, databases, hold_id)
        taken = take_hold(
            disk, hold_id or secrets.token_hex(4), databases, wall_clock_us(), _seconds(duration), f"pid {os.getpid()}, {time.strftime('%F %T')}"
        )
    click.echo(taken.id)


def _seconds(text: str) -> float:
    found = _DURATION.match(text)
    if found is None:
        raise Refusal(f"--for {text}: a number with s, m or h, as 90s, 10m or 2h", ExitCode.USAGE)
    return float(int(found[1]) * _UNITS[found[2]])


def _check(directory: Path, databases: tuple[str, ...], hold_id: str | None) -> None:
    if hold_id is not None and not _is_id(hold_id):
        raise Refusal(f"--id {hold_id}: letters, digits, - and _, at most 64", ExitCode.USAGE)
    for name in databases:
        if not (directory / name / "database.json").exists():
            raise Refusal(f"{directory} holds no database {name!r}")
    if not databases and not any(directory.glob("*/database.json")):
        raise Refusal(f"{directory} holds no database; name a node's data directory")


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is not None

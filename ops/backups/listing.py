"""`twinlog backup list`: what is on the shelf."""

from __future__ import annotations

import json
from typing import Any

import click

from ops.tables import NOTHING, number, print_table, short_hash, size

from .asking import asked, backup_options, node_option

COLUMNS = ("name", "kind", "base", "created", "size>", "written>", "files>", "position>", "state hash", "verified")


@click.command("list")
@backup_options
@node_option
@click.option("--safety", is_flag=True, help="The snapshots made before restores instead.")
def list_(url: str | None, key_file: str | None, database: str | None, as_json: bool, node: str | None, safety: bool) -> None:  # noqa: FBT001
    """Show backups, newest first, and when each was last read again and found good. written: bytes on the shelf that are its own; an incremental
    one needs those of others (--json: needs, needed_by)."""
    with asked(url, key_file, database) as db:
        found = db.list_backups(node, safety=safety)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    print_table(f"{'safety snapshots' if safety else 'backups'} of {db.name}", COLUMNS, [_row(info) for info in found])
    for info in found:
        if "problem" in info:
            click.echo(f"! {info['name']}: {info['problem']}", err=True)


def _row(info: dict[str, Any]) -> list[str]:
    if "problem" in info:
        return [info["name"], *[NOTHING] * (len(COLUMNS) - 2), "cannot be read"]
    return [
        info["name"], info.get("kind", NOTHING), info.get("base") or NOTHING, info["created_at"], size(info["size_bytes"]), size(info.get("written_bytes")), number(info["files"]), f"{info['epoch']}, {info['seq']}",
        short_hash(info["state_hash"]), verified(info["verified"]) if info.get("sound", True) or (info["verified"] or {}).get("first") else "needs what is NO GOOD",
    ]  # fmt: skip


def verified(proof: dict[str, Any] | None) -> str:
    """When, and by how much."""
    if proof is None:
        return "never"
    what = "proven" if proof["good"] else f"{proof['level']} only" if not proof["first"] else "NO GOOD"
    return f"{what} {proof['at']}"

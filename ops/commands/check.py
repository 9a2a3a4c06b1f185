"""`twinlog check DIR`: storage's checker over a data directory, offline, as a table or JSON.

Knows how to show findings; what one is, is storage.check's, which runs by itself too (`python -m storage.check DIR`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, finish, refusals
from ops.tables import print_table

if TYPE_CHECKING:
    from storage import Disk
    from storage.check import Finding

IDENTITY = "database.json"


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="For an encrypted backup: the keys that backup_key_file names.")
@click.option("--json", "as_json", is_flag=True, help="One finding a line, as JSON.")
def check(directory: Path, key_file: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Verify every byte below DIRECTORY: a node's data directory, a database in it, or a copy of either; or a backup, of which an incremental one is
    read with the neighbours whose bytes it needs.

    Reads only and needs no node; run it on a stopped node or a copy. Exit code 0: clean (notes at most), 7: findings.
    """
    from storage import is_backup_directory, verify_backup  # late: --help must not pay for the engine
    from storage.check import Severity, check_database

    findings: list[Finding] = []
    with refusals():
        disk, names = databases_below(directory)
        disk = readable(disk, names, key_file)
        for name in names:
            findings += (verify_backup if is_backup_directory(disk, name) else check_database)(disk, name)
    if as_json:
        for finding in findings:
            click.echo(json.dumps(as_plain(finding)))
    else:
        show(findings)
        click.echo(f"{directory}: {len(names)} databases checked, {len(findings)} findings")
    damaged = any(finding.severity is not Severity.NOTE for finding in findings)
    finish(ExitCode.FINDINGS if damaged else ExitCode.OK)


def databases_below(directory: Path) -> tuple[Disk, list[str]]:
    """The database that the directory is, or all those in it."""
    from storage import OsDisk
    from storage.check import database_names

    directory = directory.absolute()
    around = OsDisk(str(directory.parent))
    if directory.name in database_names(around):
        return around, [directory.name]
    disk = OsDisk(str(directory))
    names = database_names(disk)
    if not names:
        raise Refusal(f"{directory} holds no database; name a node's data directory, or one database in it")
    return disk, names


def readable(disk: Disk, names: list[str], key_file: Path | None) -> Disk:
    """With what is encrypted there decrypted. What the keys are missing for is refused, and not taken for damage."""
    from storage import refuse_sealed, sealed_reader

    if key_file is not None:
        return sealed_reader(disk, str(key_file.absolute()))
    for name in names:
        if disk.exists(f"{name}/{IDENTITY}"):
            try:
                refuse_sealed(disk.read_file(f"{name}/{IDENTITY}"), name)
            except OSError as error:
                raise Refusal(f"{name} is encrypted: {error.strerror}; name its keys by --key-file") from error
    return disk


def as_plain(finding: Finding) -> dict[str, object]:
    return {
        "severity": finding.severity.value, "file": finding.file, "offset": finding.offset if finding.offset >= 0 else None,
        "what": finding.what, "next_step": finding.next_step,
    }


def show(findings: list[Finding]) -> None:
    if findings:
        rows = [["" if cell is None else str(cell) for cell in as_plain(finding).values()] for finding in findings]
        print_table("findings", ("severity", "file", "offset>", "what", "next step"), rows)

"""`twinlog backup keygen FILE`: a new key for backups and archives. Works offline."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As a JSON document.")
def keygen(file: Path, as_json: bool) -> None:  # noqa: FBT001
    """Write a new random key to FILE, readable by its owner only; never over a file that exists. Name it by the setting backup_key_file, on every node.

    To rotate keys, put the new line above the old ones in that file: new backups are encrypted with the first, and each is read with its own. Keep a copy of
    the file elsewhere than the backups: without their key nobody can read them.
    """
    from storage import write_backup_key  # late: --help must not pay for the engine

    try:
        key_id = write_backup_key(file)
    except FileExistsError as error:
        raise Refusal(f"{file} exists already and is not overwritten; move it away first", ExitCode.FAILED) from error
    except OSError as error:
        raise Refusal(f"{file}: {error.strerror}") from error
    click.echo(json.dumps({"file": str(file), "key": key_id}) if as_json else f"{file}: key {key_id}")

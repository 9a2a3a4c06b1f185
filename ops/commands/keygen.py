"""`twinlog keygen FILE...`: new key files. Works offline."""

from __future__ import annotations

from pathlib import Path

import click

from ops.exit_codes import ExitCode
from ops.keyfiles import MODE_GROUP_READS, MODE_OWNER_ONLY, write_key_file
from ops.refusal import Refusal


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--group", is_flag=True, help="Mode 0640 in place of 0600: for a container whose user joins the file's group.")
def keygen(files: tuple[Path, ...], group: bool) -> None:  # noqa: FBT001
    """Write a new random key to each FILE; never over a file that exists.

    A cluster needs two: one for clients (client_keys) and one between its nodes (cluster_key). Every key of a file lets in, the first one
    is shown at others' doors. So a key is rotated in three steps, each on every node, which reads its files when it starts: the new line below
    the old one; when all know it, above the old one, and to the clients; the old line away.
    """
    for file in files:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            key_id = write_key_file(file, mode=MODE_GROUP_READS if group else MODE_OWNER_ONLY)
        except FileExistsError as error:
            raise Refusal(f"{file} exists already and is not overwritten; move it away first", ExitCode.FAILED) from error
        except OSError as error:
            raise Refusal(f"{file}: {error.strerror}") from error
        click.echo(f"{file}: key {key_id}")

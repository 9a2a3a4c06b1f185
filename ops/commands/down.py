"""`twinlog down [DIR]`: stops exactly the processes that `twinlog up` started there. The data stays."""

from __future__ import annotations

from pathlib import Path

import click

from ops.pair import opened
from ops.target import PAIR_DIRECTORY


@click.command()
@click.argument("directory", default=PAIR_DIRECTORY, type=click.Path(file_okay=False, path_type=Path))
def down(directory: Path) -> None:
    """Stop the local pair below DIRECTORY (default .local-pair); its data stays for the next `twinlog up`."""
    if not directory.is_dir():
        click.echo(f"no local pair below {directory}")
        return
    with opened(directory) as pair:
        stopped = pair.stop()
    click.echo(f"stopped {' and '.join(stopped)}" if stopped else "nothing was running")

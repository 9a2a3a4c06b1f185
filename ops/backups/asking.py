"""What the backup verbs share: which database at which node, a client for it, the step that a job is at, a backup in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from ops.refusal import refusals
from ops.tables import size
from ops.target import database_name, resolve, target_options

Command = TypeVar("Command", bound=Callable[..., Any])


def backup_options(command: Command) -> Command:
    """Adds --url, --key-file, --db and --json to a verb."""
    command = click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON document.")(command)
    command = click.option("--db", "database", default=None, help="Database; default: the one in the URL, else 'test'.")(command)
    return target_options(command)


def node_option(command: Command) -> Command:
    """Adds --node: every node has a shelf of its own."""
    return click.option("--node", default=None, metavar="HOST:PORT", help="Whose shelf; default: the primary's.")(command)


@contextmanager
def asked(url: str | None, key_file: str | None, database: str | None) -> Iterator[Any]:
    """The client's database. What is refused ends the command."""
    target = resolve(url, key_file)
    with refusals(), target.connect() as client:
        yield client[database_name(target, database)]


def tell(as_json: bool) -> Callable[[str], None]:  # noqa: FBT001
    """Shows each new step on stderr, where it is a terminal."""
    shown = [""]

    def told(step: str) -> None:
        if step != shown[0] and not as_json and sys.stderr.isatty():
            shown[0] = step
            click.echo(f"... {step}", err=True)

    return told


def how(row: dict[str, Any]) -> str:
    """What was written of a backup's size."""
    whole = size(row["size_bytes"])
    return f"full, {whole}" if row["kind"] == "full" else f"incremental to {row['base']}, {size(row['written_bytes'])} written of {whole}"

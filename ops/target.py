"""Which cluster a verb talks to: --url, else TWINLOG_URL, else the local pair of this directory.

    twinlog://[user[:password]@]host:port[,host:port...]/[db]?key=FILE&pool=4

Knows which hosts and which database a URL names; the client does the connecting. A key
comes from a file and a password from TWINLOG_PASSWORD or a file, never from an argument of its own: the command line
is visible to every user of the machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import click

from .exit_codes import ExitCode
from .refusal import Refusal

PAIR_DIRECTORY = ".local-pair"
PAIR_FILE = "pair.json"
URL_VARIABLE = "TWINLOG_URL"

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster as the operator named it."""

    url: str
    key_file: str | None
    source: str  # where the URL came from, for error messages

    def hosts(self) -> list[str]:
        """The host:port entries of the URL, in order."""
        authority = self._authority_and_path()[0]
        return [host for host in authority.rpartition("@")[2].split(",") if host]

    def url_of(self, host: str) -> str:
        """The same URL with this host only."""
        authority = self._authority_and_path()[0]
        login, at, _ = authority.rpartition("@")
        return self.url.replace(f"://{authority}", f"://{login}{at}{host}", 1)

    def default_database(self) -> str | None:
        return unquote(self._authority_and_path()[1]).strip("/") or None

    def _authority_and_path(self) -> tuple[str, str]:
        # Several hosts are more than urllib's parser takes.
        rest = self.url.partition("://")[2].partition("?")[0]
        authority, _, path = rest.partition("/")
        return authority, path

    def connect(self, **options: Any) -> Any:
        """A blocking client; raises the client's own errors."""
        import twinlog  # late: --help must not pay for it

        if self.key_file is not None:
            options["key"] = self.key_file
        return twinlog.connect(self.url, **options)


def resolve(url: str | None, key_file: str | None) -> Target:
    """The target of a command, or a Refusal that says the three ways to name one."""
    if url:
        return Target(with_scheme(url), key_file, "--url")
    if from_environment := os.environ.get(URL_VARIABLE):
        return Target(with_scheme(from_environment), key_file, URL_VARIABLE)
    pair_file = find_pair_file(Path.cwd())
    if pair_file is not None:
        return Target(json.loads(pair_file.read_text())["url"], key_file, str(pair_file))
    raise Refusal(
        f"no cluster named: give --url twinlog://host:port/?key=FILE, set {URL_VARIABLE}, "
        f"or start a local pair here with `twinlog up`",
        ExitCode.USAGE,
    )


def with_scheme(url: str) -> str:
    """The client takes host:port alone too; here every URL has its scheme."""
    return url if "://" in url else f"twinlog://{url}"


def find_pair_file(start: Path) -> Path | None:
    """The local pair of this directory or of the nearest one above it."""
    for directory in (start, *start.parents):
        candidate = directory / PAIR_DIRECTORY / PAIR_FILE
        if candidate.is_file():
            return candidate
    return None


def target_options(command: Command) -> Command:
    """Adds --url and --key-file to a verb."""
    command = click.option("--key-file", type=click.Path(dir_okay=False), help="Client key file; also key= in the URL.")(
        command
    )
    return click.option("--url", help=f"The cluster; default: {URL_VARIABLE}, else the local pair of this directory.")(
        command
    )


def database_option(command: Command) -> Command:
    """Adds --db to a verb."""
    return click.option("--db", "database", default=None, help="Database; default: the one in the URL, else 'test'.")(
        command
    )


def database_name(target: Target, database: str | None) -> str:
    return database or target.default_database() or "test"

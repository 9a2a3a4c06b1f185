"""`twinlog kv VERB PATH ...`: a key-value store from the command line, with the verbs of SKV's own. The work is twinlog.open_kv's.

PATH is the store's directory, or a cluster's twinlog:// URL. A value `-` is read from stdin; `get` writes the value's bytes, nothing else, unless stdout is a
terminal, where a line end follows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, confirm, finish, refusals

EXISTING = click.Path(exists=True, dir_okay=False)


@click.group()
def kv() -> None:
    """Keys and values: put, get, update, delete, list, back up and restore.

    PATH is a directory of its own (made by put and restore) or a twinlog:// URL.
    """


@contextmanager
def store(path: str, *, make: bool = False) -> Iterator[Any]:
    """The store, open. Only verbs that write new keys make one."""
    import twinlog  # late: --help must not pay for it

    if not make and "://" not in path and not Path(path).is_dir():
        raise Refusal(f"there is no store {path}: `twinlog kv put {path} KEY VALUE` makes one", ExitCode.NOT_FOUND)
    with refusals():
        try:
            with twinlog.open_kv(path) as opened:
                yield opened
        except twinlog.errors.KeyNotFound as error:
            raise Refusal(error.message, ExitCode.NOT_FOUND) from error
        except twinlog.files.BadPackedFile as error:
            raise Refusal(f"{error}; nothing was changed") from error


def given(value: str) -> bytes | str:
    return sys.stdin.buffer.read() if value == "-" else value


def show(data: bytes) -> None:
    sys.stdout.buffer.write(data + (b"\n" if sys.stdout.isatty() else b""))
    sys.stdout.buffer.flush()


def shown(data: bytes) -> str:
    """One key or value in a line: what is no printable text stands as escapes."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


@kv.command()
@click.argument("path")
@click.argument("key")
@click.argument("value")
def put(path: str, key: str, value: str) -> None:
    """Store a new key; refused when it exists."""
    with store(path, make=True) as opened:
        opened.put(key, given(value))


@kv.command()
@click.argument("path")
@click.argument("key")
@click.argument("value")
def update(path: str, key: str, value: str) -> None:
    """Change a key that is there."""
    with store(path) as opened:
        opened.update(key, given(value))


@kv.command()
@click.argument("path")
@click.argument("key")
def get(path: str, key: str) -> None:
    """Write a value to stdout; exit code 8 when there is no such key."""
    with store(path) as opened:
        show(opened.get(key))


@kv.command()
@click.argument("path")
@click.argument("key")
def delete(path: str, key: str) -> None:
    """Remove a key."""
    with store(path) as opened:
        opened.delete(key)


@kv.command()
@click.argument("path")
@click.argument("key")
def exists(path: str, key: str) -> None:
    """Say true or false; exit code 8 for false."""
    with store(path) as opened:
        found = opened.exists(key)
    click.echo("true" if found else "false")
    finish(ExitCode.OK if found else ExitCode.NOT_FOUND)


@kv.command()
@click.argument("path")
def count(path: str) -> None:
    """How many keys there are."""
    with store(path) as opened:
        click.echo(opened.count())


@kv.command()
@click.argument("path")
def keys(path: str) -> None:
    """Every key, a line each, in order."""
    with store(path) as opened:
        for key in opened:
            click.echo(shown(key))


@kv.command()
@click.argument("path")
def foreach(path: str) -> None:
    """Every key=value, a line each."""
    with store(path) as opened:
        for key, value in opened.items():
            click.echo(f"{shown(key)}={shown(value)}")


@kv.command()
@click.argument("path")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(path: str, yes: bool) -> None:  # noqa: FBT001
    """Remove every key."""
    with store(path) as opened:
        if not yes:
            confirm(f"remove all {opened.count()} keys of {path}?")
        opened.clear()


@kv.command()
@click.argument("path")
@click.argument("key")
@click.argument("file", type=EXISTING)
def putfile(path: str, key: str, file: str) -> None:
    """Store a file's bytes under a new key."""
    with store(path, make=True) as opened:
        opened.put_file(key, file)


@kv.command()
@click.argument("path")
@click.argument("key")
@click.argument("file", type=click.Path(dir_okay=False))
def getfile(path: str, key: str, file: str) -> None:
    """Write a value to a new file."""
    with store(path) as opened:
        opened.get_file(key, file)


@kv.command()
@click.argument("path")
def compact(path: str) -> None:
    """Give back the space of old values and removed keys."""
    with store(path) as opened:
        report = opened.compact()
    click.echo(f"{report['before']:,} bytes before, {report['after']:,} after")


@kv.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True)
def verify(path: str, as_json: bool) -> None:  # noqa: FBT001
    """Hold every byte against its checksum; exit code 7 when some are damaged."""
    with store(path) as opened:
        stats = opened.verify()
    if as_json:
        click.echo(json.dumps(asdict(stats) | {"efficiency": stats.efficiency, "wasted_percent": stats.wasted_percent}))
    else:
        click.echo(f"{stats.active_records:,} keys, {stats.data_size:,} bytes in {stats.file_size:,} bytes of files ({stats.efficiency:.0f} %)")
        for line in (*stats.findings, *(f"damaged: {one}" for one in stats.damaged)):
            click.echo(line)
    finish(ExitCode.FINDINGS if stats.damaged else ExitCode.OK)


@kv.command()
@click.argument("path")
@click.argument("file", type=click.Path())
@click.option("--keep", type=click.IntRange(min=0), help="FILE is a directory: a new backup_YYYY-MM-DD_HHMMSS.json in it, and only so many newest stay (0: all).")
def backup(path: str, file: str, keep: int | None) -> None:
    """Write every key to a new FILE as SKV's JSON; .gz and .zst are packed."""
    with store(path) as opened:
        if keep is None:
            click.echo(f"{opened.backup(file):,} keys -> {file}")
        else:
            click.echo(f"{opened.count():,} keys -> {opened.backup_now(file, keep=keep)}")


@kv.command()
@click.argument("path")
@click.argument("file", type=EXISTING)
@click.option("--verify", "and_verify", is_flag=True, help="Then compare every key with the file.")
def restore(path: str, file: str, and_verify: bool) -> None:  # noqa: FBT001
    """Put every key of a backup in place; keys that it does not have stay. A damaged FILE changes nothing."""
    with store(path, make=True) as opened:
        click.echo(f"{opened.restore(file):,} keys <- {file}")
        differing = opened.verify_restore(file) if and_verify else []
    if and_verify:
        click.echo(f"{len(differing)} keys differ from the file" if differing else "every key is as the file says")
        finish(ExitCode.UNEQUAL if differing else ExitCode.OK)

"""What commands read and write: twinlog's files (plain, .gz, .zst), and `-` for stdin and stdout, with refusals in place of errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import BinaryIO

from .exit_codes import ExitCode
from .refusal import Refusal

STANDARD = "-"


def unpacked_name(file: str) -> str:
    """The name without its packing: orders.jsonl.gz is about orders.jsonl."""
    return _files().unpacked_name(file)


@contextmanager
def reading(file: str, stream: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """The file's unpacked bytes. stream: the file, opened already (for a progress bar); the caller closes it."""
    if file == STANDARD:
        yield sys.stdin.buffer
        return
    files = _files()
    try:
        with files.reading(file, stream) as unpacked:
            yield unpacked
    except files.BadPackedFile as error:
        raise Refusal(str(error)) from error


@contextmanager
def writing(file: str) -> Iterator[BinaryIO]:
    """A new file, packed as its name says. Refused when it exists."""
    if file == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with _files().writing(file) as packed:
            yield packed
    except FileExistsError as error:
        raise Refusal(str(error), ExitCode.USAGE) from error


def _files() -> ModuleType:
    import twinlog.files  # late: --help must not pay for the client

    return twinlog.files

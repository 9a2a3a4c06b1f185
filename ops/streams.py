"""Files that commands read and write: plain, .gz and .zst by extension, `-` for stdin and stdout.

An output never takes the place of a file that exists, and stands under its name only once it is whole: until then it is FILE.part, which
a command that fails takes away (INV-7).
"""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from .exit_codes import ExitCode
from .refusal import Refusal

STANDARD = "-"
PACKED = (".gz", ".zst")


def unpacked_name(file: str) -> str:
    """The name without its packing: orders.jsonl.gz is about orders.jsonl."""
    path = Path(file)
    return str(path.with_suffix("")) if path.suffix.lower() in PACKED else file


@contextmanager
def reading(file: str, stream: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """The file's unpacked bytes. stream: the file, opened already (for a progress bar); the caller closes it."""
    if file == STANDARD:
        yield sys.stdin.buffer
        return
    with open(file, "rb") if stream is None else _lent(stream) as raw:
        with _unpacking(file, raw) as unpacked:
            yield unpacked


@contextmanager
def writing(file: str) -> Iterator[BinaryIO]:
    """A new file, packed as its name says. Refused when it exists."""
    if file == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.lexists(file):
        raise Refusal(f"{file} exists and is not written over: choose another name, or remove it", ExitCode.USAGE)
    part = f"{file}.part"
    is_whole = False
    try:
        with open(part, "wb") as raw:
            with _packing(file, raw) as packed:
                yield packed
            raw.flush()
            os.fsync(raw.fileno())
        os.link(part, file)  # unlike a rename it refuses a file that came to be meanwhile
        is_whole = True
    except FileExistsError as error:
        raise Refusal(f"{file} came to exist meanwhile; what was written is in {part}", ExitCode.USAGE) from error
    finally:
        if is_whole or not os.path.lexists(file):
            Path(part).unlink(missing_ok=True)


@contextmanager
def _lent(stream: BinaryIO) -> Iterator[BinaryIO]:
    yield stream


@contextmanager
def _unpacking(file: str, raw: BinaryIO) -> Iterator[BinaryIO]:
    suffix = Path(file).suffix.lower()
    if suffix == ".gz":
        with gzip.open(raw, "rb") as stream:
            yield stream  # type: ignore[misc]
    elif suffix == ".zst":
        import zstandard

        try:
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True, closefd=False) as stream:
                yield stream
        except zstandard.ZstdError as error:
            raise Refusal(f"{file} is no whole .zst file: {error}") from error
    else:
        yield raw


@contextmanager
def _packing(file: str, raw: IO[bytes]) -> Iterator[BinaryIO]:
    suffix = Path(file).suffix.lower()
    if suffix == ".gz":
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as stream:
            yield stream  # type: ignore[misc]
    elif suffix == ".zst":
        import zstandard

        with zstandard.ZstdCompressor().stream_writer(raw, closefd=False) as stream:
            yield stream  # type: ignore[misc]
    else:
        yield raw  # type: ignore[misc]

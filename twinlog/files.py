"""Files that exports are written to and read from: plain, .gz and .zst by their ending. Knows no format and no database.

A new file never takes the place of one that exists, and stands under its name only once it is whole and synced: until then it is
FILE.part, which a writer that fails takes away (INV-7).
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PACKED = (".gz", ".zst")


class BadPackedFile(ValueError):
    """The packing of a file is damaged or cut short; the message names the file."""


def unpacked_name(file: str | os.PathLike[str]) -> str:
    """The name without its packing: orders.jsonl.gz is about orders.jsonl."""
    path = Path(file)
    return str(path.with_suffix("")) if path.suffix.lower() in PACKED else str(file)


@contextmanager
def reading(file: str | os.PathLike[str], raw: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """The file's unpacked bytes. raw: the file, opened already; then the caller closes it. Raises OSError; BadPackedFile in the reading."""
    if raw is not None:
        with unpacking(file, raw) as stream:
            yield stream
        return
    with Path(file).open("rb") as opened, unpacking(file, opened) as stream:
        yield stream


@contextmanager
def writing(file: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file, packed as its name says. Raises FileExistsError when the name is taken, before or meanwhile: then what was
    written is left in FILE.part."""
    name = os.fspath(file)
    if os.path.lexists(name):
        raise FileExistsError(f"{name} exists and is not written over: choose another name, or remove it")
    part = f"{name}.part"
    is_whole = False
    try:
        with Path(part).open("wb") as raw:
            with packing(name, raw) as packed:
                yield packed
            raw.flush()
            os.fsync(raw.fileno())
        try:
            os.link(part, name)  # unlike a rename it refuses a file that came to be meanwhile
        except FileExistsError as error:
            raise FileExistsError(f"{name} came to exist meanwhile; what was written is in {part}") from error
        is_whole = True
    finally:
        if is_whole or not os.path.lexists(name):
            Path(part).unlink(missing_ok=True)


@contextmanager
def unpacking(file: str | os.PathLike[str], raw: BinaryIO) -> Iterator[BinaryIO]:
    """The unpacked bytes of a stream that is packed as the file's name says."""
    suffix = Path(file).suffix.lower()
    if suffix == ".gz":
        with gzip.open(raw, "rb") as stream:
            try:
                yield stream  # type: ignore[misc]
            except (EOFError, gzip.BadGzipFile) as error:
                raise BadPackedFile(f"{os.fspath(file)} is no whole .gz file: {error}") from error
    elif suffix == ".zst":
        import zstandard

        try:
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True, closefd=False) as stream:
                yield stream
        except zstandard.ZstdError as error:
            raise BadPackedFile(f"{os.fspath(file)} is no whole .zst file: {error}") from error
    else:
        yield raw


@contextmanager
def packing(file: str | os.PathLike[str], raw: BinaryIO) -> Iterator[BinaryIO]:
    """A stream whose bytes are packed as the file's name says."""
    suffix = Path(file).suffix.lower()
    if suffix == ".gz":
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as stream:
            yield stream  # type: ignore[misc]
    elif suffix == ".zst":
        import zstandard

        with zstandard.ZstdCompressor().stream_writer(raw, closefd=False) as stream:
            yield stream  # type: ignore[misc]
    else:
        yield raw

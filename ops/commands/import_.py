"""`twinlog import FILE...`: exports of any format into collections, streamed.

Knows files and progress; reading is storage's, batches are the client's, and so is the reason of a bad line. Good lines go in whatever
the others do; each one left out is printed with its number and reason, and the exit code says that there were some.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ops.exit_codes import ExitCode
from ops.refusal import finish, refusals
from ops.streams import STANDARD, reading, unpacked_name
from ops.target import database_name, database_option, resolve, target_options

BATCH_DEFAULT = 1000
BATCH_MAX = 100_000
SUFFIXES = (".json", ".jsonl", ".ndjson", ".mongojl", ".alos", ".zip", ".bson")
FORMATS = ("alos", "jsonl", "json", "mongo", "zip", "skv", "bson")


@dataclass
class Tally:
    """What became of one file."""

    file: str
    into: str
    lines_shown: Console
    is_dry: bool = False
    format: str = ""
    inserted: int = 0
    refused: int = 0
    seconds: float = 0.0
    collections: dict[str, Any] = field(default_factory=dict)

    def refuse(self, collection: str, line: int, reason: str) -> None:
        text = f"{self.file}:{line}: {reason}"
        if self.lines_shown.is_terminal:  # above the progress bar; without one, rich would only be slow
            self.lines_shown.print(text)
        else:
            click.echo(text, err=True)

    def note(self, result: Any) -> None:
        """The import's result as it stands."""
        self.format = result.format
        self.inserted, self.refused = result.total_inserted, result.total_errors
        self.collections = {name: {"inserted": one.inserted, "errors": one.errors} for name, one in result.collections.items()}

    def as_json(self) -> dict[str, Any]:
        return {"file": self.file, "into": self.into, "format": self.format, "inserted": self.inserted, "refused": self.refused,
                "collections": self.collections, "seconds": round(self.seconds, 3)}

    def in_words(self) -> str:
        rate = f", {self.inserted / self.seconds:,.0f} documents/s" if self.seconds > 0 else ""
        refused = f", {self.refused:,} left out" if self.refused else ""
        names = list(self.collections)
        into = f"{self.into.partition('.')[0]}.{names[0]}" if len(names) == 1 else f"{self.into.partition('.')[0]} ({len(names)} collections)" if names else self.into
        did = "could be inserted" if self.is_dry else "inserted"
        return f"{self.file} -> {into}: {self.inserted:,} {did}{refused} in {self.seconds:.1f} s{rate}"


class Counted:
    """A binary stream that tells how many bytes were read through it."""

    def __init__(self, stream: BinaryIO, progress: Progress, task: Any) -> None:
        self._stream, self._progress, self._task = stream, progress, task

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._progress.advance(self._task, len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@target_options
@database_option
@click.option("--collection", default=None, help="Where everything goes. Default: where the file says, else its name without its ending.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Default: told by the file's first bytes.")
@click.option("--keep-ids/--new-ids", default=True, show_default=True, help="Whether documents keep their _id.")
@click.option("--mode", type=click.Choice(("insert", "upsert", "replace")), default="insert", show_default=True,
              help="insert refuses an _id that is there, upsert puts the document in its place, replace refuses one that is not.")
@click.option("--batch", type=click.IntRange(1, BATCH_MAX), default=BATCH_DEFAULT, show_default=True,
              help="Documents in one request.")
@click.option("--stop-on-error", is_flag=True, help="End at the first that is left out; what went in stays.")
@click.option("--dry-run", is_flag=True, help="Read and check, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
def import_(
    files: tuple[str, ...], url: str | None, key_file: str | None, database: str | None, collection: str | None, kind: str | None,
    keep_ids: bool, mode: str, batch: int, stop_on_error: bool, dry_run: bool, as_json: bool,  # noqa: FBT001
) -> None:
    """Import each FILE (`-` is stdin; .gz and .zst are unpacked): what `twinlog export` or mongoexport writes, in any format. A directory is
    what mongodump wrote: its collections, then their declared indexes.

    Lines that are bad, or that the database refuses, are named on stderr with their reason; the others go in. Exit
    code 0: all went in, 5: some lines were left out, 3: the cluster was lost on the way.
    """
    defaults = [None if collection or file == STANDARD else collection_of(file) for file in files]
    target = resolve(url, key_file)
    options = {"format": kind, "keep_ids": keep_ids, "mode": mode, "batch_size": batch, "stop_on_error": stop_on_error, "dry_run": dry_run}
    tallies: list[Tally] = []
    with refusals(), ExitStack() as stack:
        client = stack.enter_context(target.connect())
        progress = stack.enter_context(progress_bar())
        into = client[database_name(target, database)]
        for file, default in zip(files, defaults, strict=True):
            tally = Tally(file, f"{database_name(target, database)}.{collection or default or '*'}", progress.console, dry_run)
            tallies.append(tally)
            try:
                if file != STANDARD and Path(file).is_dir():
                    import_directory(file, into, {**options, "collections": [collection] if collection else []}, tally)
                else:
                    import_file(file, into, {**options, "collection": collection, "default_collection": default}, tally, progress)
            finally:
                report(tally, as_json=as_json, progress=progress)
            if stop_on_error and tally.refused:
                break
    finish(ExitCode.PARTIAL if any(tally.refused for tally in tallies) else ExitCode.OK)


def collection_of(file: str) -> str:
    """restaurants.json goes into restaurants."""
    name = Path(unpacked_name(file)).name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
            break
    return re.sub(r"[\s$]+", "_", name)


def progress_bar() -> Progress:
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
                    console=console, transient=True, disable=not console.is_terminal)


def import_file(file: str, into: Any, options: dict[str, Any], tally: Tally, progress: Progress) -> None:
    """Streams one file in; memory holds one batch."""
    started = time.perf_counter()
    options = {**options, "on_bad": tally.refuse, "on_batch": tally.note}
    with ExitStack() as stack:
        total = None if file == STANDARD else Path(file).stat().st_size
        task = progress.add_task(file, total=total)
        counted = None
        if file != STANDARD:
            counted = Counted(stack.enter_context(Path(file).open("rb")), progress, task)
        try:
            stream = stack.enter_context(reading(file, counted))  # type: ignore[arg-type]
            tally.note(into.import_database(stream, **options))
        finally:
            tally.seconds = time.perf_counter() - started
            progress.remove_task(task)


def import_directory(directory: str, into: Any, options: dict[str, Any], tally: Tally) -> None:
    """A dump, collection by collection."""
    started = time.perf_counter()
    options = {name: value for name, value in options.items() if name != "format"}
    try:
        result = into.import_dump(directory, **options, on_bad=tally.refuse)
        tally.format, tally.inserted = "dump", result.total_inserted
        tally.refused = result.total_errors + len(result.left_out)
        tally.collections = {name: {"inserted": one.inserted, "errors": one.errors} for name, one in result.collections.items()}
        for name, index, reason in result.left_out:
            click.echo(f"{directory}: index {index!r} of {name}: {reason}", err=True)
    finally:
        tally.seconds = time.perf_counter() - started


def report(tally: Tally, *, as_json: bool, progress: Progress) -> None:
    if as_json:
        click.echo(json.dumps(tally.as_json()))
    else:
        progress.console.print(tally.in_words())

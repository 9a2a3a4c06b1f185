"""`twinlog import FILE...`: JSONL and mongoexport files into collections, streamed.

Knows files, batches and progress; parsing is storage's, and so is the reason of a bad line. Good lines go in whatever
the others do; each line left out is printed with its number and reason, and the exit code says that there were some.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ops.exit_codes import ExitCode
from ops.refusal import Refusal, finish, refusals
from ops.target import database_name, database_option, resolve, target_options

STDIN = "-"
BATCH_DEFAULT = 1000
BATCH_MAX = 100_000
SUFFIXES = (".json", ".jsonl", ".ndjson", ".mongojl")


@dataclass
class Tally:
    """What became of one file."""

    file: str
    into: str
    lines_shown: Console
    inserted: int = 0
    refused: int = 0
    seconds: float = 0.0

    def refuse(self, line: int, reason: str) -> None:
        self.refused += 1
        text = f"{self.file}:{line}: {reason}"
        if self.lines_shown.is_terminal:  # above the progress bar; without one, rich would only be slow
            self.lines_shown.print(text)
        else:
            click.echo(text, err=True)

    def as_json(self) -> dict[str, Any]:
        return {"file": self.file, "into": self.into, "inserted": self.inserted, "refused": self.refused,
                "seconds": round(self.seconds, 3)}

    def in_words(self) -> str:
        rate = f", {self.inserted / self.seconds:,.0f} documents/s" if self.seconds > 0 else ""
        refused = f", {self.refused:,} left out" if self.refused else ""
        return f"{self.file} -> {self.into}: {self.inserted:,} inserted{refused} in {self.seconds:.1f} s{rate}"


class Counted:
    """A binary stream that tells how many bytes were read through it."""

    def __init__(self, stream: BinaryIO, progress: Progress, task: Any) -> None:
        self._stream, self._progress, self._task = stream, progress, task

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._progress.advance(self._task, len(data))
        return data


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@target_options
@database_option
@click.option("--collection", default=None, help="Default: the file's name without its ending.")
@click.option("--batch", type=click.IntRange(1, BATCH_MAX), default=BATCH_DEFAULT, show_default=True,
              help="Documents in one request.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
def import_(
    files: tuple[str, ...], url: str | None, key_file: str | None, database: str | None, collection: str | None,
    batch: int, as_json: bool,  # noqa: FBT001
) -> None:
    """Import each FILE (`-` is stdin): one document a line, as mongoexport writes them, or one JSON array.

    Lines that are bad, or that the database refuses, are named on stderr with their reason; the others go in. Exit
    code 0: all went in, 5: some lines were left out, 3: the cluster was lost on the way.
    """
    names = [collection or collection_of(file) for file in files]
    target = resolve(url, key_file)
    tallies: list[Tally] = []
    with refusals(), ExitStack() as stack:
        client = stack.enter_context(target.connect())
        progress = stack.enter_context(progress_bar())
        into = client[database_name(target, database)]
        for file, name in zip(files, names, strict=True):
            tally = Tally(file, f"{database_name(target, database)}.{name}", progress.console)
            tallies.append(tally)
            try:
                import_file(file, into[name], batch, tally, progress)
            finally:
                report(tally, as_json=as_json, progress=progress)
    finish(ExitCode.PARTIAL if any(tally.refused for tally in tallies) else ExitCode.OK)


def collection_of(file: str) -> str:
    """restaurants.json goes into restaurants."""
    if file == STDIN:
        raise Refusal("stdin has no name: give --collection", ExitCode.USAGE)
    path = Path(file)
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
            break
    return re.sub(r"[\s$]+", "_", name)


def progress_bar() -> Progress:
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
                    console=console, transient=True, disable=not console.is_terminal)


def import_file(file: str, collection: Any, batch: int, tally: Tally, progress: Progress) -> None:
    """Streams one file in; memory holds one batch."""
    from storage import BadLine, read_documents

    started = time.perf_counter()
    with ExitStack() as stack:
        if file == STDIN:
            stream, total = sys.stdin.buffer, None
        else:
            stream, total = stack.enter_context(Path(file).open("rb")), Path(file).stat().st_size
        task = progress.add_task(file, total=total)
        pending: list[tuple[int, dict]] = []
        try:
            for line, found in read_documents(Counted(stream, progress, task)):
                if isinstance(found, BadLine):
                    tally.refuse(line, found.reason)
                    continue
                pending.append((line, found))
                if len(pending) >= batch:
                    insert_batch(collection, pending, tally)
                    pending = []
            insert_batch(collection, pending, tally)
        finally:
            tally.seconds = time.perf_counter() - started
            progress.remove_task(task)


def insert_batch(collection: Any, pending: Iterable[tuple[int, dict]], tally: Tally) -> None:
    """One request. What the client or the node refuses is tallied by line; the rest of the batch goes in."""
    from twinlog.errors import BulkWriteError, InvalidDocument

    pending = list(pending)
    if not pending:
        return
    try:
        result = collection.insert_many([document for _, document in pending], ordered=False)
    except BulkWriteError as error:
        tally.inserted += error.details["nInserted"]
        for refused in error.details["writeErrors"]:
            tally.refuse(pending[refused["index"]][0], refused["errmsg"])
    except InvalidDocument as error:
        if len(pending) == 1:
            tally.refuse(pending[0][0], str(error))
            return
        # The client refuses the whole call: halves find the document at fault in few steps.
        middle = len(pending) // 2
        insert_batch(collection, pending[:middle], tally)
        insert_batch(collection, pending[middle:], tally)
    else:
        tally.inserted += len(result.inserted_ids)


def report(tally: Tally, *, as_json: bool, progress: Progress) -> None:
    if as_json:
        click.echo(json.dumps(tally.as_json()))
    else:
        progress.console.print(tally.in_words())

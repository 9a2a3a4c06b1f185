"""Export and import of the blocking client: what a Database has of it. The work is storage.exchange's and importing.py's.

The stream is any binary one that the caller opened; it is not closed. Each collection is written from one cursor, which shows one state
of it, sorted by nothing: documents stand in the order of their last writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from storage.exchange import Asked, Format, Item, Writer, ZipWriter, format_of

from . import packed_inserts
from .engine_errors import engine_errors_here
from .errors import BulkWriteError, InvalidDocument
from .importing import (
    AHEAD_BYTES_MAX,
    Batch,
    ImportCollectionResult,
    ImportDatabaseResult,
    Importing,
    one_collection,
    read_options,
)
from .transport import Beside

if TYPE_CHECKING:
    from .collection import Collection
    from .cursor import Cursor
    from .scope import Scope
    from .transaction import Transaction

READ_DOCUMENTS = 20_000  # asked for at a time; the node's bound on bytes may give fewer
WRITE_DOCUMENTS = 2_000  # made into text at a time


class Transfers:
    """The verbs, over `self[name]` and `self.list_collection_names()`."""

    if TYPE_CHECKING:
        name: str
        _scope: Scope

        def __getitem__(self, name: str) -> Collection: ...
        def list_collection_names(self) -> list[str]: ...
        def transaction(self) -> Transaction: ...

    def export_collection(
        self, stream: BinaryIO, collection: str, format: str | Format = Format.JSONL, *, pretty: bool = False, canonical: bool = False
    ) -> int:
        """Write one collection; returns how many documents. pretty: json with two blanks a level; canonical: every type spelled out.

        Raises OperationFailure (BadRequest) for what the format cannot say, InvalidDocument naming the document that it cannot carry.
        """
        asked = Asked(format=format_named(format), collections=[collection], created_at=now(), pretty=pretty, canonical=canonical)
        if asked.format is not Format.SKV:
            return self._export(stream, asked, self)
        with self.transaction() as moment:  # the count at the beginning of the text and what follows are of one state
            return self._export(stream, replace(asked, total=moment[collection].count_documents({})), moment)

    def export_database(
        self, stream: BinaryIO, format: str | Format = Format.ALOS, *, collections: Sequence[str] = (), pretty: bool = False, canonical: bool = False
    ) -> int:
        """Write several collections, by default all, in the order of their names; returns how many documents."""
        names = sorted(collections) or self.list_collection_names()
        return self._export(
            stream,
            Asked(
                format=format_named(format), collections=names, created_at=now(), database=self.name, pretty=pretty, canonical=canonical
            ),
            self,
        )

    def export_collection_zip(self, stream: BinaryIO, collection: str) -> int:
        """Write one collection as a zip archive, a file a document; returns how many."""
        return self._export_zip(stream, [collection])

    def export_database_zip(self, stream: BinaryIO, *, collections: Sequence[str] = ()) -> int:
        """Write several collections, by default all, as one zip archive."""
        return self._export_zip(stream, sorted(collections) or self.list_collection_names())

    def import_collection(self, stream: BinaryIO, collection: str, **options: Any) -> ImportCollectionResult:
        """Read an export of any format into one collection. options: those of importing.ImportOptions."""
        return one_collection(self._import(stream, {**options, "collection": collection}), collection)

    def import_database(self, stream: BinaryIO, **options: Any) -> ImportDatabaseResult:
        """Read an export of several collections; each document goes where the export says. options: as above."""
        return self._import(stream, options)

    import_collection_zip = import_collection
    import_database_zip = import_database

    def _export(self, stream: BinaryIO, asked: Asked, source: Transfers | Transaction) -> int:
        if asked.format is Format.ZIP:
            return self._export_zip(stream, asked.collections)
        count = 0
        with engine_errors_here():
            writer = Writer(asked)
            stream.write(writer.begin())
            for name in asked.collections:
                stream.write(writer.collection(name))
                with closing(_packed(source[name].find())) as batches:
                    for documents in batches:
                        stream.write(writer.packed(documents))
                        count += len(documents)
            stream.write(writer.end())
        return count

    def _export_zip(self, stream: BinaryIO, names: Sequence[str]) -> int:
        count = 0
        with engine_errors_here(), ZipWriter() as writer:
            for name in names:
                with closing(_packed(self[name].find())) as batches:
                    for documents in batches:
                        stream.write(writer.packed(name, documents))
                        count += len(documents)
            for piece in writer.end():
                stream.write(piece)
        return count

    def _import(self, stream: BinaryIO, options: dict[str, Any]) -> ImportDatabaseResult:
        chosen = read_options(options)
        with engine_errors_here():
            job = Importing(stream, chosen, None if chosen.stop_on_error else _read_ahead)
            for group in job.groups():
                if len(group) > 1 and not chosen.dry_run:
                    self._write_together(job, group)
                    continue
                waiting = group[::-1]
                while waiting:
                    batch = waiting.pop()
                    waiting += reversed(self._write(job, batch) if not chosen.dry_run else job.done(batch))
        return job.result

    def _write_together(self, job: Importing, group: list[Batch]) -> None:
        batches = [(batch.collection, batch.documents) for batch in group]
        found, failure = self[group[0].collection].run(packed_inserts.insert_batches(self._scope, self.name, batches))
        for batch, errors in zip(group, found):
            job.written(batch, errors)
        if failure is not None:
            raise failure

    def _write(self, job: Importing, batch: Batch) -> tuple[Batch, ...]:
        """Write one batch; gives what is to be written instead of it."""
        into, writes = self[batch.collection], job.writes(batch)
        try:
            if writes is None:
                into.insert_many(batch.documents, ordered=False)
                return job.done(batch)
            result = into.bulk_write(writes, ordered=False)
            return job.done(batch, result.matched_count + result.upserted_count + result.inserted_count)
        except BulkWriteError as error:
            job.failed(batch, error)
        except InvalidDocument as error:
            return job.cannot_encode(batch, error)
        return ()


def _read_ahead(items: Iterator[Item], bytes_read: Callable[[], int]) -> Iterator[Item]:
    """The same items, the next ones read in a thread while these are used. Raises what reading raises, after the items before it."""

    def some() -> tuple[list[Item], Exception | None]:
        taken: list[Item] = []
        end = bytes_read() + AHEAD_BYTES_MAX
        try:
            while bytes_read() < end and (item := next(items, None)) is not None:
                taken.append(item)
        except Exception as error:  # noqa: BLE001 - raised below, in its place
            return taken, error
        return taken, None

    following = Beside(some)
    try:
        while True:
            taken, failure = following.result()
            if not taken and failure is None:
                return
            if failure is None:
                following = Beside(some)
            yield from taken
            if failure is not None:
                raise failure
    finally:
        following.wait()


def now() -> str:
    """RFC 3339 in UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_named(given: str | Format) -> Format:
    """Raises OperationFailure for a name that is none."""
    with engine_errors_here():
        return format_of(given) if isinstance(given, str) else given


def _packed(cursor: Cursor) -> Iterator[Sequence[bytes]]:
    """All documents of a cursor, as they are stored, WRITE_DOCUMENTS at a time. The next batch is asked for while the one before is used (INV-8: two are held)."""
    with cursor.batch_size(READ_DOCUMENTS):
        batch = cursor.next_packed()
        while batch:
            following = Beside(cursor.next_packed)
            try:
                for start in range(0, len(batch), WRITE_DOCUMENTS):
                    yield batch[start : start + WRITE_DOCUMENTS]  # type: ignore[misc]
            finally:
                following.wait()
            batch = following.result()

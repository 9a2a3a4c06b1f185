"""Export and import of the trio client: transfers.py's twin, to be awaited.

The stream is a binary one as for the blocking client, since files are such; its reads and writes happen in a thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from storage.exchange import Asked, Format, Writer, ZipWriter

from . import packed_inserts
from .engine_errors import engine_errors_here
from .errors import BulkWriteError, InvalidDocument
from .importing import (
    Batch,
    ImportCollectionResult,
    ImportDatabaseResult,
    Importing,
    one_collection,
    read_options,
)
from .transfers import READ_DOCUMENTS, format_named, now
from .transport import in_thread

if TYPE_CHECKING:
    from .async_collection import AsyncCollection
    from .async_cursor import AsyncCursor
    from .async_transaction import AsyncTransaction
    from .scope import Scope


SLICE_DOCUMENTS = 500  # made into text at a time: some milliseconds of the loop where there is no kernel


class AsyncTransfers:
    """The verbs, over `self[name]` and `self.list_collection_names()`."""

    if TYPE_CHECKING:
        name: str
        _scope: Scope

        def __getitem__(self, name: str) -> AsyncCollection: ...
        async def list_collection_names(self) -> list[str]: ...
        def transaction(self) -> AsyncTransaction: ...

    async def export_collection(
        self, stream: BinaryIO, collection: str, format: str | Format = Format.JSONL, *, pretty: bool = False, canonical: bool = False
    ) -> int:
        """Write one collection; returns how many documents. pretty: json with two blanks a level; canonical: every type spelled out.

        Raises OperationFailure (BadRequest) for what the format cannot say, InvalidDocument naming the document that it cannot carry.
        """
        asked = Asked(format=format_named(format), collections=[collection], created_at=now(), pretty=pretty, canonical=canonical)
        if asked.format is not Format.SKV:
            return await self._export(stream, asked, self)
        async with self.transaction() as moment:  # the count at the beginning of the text and what follows are of one state
            total = await moment[collection].count_documents({})
            return await self._export(stream, replace(asked, total=total), moment)

    async def export_database(
        self, stream: BinaryIO, format: str | Format = Format.ALOS, *, collections: Sequence[str] = (), pretty: bool = False, canonical: bool = False
    ) -> int:
        """Write several collections, by default all, in the order of their names; returns how many documents."""
        names = sorted(collections) or await self.list_collection_names()
        return await self._export(
            stream,
            Asked(
                format=format_named(format), collections=names, created_at=now(), database=self.name, pretty=pretty, canonical=canonical
            ),
            self,
        )

    async def export_collection_zip(self, stream: BinaryIO, collection: str) -> int:
        """Write one collection as a zip archive, a file a document; returns how many."""
        return await self._export_zip(stream, [collection])

    async def export_database_zip(self, stream: BinaryIO, *, collections: Sequence[str] = ()) -> int:
        """Write several collections, by default all, as one zip archive."""
        return await self._export_zip(stream, sorted(collections) or await self.list_collection_names())

    async def import_collection(self, stream: BinaryIO, collection: str, **options: Any) -> ImportCollectionResult:
        """Read an export of any format into one collection. options: those of importing.ImportOptions."""
        return one_collection(await self._import(stream, {**options, "collection": collection}), collection)

    async def import_database(self, stream: BinaryIO, **options: Any) -> ImportDatabaseResult:
        """Read an export of several collections; each document goes where the export says. options: as above."""
        return await self._import(stream, options)

    import_collection_zip = import_collection
    import_database_zip = import_database

    async def _export(self, stream: BinaryIO, asked: Asked, source: AsyncTransfers | AsyncTransaction) -> int:
        if asked.format is Format.ZIP:
            return await self._export_zip(stream, asked.collections)
        count = 0
        with engine_errors_here():
            writer = Writer(asked)
            await _write(stream, writer.begin())
            for name in asked.collections:
                await _write(stream, writer.collection(name))
                async for documents in _packed(source[name].find()):
                    await _write(stream, writer.packed(documents))
                    count += len(documents)
            await _write(stream, writer.end())
        return count

    async def _export_zip(self, stream: BinaryIO, names: Sequence[str]) -> int:
        count = 0
        with engine_errors_here(), ZipWriter() as writer:
            for name in names:
                async for documents in _packed(self[name].find()):
                    await _write(stream, writer.packed(name, documents))
                    count += len(documents)
            for piece in writer.end():
                await _write(stream, piece)
        return count

    async def _import(self, stream: BinaryIO, options: dict[str, Any]) -> ImportDatabaseResult:
        chosen = read_options(options)
        with engine_errors_here():
            job = await in_thread(Importing, stream, chosen)
            groups = job.groups()
            while (group := await in_thread(next, groups, None)) is not None:
                if len(group) > 1 and not chosen.dry_run:
                    await self._write_together(job, group)
                    continue
                waiting = group[::-1]
                while waiting:
                    batch = waiting.pop()
                    waiting += reversed(await self._write(job, batch) if not chosen.dry_run else job.done(batch))
        return job.result

    async def _write_together(self, job: Importing, group: list[Batch]) -> None:
        batches = [(batch.collection, batch.documents) for batch in group]
        found, failure = await self[group[0].collection].run(packed_inserts.insert_batches(self._scope, self.name, batches))
        for batch, errors in zip(group, found):
            job.written(batch, errors)
        if failure is not None:
            raise failure

    async def _write(self, job: Importing, batch: Batch) -> tuple[Batch, ...]:
        """Write one batch; gives what is to be written instead of it."""
        into, writes = self[batch.collection], job.writes(batch)
        try:
            if writes is None:
                await into.insert_many(batch.documents, ordered=False)
                return job.done(batch)
            result = await into.bulk_write(writes, ordered=False)
            return job.done(batch, result.matched_count + result.upserted_count + result.inserted_count)
        except BulkWriteError as error:
            job.failed(batch, error)
        except InvalidDocument as error:
            return job.cannot_encode(batch, error)
        return ()


async def _packed(cursor: AsyncCursor) -> AsyncIterator[Sequence[bytes]]:
    """All documents of a cursor, as they are stored, some at a time."""
    cursor.batch_size(READ_DOCUMENTS)
    while batch := await cursor.next_packed():
        for start in range(0, len(batch), SLICE_DOCUMENTS):
            yield batch[start : start + SLICE_DOCUMENTS]  # type: ignore[misc]


async def _write(stream: BinaryIO, data: bytes) -> None:
    if data:
        await in_thread(stream.write, data)

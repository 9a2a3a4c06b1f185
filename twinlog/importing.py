"""An import as its faces carry it out: which documents go together, and what became of them. Knows no connection.

    stream ── storage.exchange ──> items ──> batches of one collection, in groups ── the face writes each ──> done() ──> ImportDatabaseResult

A bad line, or a document that the database refuses, is noted with its line and its reason, and the others go in; with stop_on_error it
ends the import, and what was written before it stays. Memory: HELD_BYTES_MAX of text as documents, a group and what is read ahead of it, one long document, and
BAD_MAX notes. Documents that are inserted go as they are stored (Packed); the other modes look into them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from bson import ObjectId

from storage.exchange import BadLine, Export, Format, Item, Packed, Packing, format_of, packed, read_zip

from .errors import BulkWriteError, ConfigurationError, InvalidDocument
from .verbs import bulk_details
from .writes import InsertOne, ReplaceOne, Write

BATCH_SIZE = 1_000
BATCH_SIZE_MAX = 100_000
GROUP_BATCHES_MAX, GROUP_BYTES_MAX = 30, 8 * 2**20  # written together
AHEAD_BYTES_MAX = 2 * 2**20  # of text that is read while what came before is written
HELD_BYTES_MAX = 16 * 2**20  # of text that was read and is not written yet, but always one document
COLLECTIONS_AT_ONCE = 64
SPOOL_BYTES = 2**20
FLUSH_INTERVAL = 50_000
FLUSH_INTERVAL_MIN, FLUSH_INTERVAL_MAX = 5_000, 600_000
BAD_MAX = 1_000  # notes kept in a result; further ones are counted only, and told to on_bad
MODES = ("insert", "upsert", "replace")

OnBad = Callable[[str, int, str], object]  # collection or "", line, reason
ReadAhead = Callable[[Iterator[Item], Callable[[], int]], Iterator[Item]]  # given also how many bytes were read


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How to import. The defaults are the reference's.

    format: told by the stream's first bytes when None. keep_ids: documents keep their `_id`; otherwise each gets a new one. batch_size:
    documents in one write. flush_interval: after at most so many documents what was written is durable at the node's own level; it always is
    after each batch, so the bound holds by itself.
    mode: insert refuses an `_id` that is there; upsert puts the document in its place; replace does so and refuses one that is not there.
    dry_run: read and check everything, write nothing. collection: where everything goes, whatever the stream says;
    default_collection: where that goes of which it says nothing. on_bad: told about
    each that is left out; on_batch: given the result as it stands, after each batch."""

    format: str | Format | None = None
    keep_ids: bool = False
    batch_size: int = BATCH_SIZE
    flush_interval: int = FLUSH_INTERVAL
    mode: str = "insert"
    stop_on_error: bool = False
    dry_run: bool = False
    collection: str | None = None
    default_collection: str | None = None
    on_bad: OnBad | None = None
    on_batch: Callable[[ImportDatabaseResult], object] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= BATCH_SIZE_MAX:
            raise ConfigurationError(f"batch_size={self.batch_size}: 1 to {BATCH_SIZE_MAX}")
        if not FLUSH_INTERVAL_MIN <= self.flush_interval <= FLUSH_INTERVAL_MAX:
            raise ConfigurationError(f"flush_interval={self.flush_interval}: {FLUSH_INTERVAL_MIN} to {FLUSH_INTERVAL_MAX} documents")
        if self.mode not in MODES:
            raise ConfigurationError(f"mode={self.mode!r}: {', '.join(MODES)}")
        if self.mode != "insert" and not self.keep_ids:
            raise ConfigurationError(f"mode={self.mode!r} finds documents by their _id: it needs keep_ids=True")

    @property
    def hint(self) -> Format | None:
        return format_of(self.format) if isinstance(self.format, str) else self.format


@dataclass(slots=True)
class ImportCollectionResult:
    """What became of one collection's documents."""

    collection: str
    inserted: int = 0  # inserted or put in place
    errors: int = 0


@dataclass(slots=True)
class ImportDatabaseResult:
    """What became of an import. bad: (collection or "", line, reason) of the first of those that were left out."""

    format: str
    total_inserted: int = 0
    total_errors: int = 0
    collections: dict[str, ImportCollectionResult] = field(default_factory=dict)
    bad: list[tuple[str, int, str]] = field(default_factory=list)
    stopped: bool = False  # by stop_on_error


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents of one collection that are written together; lines[i] is where documents[i] stood."""

    collection: str
    documents: list[dict[str, Any] | bytes]  # bytes: as it is stored
    lines: list[int]

    @property
    def is_packed(self) -> bool:
        return dict not in set(map(type, self.documents))

    def halves(self) -> tuple[Batch, Batch]:
        middle = len(self.documents) // 2
        return (
            Batch(self.collection, self.documents[:middle], self.lines[:middle]),
            Batch(self.collection, self.documents[middle:], self.lines[middle:]),
        )


class Importing:
    """One import. The face writes what groups() gives, one after the other, and tells done() or failed() about each batch."""

    def __init__(self, stream: BinaryIO, options: ImportOptions, ahead: ReadAhead | None = None) -> None:
        """ahead: how the stream is read while something else is done."""
        self._options = options
        self._ahead = ahead
        self._packing = Packing(options.keep_ids) if options.mode == "insert" else None  # the others look at documents
        self._read = _Counted(stream)
        self._export = Export(self._read, options.hint, packing=self._packing)  # type: ignore[arg-type]
        self._is_archive = self._export.format is Format.ZIP
        self.result = ImportDatabaseResult(self._export.format.value)
        self._stream = stream
        self._pending: dict[str, Batch] = {}
        self._began_at = 0  # bytes read when the oldest pending batch began, or before

    def batches(self) -> Iterator[Batch]:
        """Raises BadDocument for an archive that cannot be opened."""
        for name, line, found in self._items():
            if self.result.stopped:
                return
            target = self._options.collection or name or self._options.default_collection
            if isinstance(found, BadLine):
                self.refuse(target or "", line, found.reason)
            elif target is None:
                for number in found.lines if isinstance(found, Packed) else (line,):
                    if not self.result.stopped:
                        self.refuse("", number, "nothing says which collection it belongs to: name one")
            elif isinstance(found, Packed):
                yield from self._add_packed(target, found)
            else:
                yield from self._add(target, line, found)
        for batch in self._all_pending():
            if self.result.stopped:
                return
            yield batch

    def groups(self) -> Iterator[list[Batch]]:
        """The same, some of them together: those that can be written without an answer to the one before, and so with fewer requests. Whoever asks for
        smaller batches than the usual gets them one by one."""
        options = self._options
        may_join = options.mode == "insert" and options.batch_size >= BATCH_SIZE and not options.stop_on_error
        group: list[Batch] = []
        size = 0
        failure: Exception | None = None
        try:
            for batch in self.batches():
                together = may_join and batch.is_packed
                if group and not together:
                    yield group
                    group, size = [], 0
                group.append(batch)
                size += sum(map(len, batch.documents)) if together else 0
                if not together or len(group) >= GROUP_BATCHES_MAX or size >= GROUP_BYTES_MAX:
                    yield group
                    group, size = [], 0
        except Exception as error:  # noqa: BLE001 - raised below: what was read before it is written
            failure = error
        if group:
            yield group
        if failure is not None:
            raise failure

    def _items(self) -> Iterator[Item]:
        if self._is_archive:
            return read_zip(self._seekable())
        items = self._export.items()
        return items if self._ahead is None else self._ahead(items, lambda: self._read.bytes)

    def _seekable(self) -> BinaryIO:
        """The archive as a file; what comes from a pipe goes to a temporary one first, since an archive's list stands at its end."""
        if self._stream.seekable():
            return self._stream
        spool: Any = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - read until the import ends, and gone with it
        while data := self._export.stream.read(SPOOL_BYTES):
            spool.write(data)
        return spool

    def _add(self, name: str, line: int, document: dict[str, Any]) -> Iterator[Batch]:
        if not self._options.keep_ids:
            document = {"_id": ObjectId(), **{key: value for key, value in document.items() if key != "_id"}}
        elif self._packing is not None and "_id" not in document:
            document = {"_id": ObjectId(), **document}
        data = packed(document) if self._packing is not None and not self._options.dry_run else None
        yield from self._add_some(name, [document if data is None else data], [line])

    def _add_packed(self, name: str, found: Packed) -> Iterator[Batch]:
        start, count = 0, len(found.documents)
        while start < count and not self.result.stopped:
            pending = self._pending.get(name)
            end = start + self._options.batch_size - (len(pending.documents) if pending is not None else 0)
            yield from self._add_some(name, found.documents[start:end], found.lines[start:end])
            start = end

    def _add_some(self, name: str, documents: Sequence[dict[str, Any] | bytes], lines: Sequence[int]) -> Iterator[Batch]:
        """No more than the batch has room for."""
        batch = self._pending.get(name)
        if batch is None:
            if len(self._pending) >= COLLECTIONS_AT_ONCE or self._read.bytes - self._began_at > HELD_BYTES_MAX:
                yield from self._all_pending()
            batch = self._pending[name] = Batch(name, [], [])
            self._of(name)
        batch.documents.extend(documents)
        batch.lines.extend(lines)
        if len(batch.documents) >= self._options.batch_size:
            yield self._pending.pop(name)
        elif self._read.bytes - self._began_at > HELD_BYTES_MAX:
            yield from self._all_pending()

    def _all_pending(self) -> Iterator[Batch]:
        pending, self._pending, self._began_at = self._pending, {}, self._read.bytes
        yield from pending.values()

    def writes(self, batch: Batch) -> list[Write] | None:
        """What to write in a mode other than insert; None: insert the documents."""
        mode = self._options.mode
        if mode == "insert":
            return None
        return [
            ReplaceOne({"_id": document["_id"]}, document, upsert=mode == "upsert") if "_id" in document else InsertOne(document)
            for document in batch.documents
        ]

    def done(self, batch: Batch, matched: int | None = None) -> tuple[Batch, ...]:
        """The batch was written. matched: of replacements, how many found what to replace; to learn which did not, halves of the batch are
        given, to be written again: a replacement may be repeated."""
        if matched is None or matched == len(batch.documents):
            self._count(batch.collection, len(batch.documents))
        elif len(batch.documents) > 1:
            return batch.halves()
        else:
            self.refuse(batch.collection, batch.lines[0], f"there is no document with _id {batch.documents[0]['_id']!r} to replace")
        return ()

    def failed(self, batch: Batch, error: BulkWriteError) -> None:
        """Some of the batch was refused, the others were written."""
        details = error.details or {}
        refused = details.get("writeErrors", [])
        self._count(batch.collection, len(batch.documents) - len(refused))
        for one in refused:
            self.refuse(batch.collection, batch.lines[one["index"]], one["errmsg"])

    def written(self, batch: Batch, errors: list[dict[str, Any]]) -> None:
        """The batch was written but for those that errors name."""
        if errors:
            self.failed(batch, BulkWriteError(bulk_details(errors)))
        else:
            self.done(batch)

    def cannot_encode(self, batch: Batch, error: InvalidDocument) -> tuple[Batch, ...]:
        """One document of the batch is none that can be sent: what is to be written instead. Without its index, halves find it."""
        details = error.details or {}
        at = details.get("index", 0 if len(batch.documents) == 1 else None)
        if at is None:
            return batch.halves()
        written = details.get("nInserted", 0)
        self._count(batch.collection, written)
        self.refuse(batch.collection, batch.lines[at], str(error))
        left = [number for number in range(written, len(batch.documents)) if number != at]
        if not left:
            return ()
        return (Batch(batch.collection, [batch.documents[number] for number in left], [batch.lines[number] for number in left]),)

    def refuse(self, collection: str, line: int, reason: str, count: int = 1) -> None:
        result = self.result
        result.total_errors += count
        if collection:
            self._of(collection).errors += count
        if len(result.bad) < BAD_MAX:
            result.bad.append((collection, line, reason))
        if self._options.on_bad is not None:
            self._options.on_bad(collection, line, reason)
        result.stopped = result.stopped or self._options.stop_on_error

    def _count(self, collection: str, count: int) -> None:
        self._of(collection).inserted += count
        self.result.total_inserted += count
        if self._options.on_batch is not None:
            self._options.on_batch(self.result)

    def _of(self, collection: str) -> ImportCollectionResult:
        return self.result.collections.setdefault(collection, ImportCollectionResult(collection))


class _Counted:
    """A stream that knows how many bytes were read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.bytes += len(data)
        return data


def one_collection(result: ImportDatabaseResult, collection: str) -> ImportCollectionResult:
    """The result of an import into one collection: bad lines that named none count for it."""
    return ImportCollectionResult(collection, result.total_inserted, result.total_errors)


def read_options(options: Mapping[str, Any]) -> ImportOptions:
    """Raises ConfigurationError for one that is not there."""
    try:
        return ImportOptions(**options)
    except TypeError as error:
        names = ", ".join(ImportOptions.__slots__)
        raise ConfigurationError(f"{error}; the options of an import are {names}") from None

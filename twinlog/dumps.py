"""mongodump's directories of the blocking client: what a Database has of them. The formats are storage.exchange's.

A dump is a file of BSON and one of metadata for each collection. Reading one creates its declared indexes after its documents, as
mongorestore does; what an index asks for and is not known here is named, and the rest goes in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from storage import exchange
from storage.exchange import Format

from .engine_errors import engine_errors_here
from .errors import InvalidDocument, InvalidName, OperationFailure, TwinlogError
from .files import PACKED, reading, writing
from .importing import ImportCollectionResult, ImportDatabaseResult

if TYPE_CHECKING:
    from .collection import Collection


@dataclass(slots=True)
class ImportDumpResult:
    """What became of a dump. collections by name; indexes: names created, by collection; left_out: (collection, index, reason)."""

    collections: dict[str, ImportCollectionResult] = field(default_factory=dict)
    indexes: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    bad: list[tuple[str, int, str]] = field(default_factory=list)
    total_inserted: int = 0
    total_errors: int = 0


@dataclass(frozen=True, slots=True)
class DumpedCollection:
    """One collection of a dump: its files. metadata: None when there is none."""

    name: str
    documents: Path
    metadata: Path | None


class Dumps:
    """The verbs, over `self[name]`, `self.list_collection_names()` and the transfers."""

    if TYPE_CHECKING:
        name: str

        def __getitem__(self, name: str) -> Collection: ...
        def list_collection_names(self) -> list[str]: ...
        def export_collection(self, stream: BinaryIO, collection: str, format: str | Format = Format.JSONL) -> int: ...
        def import_database(self, stream: BinaryIO, **options: Any) -> ImportDatabaseResult: ...

    def export_dump(self, directory: str | os.PathLike[str], *, collections: Sequence[str] = (), packed: bool = False) -> dict[str, int]:
        """Write <directory>/<this database>/<collection>.bson and .metadata.json of several collections, by default all; how many documents of each.
        packed: with .gz, as mongodump --gzip. Raises FileExistsError for a file that is there, InvalidDocument for what BSON cannot hold."""
        below = Path(directory) / exchange.dump.file_stem(self.name)
        below.mkdir(parents=True, exist_ok=True)
        ending = PACKED[0] if packed else ""
        counts = {}
        for name in sorted(collections) or self.list_collection_names():
            stem = exchange.dump.file_stem(name)
            indexes = list(self[name].list_indexes())
            with engine_errors_here(), writing(below / f"{stem}{exchange.dump.METADATA}{ending}") as stream:
                stream.write(exchange.dump.metadata(name, indexes))
            with writing(below / f"{stem}{exchange.dump.DOCUMENTS}{ending}") as stream:
                counts[name] = self.export_collection(stream, name, Format.BSON)
        return counts

    def import_dump(self, directory: str | os.PathLike[str], *, collections: Sequence[str] = (), **options: Any) -> ImportDumpResult:
        """Read a dump directory, or that of one database in it, into this database: documents, then indexes. options: those of importing.ImportOptions;
        documents keep their `_id` unless told otherwise. Raises InvalidName for a directory that is none."""
        result = ImportDumpResult()
        for one in find_dumped(directory, self.name, collections):
            with reading(one.documents) as stream:
                read = self.import_database(stream, **{"keep_ids": True, **options, "format": Format.BSON, "collection": one.name})
            _add(result, one.name, read)
            if read.stopped:
                break
            if one.metadata is not None and not options.get("dry_run"):
                self._create_dumped(one, result)
        return result

    def _create_dumped(self, one: DumpedCollection, result: ImportDumpResult) -> None:
        for index in read_indexes(one):
            name = str(index.options.get("name", ""))
            try:
                made = self[one.name].create_index(list(index.keys), **index.options)
                result.indexes.setdefault(one.name, []).append(made)
            except (OperationFailure, InvalidDocument, TypeError, ValueError) as error:
                result.left_out.append((one.name, name, error.message if isinstance(error, TwinlogError) else str(error)))


def find_dumped(directory: str | os.PathLike[str], database: str, collections: Sequence[str]) -> Iterator[DumpedCollection]:
    """The collections of a dump, by name. Raises InvalidName when there are none, or not those that were asked for."""
    below = _database_directory(Path(directory), database)
    files = {name: file for file in sorted(below.iterdir()) if file.is_file() and (name := exchange.dump.collection_of(file.name)) is not None}
    for name in collections:
        if name not in files:
            raise InvalidName(f"{below} holds no collection {name!r}; it holds {', '.join(files) or 'none'}")
    for name, file in files.items():
        if not collections or name in collections:
            stem = file.name.removesuffix(exchange.dump.PACKED).removesuffix(exchange.dump.DOCUMENTS)
            known = [below / f"{stem}{exchange.dump.METADATA}{ending}" for ending in ("", exchange.dump.PACKED)]
            yield DumpedCollection(name, file, next(filter(Path.is_file, known), None))


def _database_directory(directory: Path, database: str) -> Path:
    """Where its files are: here, or in the one below it that is named so or is alone."""
    if not directory.is_dir():
        raise InvalidName(f"{directory} is no directory: name the one that mongodump wrote")
    if any(exchange.dump.collection_of(file.name) is not None and file.is_file() for file in directory.iterdir()):
        return directory
    inner = sorted(one for one in directory.iterdir() if one.is_dir())
    named = [one for one in inner if one.name == exchange.dump.file_stem(database)]
    if len(named or inner) != 1:
        names = ", ".join(one.name for one in inner) or "nothing"
        raise InvalidName(f"{directory} holds the dump of no database {database!r} but {names}: name the directory of one of them")
    return (named or inner)[0]


def read_indexes(one: DumpedCollection) -> list[exchange.dump.DumpedIndex]:
    """Raises InvalidDocument for a metadata file that is none."""
    assert one.metadata is not None, "asked for what is there"
    with engine_errors_here(), reading(one.metadata) as stream:
        return exchange.dump.indexes_of(stream.read(), str(one.metadata))


def _add(result: ImportDumpResult, name: str, read: ImportDatabaseResult) -> None:
    result.collections[name] = ImportCollectionResult(name, read.total_inserted, read.total_errors)
    result.total_inserted += read.total_inserted
    result.total_errors += read.total_errors
    result.bad += read.bad

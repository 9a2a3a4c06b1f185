"""open_kv(): a key-value store in one line, with SKV's functions, over the same engine and with its guarantees.

    with twinlog.open_kv("mydata") as kv:
        kv.put("username", "alice")
        kv.get_string("username")
        kv.backup("backup.json")

Keys and values are bytes; text given is its UTF-8. A key is one document {"_id": key, "value": value} of the collection `kv` in the database
`kv`, text where the bytes are UTF-8 and binary where they are not, so that every other verb of Twinlog reads the same data. put() makes a new key
and update() changes one that is there, as SKV's do; kv[key] = value does either. The JSON of backup() is SKV's, byte for byte
(storage.exchange.skv), written and read in constant memory; names ending in .gz or .zst are packed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from storage.exchange import BadLine, Export, Format, as_text

from .client import Client
from .collection import Collection
from .connecting import connect
from .database import Database
from .embedded import open as open_embedded
from .engine_errors import engine_errors_here
from .errors import DuplicateKeyError, InvalidName, KeyExists, KeyNotFound, OperationFailure
from .files import PACKED, reading, writing
from .writes import ReplaceOne

DATABASE = COLLECTION = "kv"
LONG_S = 86_400.0  # how long a backup may read one state
RESTORE_KEYS = 1_000  # written at a time
BACKUP_NAME = re.compile(r"backup_\d{4}-\d{2}-\d{2}_\d{6}(_\d+)?\.json(\.gz|\.zst)?")
Text = bytes | str


@dataclass(frozen=True, slots=True)
class KvStats:
    """What verify() says. Sizes in bytes; shares in per cent.

    active_records: keys that are there; data_size: their keys and values; file_size: of every file that was read. damaged: what does
    not match its checksum and could not be repaired; findings: everything that the pass noted.
    """

    active_records: int
    file_size: int
    data_size: int
    average_key_size: float
    average_data_size: float
    damaged: tuple[str, ...]
    findings: tuple[str, ...]

    @property
    def efficiency(self) -> float:
        """The share of the files that keys and values take."""
        return 100.0 * self.data_size / self.file_size if self.file_size else 100.0

    @property
    def wasted_percent(self) -> float:
        return max(0.0, 100.0 - self.efficiency)


def open_kv(path: str | os.PathLike[str], **options: Any) -> KeyValueStore:
    """Open the store below a directory, which is made if need be; ":memory:" keeps it in memory; a twinlog:// URL is a cluster's.

    options: those of open() or connect(). Raises OperationFailure naming what is damaged: then open another directory and restore() a backup.
    """
    if "://" in os.fspath(path):
        return KeyValueStore(connect(os.fspath(path), **options))
    client = open_embedded(path, **{"transaction_time_limit_s": LONG_S, "view_age_s": LONG_S, **options})
    problem = client.status().get("unopened", {}).get(DATABASE)
    if problem is not None:
        client.close()
        raise OperationFailure(f"the store in {os.fspath(path)} is damaged: {problem}; open a new directory and restore a backup into it")
    return KeyValueStore(client)


class KeyValueStore:
    """A store that is open. Safe to share between threads. Close it, or use it as a context manager."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.database: Database = client[DATABASE]
        self._kv: Collection = self.database[COLLECTION]

    # One key.

    def put(self, key: Text, value: Text) -> None:
        """Store a new key. Raises KeyExists when it is there: update() changes it."""
        try:
            self._kv.insert_one(_record(key, value))
        except DuplicateKeyError as error:
            raise KeyExists(f"the key {key!r} exists: update() changes it") from error

    def update(self, key: Text, value: Text) -> None:
        """Change a key that is there. Raises KeyNotFound."""
        record = _record(key, value)
        if not self._kv.replace_one({"_id": record["_id"]}, record).matched_count:
            raise _not_found(key)

    def get(self, key: Text) -> bytes:
        """Raises KeyNotFound."""
        found = self._kv.find_one({"_id": _key(key)})
        if found is None:
            raise _not_found(key)
        return _bytes(found["value"])

    def get_or_default(self, key: Text, default: Text = b"") -> bytes:
        try:
            return self.get(key)
        except KeyNotFound:
            return _bytes(default)

    def delete(self, key: Text) -> None:
        """Raises KeyNotFound."""
        if not self._kv.delete_one({"_id": _key(key)}).deleted_count:
            raise _not_found(key)

    def exists(self, key: Text) -> bool:
        return self._kv.find_one({"_id": _key(key)}, {"_id": 1}) is not None

    has = exists

    # All of them, or several.

    def keys(self) -> list[bytes]:
        """Every key, in the order of its bytes. Memory: all of them."""
        return sorted(_bytes(found["_id"]) for found in self._kv.find({}, {"_id": 1}))

    def count(self) -> int:
        return self._kv.count_documents({})

    def for_each(self, work: Callable[[bytes, bytes], object]) -> None:
        """work(key, value) for every key of one state; what it raises ends it."""
        for key, value in self.items():
            work(key, value)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) of one state, in no order, in constant memory."""
        for found in self._kv.find():
            yield _bytes(found["_id"]), _bytes(found["value"])

    def put_batch(self, items: Mapping[Text, Text]) -> None:
        """Store new keys, all or none of them: at most 5,000 and 16 MiB. Raises KeyExists, TransactionTooLarge."""
        records = [_record(key, value) for key, value in items.items()]
        if not records:
            return

        def work(tx: Any) -> None:
            taken = tx[COLLECTION].find_one({"_id": {"$in": [record["_id"] for record in records]}}, {"_id": 1})
            if taken is not None:
                raise KeyExists(f"the key {taken['_id']!r} exists: nothing of the batch was stored")
            tx[COLLECTION].insert_many(records)

        self.database.run_transaction(work)

    def get_batch(self, keys: Iterable[Text]) -> dict[bytes, bytes]:
        """Those of the keys that are there."""
        found = self._kv.find({"_id": {"$in": [_key(key) for key in keys]}})
        return {_bytes(one["_id"]): _bytes(one["value"]) for one in found}

    def clear(self) -> None:
        """Remove every key."""
        self._kv.drop()

    # Text: the same, and answers are decoded. A value that is no UTF-8 raises UnicodeDecodeError: get() gives its bytes.

    def put_string(self, key: str, value: str) -> None:
        self.put(key, value)

    def update_string(self, key: str, value: str) -> None:
        self.update(key, value)

    def get_string(self, key: str) -> str:
        return self.get(key).decode()

    def get_or_default_string(self, key: str, default: str = "") -> str:
        return self.get_or_default(key, default).decode()

    def delete_string(self, key: str) -> None:
        self.delete(key)

    def exists_string(self, key: str) -> bool:
        return self.exists(key)

    has_string = exists_string

    def keys_string(self) -> list[str]:
        return [key.decode() for key in self.keys()]

    def for_each_string(self, work: Callable[[str, str], object]) -> None:
        self.for_each(lambda key, value: work(key.decode(), value.decode()))

    def put_batch_string(self, items: Mapping[str, str]) -> None:
        self.put_batch(items)  # type: ignore[arg-type]

    def get_batch_string(self, keys: Iterable[str]) -> dict[str, str]:
        return {key.decode(): value.decode() for key, value in self.get_batch(keys).items()}

    # Files as values, up to the 16 MiB of a document.

    def put_file(self, key: Text, file: str | os.PathLike[str]) -> None:
        self.put(key, Path(file).read_bytes())

    def update_file(self, key: Text, file: str | os.PathLike[str]) -> None:
        self.update(key, Path(file).read_bytes())

    def get_file(self, key: Text, file: str | os.PathLike[str]) -> None:
        """Write the value to a new file. Raises KeyNotFound, FileExistsError."""
        value = self.get(key)
        with Path(file).open("xb") as stream:
            stream.write(value)

    # Care.

    def compact(self) -> dict[str, Any]:
        """Rewrite the files without what is stale; {before, after: bytes, seconds, ...}. Reads and writes go on."""
        return self.database.compact()

    def verify(self) -> KvStats:
        """Hold every byte against its checksum, repair what can be, and count."""
        report = self.database.scrub()
        records = keys = values = 0
        for key, value in self.items():
            records, keys, values = records + 1, keys + len(key), values + len(value)
        return KvStats(
            active_records=records,
            file_size=int(report["bytes"]),
            data_size=keys + values,
            average_key_size=keys / records if records else 0.0,
            average_data_size=values / records if records else 0.0,
            damaged=tuple(str(one) for one in report.get("damaged", ())),
            findings=tuple(str(one) for one in report.get("findings", ())),
        )

    def backup(self, file: str | os.PathLike[str]) -> int:
        """Write every key of one state to a new file as SKV's JSON; returns how many. Raises FileExistsError."""
        with writing(file) as stream:
            return self.database.export_collection(stream, COLLECTION, Format.SKV)

    def backup_now(self, directory: str | os.PathLike[str], *, keep: int = 0, packing: str = "") -> Path:
        """backup() to directory/backup_YYYY-MM-DD_HHMMSS.json (UTC; packing: ".gz" or ".zst"). keep: of backups of this form in the directory
        only so many newest stay; 0: all. Older ones go once the new one is whole."""
        if packing not in ("", *PACKED):
            raise InvalidName(f"packing={packing!r}: '.gz', '.zst' or ''")
        if keep < 0:
            raise InvalidName(f"keep={keep}: 0, for all of them, or more")
        below = Path(directory)
        below.mkdir(parents=True, exist_ok=True)
        made = _free_name(below, datetime.now(UTC).strftime("backup_%Y-%m-%d_%H%M%S"), f".json{packing}")
        self.backup(made)
        if keep:
            for old in sorted(found for found in below.iterdir() if BACKUP_NAME.fullmatch(found.name))[:-keep]:
                old.unlink()
        return made

    def restore(self, file: str | os.PathLike[str]) -> int:
        """Put every key of a backup in place; keys that it does not have stay. Returns how many.

        The whole file is read and checked first: of a damaged one nothing is written. Raises OSError, BadPackedFile, OperationFailure."""
        total = sum(len(batch) for batch in _batches(file))  # of what is damaged nothing is written
        for batch in _batches(file):
            self._kv.bulk_write([ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in batch], ordered=False)
        return total

    def verify_restore(self, file: str | os.PathLike[str]) -> list[bytes]:
        """The keys of a backup whose values are not those that are here; empty after a restore()."""
        differing = []
        for batch in _batches(file):
            here = self.get_batch(one["_id"] for one in batch)
            differing += [key for one in batch if here.get(key := _bytes(one["_id"])) != _bytes(one["value"])]
        return differing

    # The end, and Python's own ways.

    def close(self) -> None:
        self.client.close()

    def close_with_compact(self) -> None:
        """compact(), then close()."""
        try:
            if self.database.list_collection_names():
                self.compact()
        finally:
            self.close()

    def __enter__(self) -> KeyValueStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __getitem__(self, key: Text) -> bytes:
        return self.get(key)

    def __setitem__(self, key: Text, value: Text) -> None:
        record = _record(key, value)
        self._kv.replace_one({"_id": record["_id"]}, record, upsert=True)

    def __delitem__(self, key: Text) -> None:
        self.delete(key)

    def __contains__(self, key: Text) -> bool:
        return self.exists(key)

    def __len__(self) -> int:
        return self.count()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.keys())


def _key(key: Text) -> Text:
    """Raises InvalidName for an empty one."""
    if not isinstance(key, (bytes, bytearray, str)):
        raise InvalidName(f"a key is bytes or text, not {type(key).__name__}")
    if not key:
        raise InvalidName("a key must not be empty")
    return as_text(bytes(key) if isinstance(key, bytearray) else key)


def _record(key: Text, value: Text) -> dict[str, Any]:
    if not isinstance(value, (bytes, bytearray, str)):
        raise InvalidName(f"a value is bytes or text, not {type(value).__name__}")
    return {"_id": _key(key), "value": as_text(bytes(value) if isinstance(value, bytearray) else value)}


def _bytes(stored: Text) -> bytes:
    return stored.encode() if isinstance(stored, str) else bytes(stored)


def _not_found(key: Text) -> KeyNotFound:
    return KeyNotFound(f"there is no key {key!r}")


def _free_name(directory: Path, stem: str, ending: str) -> Path:
    """Two in one second do not collide."""
    number, found = 1, directory / f"{stem}{ending}"
    while os.path.lexists(found):
        number += 1
        found = directory / f"{stem}_{number}{ending}"
    return found


def _batches(file: str | os.PathLike[str]) -> Iterator[list[dict[str, Any]]]:
    """The records of a backup. Raises OperationFailure for the first that is none, and for a file that is no backup."""
    batch: list[dict[str, Any]] = []
    with engine_errors_here(), reading(file) as stream:
        backup, total = Export(stream, Format.SKV), 0
        for _, line, found in backup.items():
            if isinstance(found, BadLine):
                raise OperationFailure(f"{os.fspath(file)}, record {line}: {found.reason}; nothing was changed")
            batch.append(found)
            total += 1
            if len(batch) >= RESTORE_KEYS:
                yield batch
                batch = []
        if backup.header.get("total_records") != total:
            raise OperationFailure(
                f"{os.fspath(file)} says total_records {backup.header.get('total_records')!r} and holds {total}; nothing was changed"
            )
    if batch:
        yield batch

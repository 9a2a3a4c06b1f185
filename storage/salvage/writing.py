"""Making the entry of a rewind, in staging: everything is there and synced when it returns, and nothing has been cut (INV-7).

Blocking; memory as divergence.py says, and a buffer for each file of lines. Whoever calls gives the entry its name once the
intent to cut is on the disk, and throws the staging away when there is none.
"""

from __future__ import annotations

from ..catalog import HIDDEN
from ..commit.anew import without_reserve
from ..commit.codec import PUT, Head, Record, decode_head
from ..commit.scan import is_reserved, list_segments
from ..commit.segment import HEADER_BYTES
from ..disk import Disk, File
from ..errors import BadDocument, DamagedRecord
from ..identity import Identity
from ..values.documents import decode
from ..values.key_values import value_of
from .divergence import Divergence, is_write
from .entry import (
    CHANGES_MAX,
    DELETE,
    DELETIONS,
    DIRECTORY,
    DOCUMENTS,
    IDS_MAX,
    LOG,
    MANIFEST,
    STAGING,
    SUPERSEDED,
    WRITE,
    CollectionCut,
    Line,
    Manifest,
    header_line,
    id_json,
    time_text,
)

BUFFER_BYTES = 2**20


def staging_of(directory: str) -> str:
    return f"{directory}/{DIRECTORY}/{STAGING}"


def discard_staging(disk: Disk, directory: str) -> None:
    """What an earlier try left: it was never named, and all of it still stands in the log."""
    if disk.exists(staging_of(directory)):
        disk.remove_tree(staging_of(directory))


def write_entry(disk: Disk, directory: str, identity: Identity, divergence: Divergence, now_us: int) -> Manifest | None:
    """None, and nothing is there, when the log has nothing after the point. OSError leaves a part of it in staging."""
    discard_staging(disk, directory)
    staging = staging_of(directory)
    disk.make_dir(f"{staging}/{LOG}")
    log_bytes = _keep_log(disk, directory, staging, divergence.to_seq)
    if not log_bytes:
        disk.remove_tree(staging)
        return None
    lines = _Lines(disk, staging, directory.rpartition("/")[2], divergence, now_us)
    try:
        lines.write_all()
    finally:
        lines.close()
    manifest = lines.manifest(identity, log_bytes)
    disk.replace_file(f"{staging}/{MANIFEST}", manifest.encode())
    for path in (f"{staging}/{LOG}", staging, f"{directory}/{DIRECTORY}", directory):
        disk.sync_dir(path)
    return manifest


def end_of_commits(data: bytes, to_seq: int) -> int:
    """Where the commits up to to_seq end in a segment's bytes."""
    offset = HEADER_BYTES
    try:
        while (head := decode_head(data, offset)) is not None:
            if head.seq > to_seq or offset + head.frame_len > len(data):
                return offset
            offset += head.frame_len
    except DamagedRecord:
        return offset
    return offset


def _keep_log(disk: Disk, directory: str, staging: str, to_seq: int) -> int:
    """Every segment with something after to_seq, one at a time. Returns their bytes."""
    total = 0
    for path, name in list_segments(disk, directory):
        data = disk.read_file(path)
        if is_reserved(data, end_of_commits(data, to_seq)):
            continue
        kept = without_reserve(data)
        file = disk.create(f"{staging}/{LOG}/{name}")
        try:
            file.append(kept)
            file.sync()
        finally:
            file.close()
        total += len(kept)
    return total


class _Lines:
    """The files of lines of one entry, and what the manifest says of them."""

    def __init__(self, disk: Disk, staging: str, database: str, divergence: Divergence, now_us: int) -> None:
        self._disk, self._staging, self._database = disk, staging, database
        self._divergence, self._now_us = divergence, now_us
        self._names = divergence.survey.names
        self._files: dict[str, File] = {}
        self._buffers: dict[str, list[bytes]] = {}
        self._held: dict[str, int] = {}
        self._counts = dict.fromkeys((DOCUMENTS, DELETIONS, SUPERSEDED), 0)
        self._collections: dict[str, CollectionCut] = {}
        self._ids_left_out = 0
        self._unreadable = 0
        self._why = ""  # of the first
        self._ids = 0

    def write_all(self) -> None:
        newest = self._divergence.newest()
        self._begin(DOCUMENTS)
        number = 0
        for head, records in self._divergence.commits():
            for record in records:
                if not is_write(record):
                    continue
                is_newest = newest[number >> 3] >> (number & 7) & 1
                number += 1
                name = self._names.get(record.collection)
                if name is not None and not name.startswith(HIDDEN):
                    self._take(name, head, record, is_newest=bool(is_newest))
        for file in list(self._files):
            self._flush(file)
            self._files[file].sync()

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _take(self, name: str, head: Head, record: Record, *, is_newest: bool) -> None:
        is_put = record.op == PUT
        try:
            doc = decode(record.doc) if is_put else None
            value = doc["_id"] if doc is not None else value_of(record.id)
        except (BadDocument, DamagedRecord, KeyError) as error:  # nothing may keep a node from rejoining; the log in the entry has the bytes
            self._unreadable += 1
            self._why = self._why or f"commit {head.seq} has a write in {name!r} that is no document: {error}"
            return
        file = SUPERSEDED if not is_newest else DOCUMENTS if is_put else DELETIONS
        line = Line(name, WRITE if is_put else DELETE, head.epoch, head.seq, time_text(head.time_us), value, doc)
        self._add(file, line.encode())
        self._counts[file] += 1
        if not is_newest:
            return
        cut = self._collections.setdefault(name, CollectionCut())
        if is_put:
            cut.written += 1
        else:
            cut.deleted += 1
        if self._ids < IDS_MAX:
            self._ids += 1
            (cut.written_ids if is_put else cut.deleted_ids).append(id_json(value))
        else:
            self._ids_left_out += 1

    def _begin(self, file: str) -> None:
        self._files[file] = self._disk.create(f"{self._staging}/{file}")
        self._buffers[file], self._held[file] = [], 0
        names = sorted({name for name in self._names.values() if not name.startswith(HIDDEN)})
        self._add(file, header_line(self._database, self._now_us, names))

    def _add(self, file: str, line: bytes) -> None:
        if file not in self._files:
            self._begin(file)
        self._buffers[file].append(line)
        self._held[file] += len(line)
        if self._held[file] >= BUFFER_BYTES:
            self._flush(file)

    def _flush(self, file: str) -> None:
        self._files[file].append(self._buffers[file])
        self._buffers[file], self._held[file] = [], 0

    def manifest(self, identity: Identity, log_bytes: int) -> Manifest:
        divergence, survey = self._divergence, self._divergence.survey
        changes = [{"seq": seq, "change": change, "collection": name} for seq, change, name in survey.changes if not name.startswith(HIDDEN)]
        first, last = survey.first, survey.last
        return Manifest(
            database=self._database,
            uuid=identity.uuid.hex(),
            cut_us=self._now_us,
            common=[divergence.epoch, divergence.to_seq],
            common_chain=f"{divergence.chain:016x}",
            first=[first.epoch, first.seq] if first else [divergence.epoch, divergence.to_seq],
            last=[last.epoch, last.seq] if last else [divergence.epoch, divergence.to_seq],
            last_chain=f"{last.chain if last else divergence.chain:016x}",
            first_us=first.time_us if first else 0,
            last_us=last.time_us if last else 0,
            reigns=[{"epoch": epoch, "id": f"{number:016x}", "first_seq": seq} for epoch, number, seq in survey.reigns],
            commits=survey.commits,
            documents=self._counts[DOCUMENTS],
            deletions=self._counts[DELETIONS],
            superseded=self._counts[SUPERSEDED],
            collections=self._collections,
            ids_left_out=self._ids_left_out,
            catalog=changes[:CHANGES_MAX],
            catalog_left_out=max(0, len(changes) - CHANGES_MAX),
            log_bytes=log_bytes,
            unreadable=self._unreadable,
            whole=not (survey.why or self._unreadable),
            why=survey.why or self._why,
        )

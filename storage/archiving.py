"""Archiving: the commit log of a database is copied to its archive as it grows, commit by commit. The format is backup/log_archive.py's.

    log, synced ── read in runs ──> archive file, synced ──> note: everything up to seq, as of this time ── every archive_interval_s

Only what this node has synced is archived, so that no power cut leaves the archive ahead of its database. Only a database that takes writes is
archived: the primary's. After a failover the new primary goes on in the same archive where both reach it, else in its own. The log that
is not archived yet is kept, up to log_keep_bytes; a gap is no lie: restores name it, and the next backup begins after it.

A failing archive never fails a write: it is tried again, with growing pauses, and told in `state`, in the log and by the node's alarms.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from .backup import archive_heads, log_archive
from .backup.copying import make_durable_dir
from .backup.log_archive import ArchiveWriter, Stretch
from .backup.places import below, has_threads, other_disk, plain, puts_whole_files
from .commit.segment import HEADER_BYTES, decode_header
from .disk import Disk
from .errors import DamagedRecord
from .position import Reign

if TYPE_CHECKING:
    from .database import Database

T = TypeVar("T")
log = logging.getLogger("twinlog.archive")

RUN_BYTES = 4 * 2**20
RETRY_S_MIN, RETRY_S_MAX = 1.0, 60.0
NOTE_S = 10.0


@dataclass(slots=True)
class ArchiveState:
    """What is known of one database's archive. seq: everything up to it is archived, as of as_of_us; failure: why it does not go on; gaps: commits
    that the log no longer held when they should have been archived."""

    directory: str
    seq: int = 0
    as_of_us: int = 0
    failure: str = ""
    failing_since_us: int = 0
    gaps: int = 0
    place: str = ""  # for people

    def as_plain(self) -> dict[str, Any]:
        """For status."""
        return {name: getattr(self, name) for name in self.__slots__}


class Archiving:
    """The archiver of one database. `state` is None where nothing is archived."""

    def __init__(self, database: Database) -> None:
        self._database = database
        archive = database.engine_options.archive
        self._writer: ArchiveWriter | None = None
        self._next_seq = 0
        self._lock = trio.Lock()
        self.state: ArchiveState | None = None
        self._disk = self._runner = database.seams.disk  # of the archive, and whose threads reach it
        if archive:
            root, directory = log_archive.place_of(archive, database.name, database.uuid, database.engine_options.backup_key_file)
            self._disk = other_disk(database.seams.disk, root)
            self._runner = self._disk if has_threads(root) else database.seams.disk
            outside = plain(root)
            self.state = ArchiveState(directory, place=below(outside, directory) if outside else directory)

    @property
    def floor(self) -> int | None:
        """The last seq that need not be kept for the archive; None: nothing is."""
        state = self.state
        return state.seq if state is not None and self._writes else None

    @property
    def _writes(self) -> bool:
        database = self._database
        return database.refusal is None and bool(database.history)

    async def run(self) -> None:
        """Until cancelled."""
        if self.state is None:
            return
        options = self._database.engine_options
        pause_s = options.archive_interval_s
        while True:
            await trio.sleep(pause_s)
            try:
                if not self._writes:
                    await self._close()
                    continue
                await self._catch_up(self.state, NOTE_S)
                self._works_again(self.state)
                pause_s = options.archive_interval_s
            except (OSError, DamagedRecord) as error:
                self._note_failure(self.state, error)
                pause_s = min(max(2 * pause_s, RETRY_S_MIN), RETRY_S_MAX)

    async def catch_up(self) -> None:
        """Archive and note everything that is committed now. Raises OSError, DamagedRecord."""
        if self.state is not None and self._writes:
            await self._catch_up(self.state, note_s=0.0)

    async def _catch_up(self, state: ArchiveState, note_s: float) -> None:
        """note_s: while nothing is written the note is written again only after so long."""
        async with self._lock:
            try:
                await self._caught_up(state, note_s)
            except (OSError, DamagedRecord):
                writer, self._writer = self._writer, None  # what it left behind is found, and gone on after, the next time
                if writer is not None:
                    await self._call(writer.give_up)
                raise

    async def _caught_up(self, state: ArchiveState, note_s: float) -> None:
        database = self._database
        now_us, seq = database.seams.time_us(), database.position.seq
        is_durable = await database.make_durable()
        to_seq = database.log.synced_seq
        if self._writer is None:
            await self._begin(state)
        while self._next_seq <= to_seq:
            await self._archive_run(state, to_seq)
        assert self._writer is not None
        if to_seq > state.seq or now_us - state.as_of_us >= note_s * 1e6 or not state.as_of_us:
            as_of_us = now_us if is_durable and to_seq >= seq else state.as_of_us
            await self._call(self._sync_and_note, self._writer, to_seq, as_of_us)
            state.seq, state.as_of_us = max(state.seq, to_seq), as_of_us

    async def _archive_run(self, state: ArchiveState, to_seq: int) -> None:
        """One run of frames of one reign."""
        database, first = self._database, self._next_seq
        reign, last = self._reign_of(first)
        run = await database.log.read(first - 1, min(to_seq, last), RUN_BYTES)
        if run is None:
            await self._skip_gap(state)
            return
        writer = self._writer
        assert writer is not None and run.last_seq >= first, "what is synced can be read"
        chain = None
        if writer.wants_new_file(reign):
            chain = await self._chain_before(first)
        await self._call(self._append, writer, reign, first, run.data, chain)
        self._next_seq = run.last_seq + 1

    async def _chain_before(self, seq: int) -> int:
        """Raises DamagedRecord when neither the log nor the header of a segment knows it."""
        database = self._database
        chain = await database.chain_at(seq - 1)
        if chain is not None:
            return chain
        for path, first in database.log.segments:
            if first == seq and (header := decode_header(await self._call(_read_header, database.seams.disk, path), path)) is not None:
                return header.chain_before
        raise DamagedRecord(f"{database.name}: the chain before commit {seq} is not known any more", file=database.directory, offset=0)

    def _reign_of(self, seq: int) -> tuple[Reign, int]:
        """The reign of a commit, and the last seq it can have."""
        history = self._database.history
        number = max(i for i, reign in enumerate(history) if reign.first_seq <= seq)
        return history[number], history[number + 1].first_seq - 1 if number + 1 < len(history) else 2**63

    async def _begin(self, state: ArchiveState) -> None:
        """Go on after what is there already."""
        database = self._database
        self._next_seq = await self._first_missing()
        self._writer = ArchiveWriter(self._disk, state.directory, database.uuid)
        state.seq = self._next_seq - 1

    async def _first_missing(self) -> int:
        """The seq after the newest commit that log and archive share; else where the log begins."""
        database, found = self._database, None
        for stretch in sorted(await self._call(self._newest), key=lambda one: (one.epoch, one.last_seq), reverse=True):
            if stretch.last_seq > database.log.synced_seq:
                continue
            reign, _ = self._reign_of(stretch.last_seq)  # which wrote one commit of that seq
            if (reign.epoch, reign.id) == (stretch.epoch, stretch.reign_id):
                found = stretch
                break
        for reign in reversed(database.history):
            if found is not None and reign.first_seq <= found.last_seq + 1:
                break
            # After a restore into the middle of a reign, its commits up to there are in a file that goes on along the branch given up.
            if reign.first_seq == 1 or await self._call(self._has, reign.first_seq - 1, reign.chain):
                return reign.first_seq
        if found is not None:
            await self._check_equal(found)
            return found.last_seq + 1
        begins = self._log_begins()
        await self._call(self._mark_gap, begins)
        return begins

    async def _check_equal(self, stretch: Stretch) -> None:
        chain = await self._database.chain_at(stretch.last_seq)
        if chain is not None and chain != stretch.chain:
            raise DamagedRecord(
                f"{stretch.path}: commit {stretch.last_seq} has another chain than in the database, under the same reign (INV-6)", file=stretch.path, offset=0
            )

    def _log_begins(self) -> int:
        database = self._database
        return database.log.segments[0][1] if database.log.segments else database.log.synced_seq + 1

    async def _skip_gap(self, state: ArchiveState) -> None:
        """The log begins later by now: what lies between is not archived, and is counted."""
        first = self._log_begins()
        if first <= self._next_seq:
            raise DamagedRecord(f"{self._database.name}: commit {self._next_seq} cannot be read from the log", file="", offset=0)
        log.error("%s: commits %d to %d were gone from the log before they were archived", self._database.name, self._next_seq, first - 1)
        state.gaps += first - self._next_seq
        self._next_seq = first
        await self._close()
        await self._call(self._mark_gap, first)
        self._writer = ArchiveWriter(self._disk, state.directory, self._database.uuid)

    # In a disk thread.

    async def _call(self, call: Callable[..., T], *args: Any) -> T:
        return await self._runner.run(call, *args)

    def _mark_gap(self, first: int) -> None:
        assert self.state is not None
        if puts_whole_files(self._disk):
            archive_heads.mark_gap(self._disk, self.state.directory, first)

    def _newest(self) -> list[Stretch]:
        """The end of every reign, as far as the note does not say that it is long past; makes the directory."""
        assert self.state is not None
        disk, directory = self._disk, self.state.directory
        make_durable_dir(disk, directory)
        note = log_archive.read_note(disk, directory)
        return log_archive.stretches(disk, directory, self._database.uuid, after_seq=max(0, note["seq"] - 1) if note is not None else 0)

    def _has(self, seq: int, chain: int) -> bool:
        assert self.state is not None
        disk = self._disk
        found = log_archive.stretches(disk, self.state.directory, self._database.uuid, after_seq=seq - 1)
        return log_archive.continued_by(disk, found, seq, chain) is not None

    def _append(self, writer: ArchiveWriter, reign: Reign, first: int, data: bytes, chain: int | None) -> None:
        writer.append(reign, first, data, chain)

    def _sync_and_note(self, writer: ArchiveWriter, seq: int, as_of_us: int) -> None:
        assert self.state is not None
        writer.sync()
        log_archive.write_note(
            self._disk, self.state.directory, database=self._database.name, uuid=self._database.uuid, seq=seq, as_of_us=as_of_us
        )

    async def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await self._call(writer.close)

    def _note_failure(self, state: ArchiveState, error: Exception) -> None:
        self._writer = None
        if not state.failure:
            state.failing_since_us = self._database.seams.time_us()
            log.error("%s: the log is not archived to %s: %s; it is tried again", self._database.name, state.place, error)
        state.failure = str(error)

    def _works_again(self, state: ArchiveState) -> None:
        if state.failure:
            log.warning("%s: the log is archived again, up to commit %d", self._database.name, state.seq)
            state.failure, state.failing_since_us = "", 0


def _read_header(disk: Disk, path: str) -> bytes:
    file = disk.open_read(path)
    try:
        return file.read_at(0, HEADER_BYTES)
    finally:
        file.close()

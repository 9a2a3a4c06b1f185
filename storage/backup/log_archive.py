"""A log archive: what a database's commit log was, kept so that a backup can be carried forward to any commit after it. Blocking.

    <root>/<database>.<uuid>/<epoch>-<reign id>-<first seq>.log    as commit log segments (commit/segment.py), inode 0: a header, frames of one reign
    <root>/<database>.<uuid>/_archive.json                         {"format", "database", "uuid", "seq", "as_of_us"}: everything synced up to then is here

Where files are put whole (a bucket, an encrypted archive), each interval's commits are a file of their own, archive_heads.py.

A file is only ever appended to, by the archiver that made it; one that was cut off ends at its last sound frame and what follows stands
in a new file. Reigns branch: after a restore, or a failover that lost commits, a later reign begins again at a seq that an earlier one had already.
A way through the files is found from its end backwards, by the chain: each stretch's first frame continues exactly one commit, whichever file
that is in. So nothing of another branch is ever taken, and a gap is named, never jumped over.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..commit.codec import HEAD_BYTES, Head, following_frames
from ..commit.segment import HEADER_BYTES, SegmentHeader, SegmentName, decode_header
from ..disk import Disk, File
from ..errors import BadRequest, DamagedRecord
from ..position import Reign
from . import archive_heads
from .places import is_elsewhere, puts_whole_files, sealed
from .seal_keys import refuse_sealed

NOTE = "_archive.json"
FORMAT = 1
FILE_BYTES_MAX = 64 * 2**20  # from there on the next commit begins another file
RUN_BYTES = 4 * 2**20
LATEST = "the end of the archive"


def place_of(archive: str, database: str, uuid: bytes, key_file: str = "") -> tuple[str, str]:
    """(root, directory) of a database's archive: root as places.py has them. Databases of one name that came one after the
    other do not mix. archive: as it was configured."""
    name = f"{database}.{uuid.hex()}"
    root, directory = (archive, name) if is_elsewhere(archive) else ("", f"{archive}/{name}")
    return sealed(root, key_file), directory


@dataclass(frozen=True, slots=True)
class Stretch:
    """The sound frames of one file. chain_before: of the commit before first_seq; end: the offset after the last frame."""

    path: str
    epoch: int
    reign_id: int
    first_seq: int
    last_seq: int
    chain_before: int
    chain: int
    first_time_us: int
    last_time_us: int
    end: int


@dataclass(frozen=True, slots=True)
class Part:
    """What is taken of a stretch: from its beginning up to to_seq; chain and time_us are those of that commit."""

    stretch: Stretch
    to_seq: int
    chain: int
    time_us: int


@dataclass(frozen=True, slots=True)
class Target:
    """How far to go: up to a commit, or up to the last one at or before a time; neither: to the end. Times are microseconds since 1970."""

    seq: int | None = None
    time_us: int | None = None

    def __str__(self) -> str:
        return f"commit {self.seq}" if self.seq is not None else f"time {self.time_us} us" if self.time_us is not None else LATEST


def target_of(kind: str, at: int) -> Target | None:
    """As requests name it: "" for none, "latest", "seq" or "time" and what that is."""
    return {"": None, "latest": Target(), "seq": Target(seq=at), "time": Target(time_us=at)}[kind]


class ArchiveWriter:
    """Appends frames to the newest file of an archive. Not for two at once."""

    def __init__(self, disk: Disk, directory: str, uuid: bytes) -> None:
        self._disk, self._directory, self._uuid = disk, directory, uuid
        self._file: File | None = None
        self._reign: tuple[int, int] | None = None

    def wants_new_file(self, reign: Reign) -> bool:
        """Whether the next frames begin a file: then append() must be told the chain before them."""
        return self._file is None or self._reign != (reign.epoch, reign.id) or self._file.size >= FILE_BYTES_MAX

    def append(self, reign: Reign, first_seq: int, frames: bytes, chain_before: int | None) -> None:
        """Whole frames of one reign from first_seq on. Raises OSError: then begin a new ArchiveWriter after what is there."""
        if self.wants_new_file(reign):
            assert chain_before is not None, "a new file's header names the chain before it"
            self.close()
            self._file = self._new_file(SegmentName.of(reign, first_seq), chain_before)
            self._reign = (reign.epoch, reign.id)
        assert self._file is not None
        self._file.append(frames)

    def sync(self) -> None:
        """Everything appended is there for good: where files are put whole, by ending this one. Raises OSError: then give_up()."""
        if puts_whole_files(self._disk):
            self.close()
        elif self._file is not None:
            self._file.sync()

    def give_up(self) -> None:
        """After an error: what was appended since the last sync() may be there or not."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.sync()
            finally:
                file.close()

    def _new_file(self, name: SegmentName, chain_before: int) -> File:
        """One of that name that is there holds no sound frame, or this archive would go on after it: it is set aside. Raises DamagedRecord when it
        does hold some."""
        path = f"{self._directory}/{name}"
        if self._disk.exists(path):
            if _measure(self._disk, path, name, self._uuid) is not None:
                raise DamagedRecord(f"{path} is there already and is not what this database would go on after", file=path, offset=0)
            self._disk.rename(path, f"{path}.bad")
        file = self._disk.create(path)
        try:
            file.append(SegmentHeader(name.epoch, self._uuid, name.reign_id, name.first_seq, chain_before, 0).encode())
            file.sync()
        except OSError:
            file.close()
            raise
        self._disk.sync_dir(self._directory)
        return file


def write_note(disk: Disk, directory: str, *, database: str, uuid: bytes, seq: int, as_of_us: int) -> None:
    note = {"format": FORMAT, "database": database, "uuid": uuid.hex(), "seq": seq, "as_of_us": as_of_us}
    disk.replace_file(f"{directory}/{NOTE}", json.dumps(note).encode() + b"\n")


def read_note(disk: Disk, directory: str) -> dict[str, Any] | None:
    """What the archiver said last; None when there is no archive, or its note cannot be read."""
    try:
        note = json.loads(disk.read_file(f"{directory}/{NOTE}"))
        return note if isinstance(note["seq"], int) and isinstance(note["as_of_us"], int) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def stretches(disk: Disk, directory: str, uuid: bytes, *, after_seq: int = 0) -> list[Stretch]:
    """Every file that may hold commits after after_seq, the newest of each reign among them, read and checked up to its first fault; sorted by
    first seq."""
    by_reign: dict[tuple[int, int], list[SegmentName]] = {}
    listed = disk.list_dir(directory)
    for file in listed:
        if (name := SegmentName.parse(file)) is not None:
            by_reign.setdefault((name.epoch, name.reign_id), []).append(name)
    wanted: list[tuple[SegmentName, SegmentName | None]] = []
    for names in by_reign.values():
        names.sort()
        for name, later in zip(names, [*names[1:], None]):
            if later is None or later.first_seq > after_seq + 1:  # else it ends before that
                wanted.append((name, later))
    if puts_whole_files(disk):
        found = _surveyed(disk, directory, uuid, wanted, archive_heads.gaps_in(listed))
    else:
        found = [_measure(disk, f"{directory}/{name}", name, uuid) for name, _ in wanted]
    return sorted((one for one in found if one is not None), key=lambda one: (one.first_seq, one.epoch))


def _surveyed(
    disk: Disk, directory: str, uuid: bytes, wanted: Sequence[tuple[SegmentName, SegmentName | None]], gaps: Collection[int]
) -> list[Stretch | None]:
    """Of files that were put whole: where one ends is where the next of its reign begins, unless there is a gap between them. Such a stretch's last_time_us is
    that of the commit after it, which decides as well; its body is checked when it is taken."""
    heads = archive_heads.read_heads(disk, directory, [name for name, _ in wanted], uuid)
    found: list[Stretch | None] = []
    for name, later in wanted:
        path, head, after = f"{directory}/{name}", heads.get(name), None if later is None or later.first_seq in gaps else heads.get(later)
        if head is None:
            continue
        if after is None:
            found.append(_measure(disk, path, name, uuid))
            continue
        found.append(
            Stretch(
                path, name.epoch, name.reign_id, name.first_seq, after.first.seq - 1, head.header.chain_before, after.header.chain_before,
                head.first.time_us, after.first.time_us, head.size,
            )
        )  # fmt: skip
    return found


def _measure(disk: Disk, path: str, name: SegmentName, uuid: bytes) -> Stretch | None:
    """None for a file without a sound frame, or of another database."""
    try:
        data = disk.read_file(path)
        refuse_sealed(data, path)
        header = decode_header(data, path)
    except DamagedRecord:
        return None
    if header is None or header.uuid != uuid or (header.epoch, header.reign_id, header.first_seq) != (name.epoch, name.reign_id, name.first_seq):
        return None
    first: Head | None = None
    last: Head | None = None
    end = HEADER_BYTES
    for head, offset in _heads(data, name.epoch, header.first_seq, header.chain_before):
        first = first or head
        last, end = head, offset + head.frame_len
    if first is None or last is None:
        return None
    return Stretch(
        path, name.epoch, name.reign_id, first.seq, last.seq, header.chain_before, last.chain, first.time_us, last.time_us, end
    )  # fmt: skip


def _heads(data: bytes, epoch: int, first_seq: int, chain_before: int) -> Iterator[tuple[Head, int]]:
    """(head, offset) of every sound frame from the beginning on."""
    offset, seq, chain = HEADER_BYTES, first_seq - 1, chain_before
    while True:
        rows, offset, chain = following_frames(data, offset, seq, epoch, chain, RUN_BYTES)
        for fields, start, _ in rows:
            yield Head(*fields), start
        if not rows:
            return
        seq = rows[-1][0][5]


def route(disk: Disk, found: Sequence[Stretch], base_seq: int, base_chain: int, target: Target) -> list[Part]:
    """The parts that carry a copy at base_seq to the target, in order; none when it is there already.

    Raises BadRequest when the archive does not reach it, naming what is missing: the newest branch that continues the base decides.
    """
    if target.seq is not None and target.seq < base_seq:
        raise BadRequest(f"the backup is at commit {base_seq}, after {target}: choose an older one")
    if target.seq == base_seq:
        return []  # whatever the archive has, or had before it was pruned
    problem = ""
    for end in sorted(found, key=lambda one: (one.epoch, one.last_seq, one.first_seq), reverse=True):
        if end.last_seq < base_seq:
            continue  # another branch, or an archive that did not come so far: it says nothing of what follows the base
        path = _back_to(disk, found, end, base_seq, base_chain)
        if isinstance(path, str):
            problem = problem or path
        elif not problem or _is_inside(path[-1], target):
            return [part for part in _up_to(disk, path, target) if part.to_seq > base_seq]
    if not problem and target.seq is None:
        return []
    problem = problem or f"it has nothing after commit {base_seq}"
    raise BadRequest(f"the archive does not lead from the backup at commit {base_seq} to {target}: {problem}; choose another backup or an earlier target")


def _is_inside(end: Part, target: Target) -> bool:
    """Whether a way that is not the newest one, which is broken, leads to the target all the same: it is before the break."""
    return (target.seq is not None and target.seq <= end.to_seq) or (target.time_us is not None and target.time_us < end.time_us)


def _back_to(disk: Disk, found: Sequence[Stretch], end: Stretch, base_seq: int, base_chain: int) -> list[Part] | str:
    """The way from the base to a stretch's end, or what is missing of it."""
    parts = [Part(end, end.last_seq, end.chain, end.last_time_us)]
    while parts[0].stretch.first_seq > base_seq + 1:
        first = parts[0].stretch
        before = continued_by(disk, found, first.first_seq - 1, first.chain_before)
        if before is None:
            ends = [one.last_seq for one in found if one.last_seq < first.first_seq]
            return f"commits {max([base_seq, *ends]) + 1} to {first.first_seq - 1} are not in the archive"
        parts.insert(0, before)
    first = parts[0].stretch
    chain = first.chain_before if first.first_seq == base_seq + 1 else _at(disk, first, base_seq)[0]
    return parts if chain == base_chain else f"the backup at commit {base_seq} is of another branch of the history than the archive"


def continued_by(disk: Disk, found: Sequence[Stretch], seq: int, chain: int) -> Part | None:
    """The part that ends with exactly this commit, if there is one."""
    for one in found:
        if one.last_seq == seq and one.chain == chain:
            return Part(one, seq, chain, one.last_time_us)
    for one in found:
        if one.first_seq <= seq < one.last_seq:
            there, time_us = _at(disk, one, seq)
            if there == chain:
                return Part(one, seq, chain, time_us)
    return None


def _at(disk: Disk, stretch: Stretch, seq: int) -> tuple[int, int]:
    """(chain, time) of one of its commits."""
    for head, _ in _heads(disk.read_file(stretch.path), stretch.epoch, stretch.first_seq, stretch.chain_before):
        if head.seq == seq:
            return head.chain, head.time_us
    raise DamagedRecord(f"{stretch.path}: commit {seq} cannot be read any more", file=stretch.path, offset=0)


def _up_to(disk: Disk, parts: list[Part], target: Target) -> list[Part]:
    if target.seq is not None and target.seq > parts[-1].to_seq:
        raise BadRequest(f"the archive ends at commit {parts[-1].to_seq}: {target} is after it")
    taken: list[Part] = []
    for part in parts:
        is_over = (target.seq is not None and part.to_seq > target.seq) or (target.time_us is not None and part.time_us > target.time_us)
        if not is_over:
            taken.append(part)
            continue
        last = _last_within(disk, part.stretch, target)
        return taken if last is None else [*taken, Part(part.stretch, last.seq, last.chain, last.time_us)]
    return taken


def _last_within(disk: Disk, stretch: Stretch, target: Target) -> Head | None:
    last = None
    for head, _ in _heads(disk.read_file(stretch.path), stretch.epoch, stretch.first_seq, stretch.chain_before):
        if (target.seq is not None and head.seq > target.seq) or (target.time_us is not None and head.time_us > target.time_us):
            break
        last = head
    return last


def frames_of(disk: Disk, part: Part) -> bytes:
    """The bytes of a part's frames, checked once more."""
    stretch = part.stretch
    data = disk.read_file(stretch.path)
    for head, offset in _heads(data, stretch.epoch, stretch.first_seq, stretch.chain_before):
        if head.seq == part.to_seq:
            return data[HEADER_BYTES : offset + HEAD_BYTES + head.body_len]
    raise DamagedRecord(f"{stretch.path}: commit {part.to_seq} cannot be read any more", file=stretch.path, offset=0)


def frames_ahead(disk: Disk, parts: Sequence[Part]) -> Iterator[tuple[Part, bytes]]:
    """Each part with frames_of it; where every file is a request, several at once."""
    return archive_heads.ahead(disk, parts, lambda part: part.stretch.end, lambda part: frames_of(disk, part))


def unneeded(disk: Disk, directory: str, uuid: bytes, below_seq: int) -> list[str]:
    """The files all of whose commits are at or below below_seq, oldest first: no backup at that commit or after it needs them, on whatever branch. The
    newest file stays. Of each reign the files that may end there are read, and no other; one without a sound frame is left alone."""
    by_reign: dict[tuple[int, int], list[SegmentName]] = {}
    for file in disk.list_dir(directory):
        if (name := SegmentName.parse(file)) is not None:
            by_reign.setdefault((name.epoch, name.reign_id), []).append(name)
    newest = max((max(names) for names in by_reign.values()), key=lambda one: (one.epoch, one.first_seq), default=None)
    gone: list[SegmentName] = []
    for names in by_reign.values():
        names.sort()
        for name, later in zip(names, [*names[1:], None]):
            may_end = name.first_seq <= below_seq and (later is None or later.first_seq <= below_seq + 1)
            if not may_end or name is newest:
                continue
            if later is not None and puts_whole_files(disk):  # there whole, and ends before the next one: nothing more is in it to be asked for
                gone.append(name)
            else:
                stretch = _measure(disk, f"{directory}/{name}", name, uuid)
                if stretch is not None and stretch.last_seq <= below_seq:
                    gone.append(name)
    return [f"{directory}/{name}" for name in sorted(gone)]


def remove(disk: Disk, directory: str, paths: Sequence[str]) -> None:
    """Files that unneeded() named, in that order."""
    for path in paths:
        disk.remove(path)
    if paths:
        disk.sync_dir(directory)

"""The checker's first part: every checkpoint manifest, and the bytes of every file it names against its checksums."""

from __future__ import annotations

from collections.abc import Iterator

from ..disk import Disk
from ..errors import DamagedRecord
from ..fields.opened import OpenIndex
from ..fields.state import manifest_name, parse
from ..finding import Finding, Severity
from ..identity import Identity
from ..index.primary import Segment
from ..shard import checkpoint as checkpoints
from ..shard.checkpoint import Checkpoint

REPAIR = "repair this database from a standby or a backup"
REBUILT = "nothing is lost: the index is rebuilt at the next opening and written by the next seal"


def check_checkpoints(
    disk: Disk, directory: str, identity: Identity | None, sound: list[Checkpoint]
) -> Iterator[Finding]:
    """Manifests and the bytes of the files they name. Appends to `sound` those whose logs are whole, oldest first."""
    checked: dict[tuple[str, int], int | None] = {}
    seqs = checkpoints.list_seqs(disk, directory)
    for seq in seqs:
        path = checkpoints.path_of(directory, seq)
        try:
            checkpoint = checkpoints.load(disk, directory, seq)
        except DamagedRecord as error:
            yield Finding(Severity.WARNING, path, 0, bare(error, path), "it is passed over for the one before; the next seal replaces it")
            continue
        if identity is not None and (checkpoint.uuid, len(checkpoint.shards)) != (identity.uuid.hex(), identity.shards):
            yield Finding(Severity.ERROR, path, 0, "it belongs to another database than database.json says", REPAIR)
            continue
        fault = checkpoints.missing_log(disk, directory, checkpoint)
        if fault is not None:
            yield Finding(Severity.ERROR, path, 0, f"checkpoint {seq} cannot be opened: {fault}", REPAIR)
            continue
        sound.append(checkpoint)
        for shard in checkpoint.shards:
            for log in shard.logs:
                file = f"{directory}/{log.file}"
                if (file, log.length) not in checked:
                    checked[file, log.length] = crc = checkpoints.log_checksum(disk, file, log.length)
                    if crc != log.crc32c:
                        what = f"its first {log.length} bytes are not those that checkpoint {seq} names"
                        yield Finding(Severity.ERROR, file, -1, what, REPAIR)
            for index in shard.index:
                file = f"{directory}/{index.file}"
                if (file, index.xxh3) not in checked:
                    checked[file, index.xxh3] = None
                    yield from _check_segment(disk, file, index.xxh3)
    if seqs and not sound:
        yield Finding(Severity.ERROR, f"{directory}/{checkpoints.DIRECTORY}", -1, "no checkpoint validates", REPAIR)


def check_fields(disk: Disk, directory: str, newest: Checkpoint) -> Iterator[Finding]:
    """The field index of the newest checkpoint, every block of it. One that is not there was never asked for, or is built anew. Worth a
    note only: its newest files are not synced, so a power cut may have taken them."""
    path = f"{directory}/{manifest_name(newest.seq)}"
    if not disk.exists(path):
        return
    again = "nothing is lost: the node builds it anew"
    try:
        state = parse(disk.read_file(path))
        if (state.uuid, state.seq, state.logs) != (newest.uuid, newest.seq, checkpoints.logs_digest(newest.shards)):
            raise DamagedRecord("it belongs to another database or checkpoint", file=path, offset=0)
        for segments in OpenIndex.open(disk, directory, state, None).collections.values():
            for segment in segments:
                for _ in segment.check():
                    pass
    except DamagedRecord as error:
        yield Finding(Severity.NOTE, str(error.fields.get("file", path)), -1, bare(error, path), again)


def bare(error: DamagedRecord, path: str) -> str:
    """The error's message without what the finding says itself: the place in front and the advice at the end."""
    place = f"{path} at offset {error.fields.get('offset')}: "
    return error.message.removeprefix(place).removeprefix(f"{path}: ").partition("; ")[0]


def _check_segment(disk: Disk, file: str, xxh3: int) -> Iterator[Finding]:
    try:
        Segment.open(disk, file, xxh3)
    except DamagedRecord as error:
        yield Finding(Severity.WARNING, file, -1, bare(error, file), REBUILT)

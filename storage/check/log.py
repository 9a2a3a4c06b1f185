"""The commit log's part of the offline checker: headers, every frame, the chain within and across segments.

Segments wholly covered by a checkpoint are no longer needed to open the database, but rewind and standbys read them: a fault
there is a warning. After the newest sound checkpoint recovery's own scanner decides between tear and damage (INV-2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..commit.codec import HEAD_BYTES, Head, check_body, check_chain, decode_body, decode_head, first_chain
from ..commit.scan import LogEnd, LogScanner, is_reserved, list_segments
from ..commit.segment import HEADER_BYTES, decode_header
from ..commit.synced import heard
from ..disk import Disk
from ..errors import DamagedRecord
from ..finding import Finding, Severity
from ..shard.checkpoint import Checkpoint

RESEED = "reseed this database from a peer or restore a backup"
COVERED = "the checkpoint holds these commits; rewind and shipping to a standby that needs them will be refused"


def check_log(disk: Disk, directory: str, uuid: bytes, sound: Sequence[Checkpoint]) -> Iterator[Finding]:
    """sound: checkpoints that validate, oldest first."""
    newest = sound[-1] if sound else None
    base_seq, base_chain = (newest.seq, newest.chain) if newest is not None else (0, first_chain(uuid))
    known = {checkpoint.seq: checkpoint.chain for checkpoint in sound} | {0: first_chain(uuid)}
    scanner = LogScanner(disk, directory, uuid, base_seq, base_chain, synced_seq=heard(disk, directory, uuid))
    last = base_seq
    for head, body in scanner:
        last = head.seq
        try:
            decode_body(head.record_count, body)
        except DamagedRecord as error:
            yield Finding(Severity.ERROR, f"{directory}/commit", -1, f"commit {head.seq}: {error.message}", RESEED)
    verdict = scanner.verdict
    if verdict.end is LogEnd.TORN and verdict.bad_bytes:
        what = f"torn after commit {last}: {verdict.reason}"
        yield Finding(Severity.WARNING, verdict.bad_path, verdict.bad_offset, what, "the next opening keeps the tail in salvage/")
    elif verdict.end is LogEnd.DAMAGED:
        what = f"damaged after commit {last}, and what follows had been synced: {verdict.reason}"
        yield Finding(Severity.ERROR, verdict.bad_path, verdict.bad_offset, what, RESEED)
    yield from _check_covered(disk, directory, base_seq, known, verdict.bad_path)


def _check_covered(
    disk: Disk, directory: str, base_seq: int, known: dict[int, int], told_path: str
) -> Iterator[Finding]:
    """Frames up to base_seq. known: chains by seq that the log must agree with."""
    end_seq, end_chain = None, None
    for path, name in list_segments(disk, directory):
        if name.first_seq > base_seq:
            return
        data = disk.read_file(path)
        try:
            header = decode_header(data, path)
        except DamagedRecord as error:
            header = None
            if path != told_path:
                yield Finding(Severity.WARNING, path, 0, error.message, COVERED)
        if header is None:
            continue
        if end_seq is not None and end_seq < name.first_seq - 1:
            what = f"commits {end_seq + 1} to {name.first_seq - 1} are not in the log before it"
            yield Finding(Severity.NOTE, path, -1, what, COVERED)
        expected = known.get(name.first_seq - 1)
        if end_seq == name.first_seq - 1:
            expected = end_chain
        if expected is not None and header.chain_before != expected:
            what = f"its first commit does not continue the chain of commit {name.first_seq - 1}"
            yield Finding(Severity.WARNING, path, 0, what, COVERED)
        walk = _Walk(data, header.first_seq - 1, header.chain_before)
        fault = walk.run(base_seq, known)
        if fault is not None and path != told_path:
            yield Finding(Severity.WARNING, path, walk.offset, fault, COVERED)
        end_seq, end_chain = walk.seq, walk.chain


class _Walk:
    """One segment, frame by frame. `seq`, `chain` and `offset` say how far it is sound."""

    def __init__(self, data: bytes, seq: int, chain: int) -> None:
        self._data = data
        self.seq = seq
        self.chain = chain
        self.offset = HEADER_BYTES

    def run(self, to_seq: int, known: dict[int, int]) -> str | None:
        """What is wrong with the first bad frame up to to_seq, or None."""
        while self.seq < to_seq and self.offset < len(self._data):
            try:
                head = decode_head(self._data, self.offset)
                if head is None or self.offset + head.frame_len > len(self._data):
                    if is_reserved(self._data, self.offset):
                        return None
                    return "the segment ends within a commit"
                fault = self._take(head)
            except DamagedRecord as error:
                return error.message
            if fault is not None:
                return fault
            if known.get(self.seq, self.chain) != self.chain:
                return f"commit {self.seq} has another chain than the checkpoint at that seq"
        return None

    def _take(self, head: Head) -> str | None:
        frame = self._data[self.offset : self.offset + head.frame_len]
        if head.seq != self.seq + 1:
            return f"commit {head.seq} follows {self.seq}"
        check_body(head, frame[HEAD_BYTES:])
        decode_body(head.record_count, frame[HEAD_BYTES:])
        if not check_chain(head, frame, self.chain):
            return f"commit {head.seq} does not continue the chain"
        self.seq, self.chain = head.seq, head.chain
        self.offset += head.frame_len
        return None

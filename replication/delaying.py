"""What a delayed standby holds back: log that has arrived and whose commits are not old enough yet. Pure: time comes in as numbers.

A commit is due once its commit time, which its primary's clock gave it, lies delay_us behind this node's clock. Commits leave in their
order and whole (INV-3). Clocks that differ shift the delay by as much: with the primary's ahead by a second the copy is a second
older. A clock that was set ahead and back again leaves commit times that go on from the newest one, and are held that much longer.

What is held was received and not acknowledged, so the primary's window bounds it (INV-8); `bound` is what this node will hold at
most, whatever the primary's window is. It is in memory only: after a restart it is sent again.
"""

from __future__ import annotations

from collections import deque

from storage import PeerError, frames_until

from .messages import BATCH_BYTES_MAX


class HeldFrames:
    """By database, oldest first. Invariant: bytes is the sum of what is held, at most `bound`."""

    def __init__(self, *, delay_us: int, window_bytes: int) -> None:
        self.delay_us = delay_us
        self.bound = 2 * window_bytes + BATCH_BYTES_MAX  # a window, the batch that may go over it, and slack for a primary that counts otherwise
        self.bytes = 0
        self._pieces: dict[bytes, deque[tuple[bytes, int]]] = {}  # (whole frames, from which byte on they are still held)

    def add(self, uuid: bytes, data: bytes) -> None:
        """A batch arrived. Raises PeerError when there is no room for it."""
        if self.bytes + len(data) > self.bound:
            raise PeerError(
                f"this delayed standby holds {self.bytes} bytes of log until they are old enough and takes {self.bound} at most: "
                "replication_window_mb is larger at the primary than here; make them equal"
            )
        self._pieces.setdefault(uuid, deque()).append((data, 0))
        self.bytes += len(data)

    def take_due(self, now_us: int) -> tuple[bytes, bytes] | None:
        """(database, frames) of the next piece that is due; None when nothing is."""
        for uuid, pieces in self._pieces.items():
            data, offset = pieces[0]
            end, _ = frames_until(data, offset, now_us - self.delay_us)
            if end == offset:
                continue
            self._pieces.pop(uuid)  # and to the end of the line, so that one database does not keep the others waiting
            if end < len(data):
                pieces[0] = (data, end)
            else:
                pieces.popleft()
            if pieces:
                self._pieces[uuid] = pieces
            self.bytes -= end - offset
            return uuid, data[offset:end]
        return None

    def next_due_us(self) -> int | None:
        """When the next commit is due, by this node's clock; None while nothing is held."""
        times = []
        for pieces in self._pieces.values():
            _, commit_us = frames_until(*pieces[0], -1)
            times.append(0 if commit_us is None else commit_us + self.delay_us)
        return min(times, default=None)

    def forget(self, uuid: bytes) -> None:
        """The stream that these came by is over."""
        self.bytes -= sum(len(data) - offset for data, offset in self._pieces.pop(uuid, ()))


def shown_too_early_us(*, delay_us: int, newest_us: int, now_us: int) -> int:
    """How long until a copy whose newest commit is of newest_us is as old as its delay again; 0 when it is. After a seed, or
    when the delay was made longer, a copy holds commits that are not old enough, and waits."""
    return max(0, newest_us + delay_us - now_us) if delay_us else 0

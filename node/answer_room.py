"""Room for answers: how many reads may be under way, so that their answers fit into what may wait to be sent (INV-8).

What a read's answer will take is known only when it is there, up to 16 MiB. So each read that is begun is counted as large as
reads lately were: a larger answer counts at once, smaller ones gradually, and before the first one FIRST_SHARE of the room is
reckoned. What does not fit waits here, in order, before it reads anything. One room is for each connection and one for all;
what was begun is always let to its end, so `bytes_max` is passed by at most what changed since the last answers.
Knows no socket and no connection; only how many bytes wait, which it is told.
"""

from __future__ import annotations

import trio

FIRST_SHARE = 0.25  # of a connection's room that its first read may fill
FORGETTING = 0.25  # of the difference, with each answer that is smaller than usual


class AnswerRoom:
    """Invariant: a read that waits is let in when nothing is under way and less than bytes_max waits."""

    __slots__ = ("_bytes_max", "_held", "_fresh", "_under_way", "_usual", "_least", "_waiting")

    def __init__(self, bytes_max: int, first: float, least: float) -> None:
        """first: bytes that an answer is taken to have before there was one; least: whatever the last ones had."""
        self._bytes_max = bytes_max
        self._held = 0  # bytes that waited to be sent when that was told last
        self._fresh = 0  # answered since
        self._under_way = 0
        self._usual = first
        self._least = least
        self._waiting: trio.lowlevel.ParkingLot | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting) if self._waiting is not None else 0

    @property
    def is_used(self) -> bool:
        """Whether settle() would change anything."""
        return bool(self._waiting or self._fresh or self._held)

    def _has_room(self) -> bool:
        waits = self._held + self._fresh
        if waits >= self._bytes_max:
            return False
        return not self._under_way or waits + (self._under_way + 1) * self._usual <= self._bytes_max

    async def enter(self) -> None:
        """Return when a read may begin; it must leave() then. Cancelled while it waits, it has not entered."""
        if not self._waiting and self._has_room():
            self._under_way += 1
            return
        if self._waiting is None:
            self._waiting = trio.lowlevel.ParkingLot()
        await self._waiting.park()  # whoever lets it in has counted it

    def leave(self, answer_bytes: int) -> None:
        """The read is over; its answer waits to be sent now. 0: it has none."""
        self._under_way -= 1
        self._fresh += answer_bytes
        if answer_bytes:
            more = answer_bytes - self._usual
            self._usual = max(self._least, self._usual + (more if more > 0 else FORGETTING * more))
        self._let_in()

    def settle(self, held: int) -> None:
        """So many bytes wait to be sent now, everything that was answered included."""
        self._held = held
        self._fresh = 0
        if self._waiting:
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._has_room():
            self._under_way += 1
            self._waiting.unpark()

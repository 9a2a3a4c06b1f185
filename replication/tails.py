"""What a primary must learn from its standbys after an unclean stop, before it may begin a new reign. Pure.

INV-1 with acks k: each acknowledged commit is on k of the n standbys, so among any n-k+1 of them is one that has it. The
primary asks that many for commits beyond its own end, takes the longest tail, and only then begins its new reign. Nothing
was ever acknowledged by fewer standbys than k, so with k above n, or k = 0, there is nobody to ask.
"""

from __future__ import annotations

from typing import Protocol

from storage import History, history_from_lists

from .matching import is_longer
from .messages import DatabaseState


class TailSource(Protocol):
    """A link to a standby that can be asked for more log."""

    unacked_bytes: int  # of log shipped to it and not durable there

    async def fetch_tail(self, uuid: bytes, after_seq: int) -> bytes | None:
        """Whole commits after that seq, b"" when there are no more, None when its log no longer holds them.

        Raises PeerError when the link ends meanwhile.
        """


def answers_needed(*, acks: int, standbys: int) -> int:
    """How many standbys must have answered before the reign may begin."""
    return max(0, standbys - acks + 1) if acks > 0 and acks <= standbys else 0


class TailHunt:
    """The answers for one database. Invariant: an answer counts only while its link lives (`forget`)."""

    def __init__(self, name: str, needed: int) -> None:
        self.name = name
        self.needed = needed
        self.forced = False
        self.lost = ""
        self._answers: dict[str, DatabaseState] = {}
        self._uncounted: set[str] = set()  # delayed standbys: nothing was acknowledged because of them, but what they have is welcome

    def answer(self, peer: str, state: DatabaseState, *, counts: bool = True) -> None:
        self._answers[peer] = state
        if not counts:
            self._uncounted.add(peer)

    def forget(self, peer: str) -> None:
        self._answers.pop(peer, None)

    @property
    def enough(self) -> bool:
        return self.forced or len(self._answers.keys() - self._uncounted) >= self.needed

    def best(self, mine: History, my_end: int, *, my_epoch: int) -> tuple[str, int] | None:
        """Who has the longest durable continuation of this copy, and up to where; None when nobody has one."""
        longer = [
            (state.durable_seq, peer)
            for peer, state in self._answers.items()
            if is_longer(mine, my_end, history_from_lists(state.history), state.durable_seq, my_epoch=my_epoch)
        ]
        if not longer:
            return None
        end, peer = max(longer)
        return peer, end

    def explain(self) -> str:
        if self.lost:
            return self.lost
        return (
            f"after an unclean stop {self.needed} standbys must answer about the tail of its log, "
            f"{len(self._answers.keys() - self._uncounted)} have; start them, or promote this node with force and lose what only they have"
        )

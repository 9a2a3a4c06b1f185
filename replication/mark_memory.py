"""State hashes of old MARKs, kept for delayed standbys, which come to a MARK when the database has forgotten its hash. Pure.

INV-6 holds for them too: some of the MARKs of the last delay are remembered, KEPT of them spread evenly over it, so that a delayed
copy is compared at least so many times in each stretch as long as its delay.
"""

from __future__ import annotations

KEPT = 64  # over the longest delay, and some before it: it may lag on top of its delay


class MarkMemory:
    """Of one database. Invariant: at most 2 * KEPT MARKs, the newest of them last."""

    def __init__(self) -> None:
        self._hashes: dict[int, str] = {}
        self._kept_at = 0.0

    def note(self, seq: int, state_hash: str, *, now: float, delay_s: float) -> None:
        """A MARK's hash is known here; delay_s: the longest of any standby, 0 when none is delayed."""
        if not delay_s or (self._hashes and now - self._kept_at < delay_s / KEPT):
            return
        self._hashes[seq] = state_hash
        self._kept_at = now
        while len(self._hashes) > 2 * KEPT:
            del self._hashes[next(iter(self._hashes))]

    def get(self, seq: int) -> str | None:
        return self._hashes.get(seq)

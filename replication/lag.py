"""How far a copy is behind, in commits, bytes and seconds. Pure: time comes in as numbers.

The primary's end is sampled (seq, bytes ever logged, when). A copy at seq s lacks what was logged after the newest sample
at or below s; it has been behind since the first sample beyond s. Between samples bytes are taken as even.
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLES_MAX = 1_200  # ten minutes at two a second; then they are thinned, to about 600 for a month
GAP_PART = 0.02  # of a sample's age: so far apart two of them may be then


@dataclass(frozen=True, slots=True)
class Lag:
    """bytes and seconds are lower bounds: by the time between two samples, and where a copy is further behind than they reach."""

    commits: int
    bytes: int
    seconds: float


class LagMeter:
    """Samples of one log's end. Invariant: seqs, bytes and times never fall from one sample to the next."""

    def __init__(self) -> None:
        self._samples: list[tuple[int, int, float]] = []

    def observe(self, seq: int, log_bytes: int, now: float) -> None:
        if self._samples:
            last_seq, last_bytes, _ = self._samples[-1]
            if seq < last_seq or log_bytes < last_bytes:  # the log was reopened or cut: its counters began anew
                self._samples.clear()
            elif seq == last_seq:
                return
        self._samples.append((seq, log_bytes, now))
        if len(self._samples) > SAMPLES_MAX:
            self._thin(now)

    def _thin(self, now: float) -> None:
        oldest, *between, newest = self._samples
        kept = [newest]
        for sample in reversed(between):
            if kept[-1][2] - sample[2] >= GAP_PART * (now - sample[2]):
                kept.append(sample)
        self._samples = [oldest, *reversed(kept)][-SAMPLES_MAX:]

    @property
    def seq(self) -> int:
        return self._samples[-1][0] if self._samples else 0

    def of(self, seq: int, now: float) -> Lag:
        """The lag of a copy that ends at seq."""
        if not self._samples or seq >= self._samples[-1][0]:
            return Lag(0, 0, 0.0)
        end_seq, end_bytes, _ = self._samples[-1]
        below: tuple[int, int, float] | None = None
        above = self._samples[-1]
        for sample in reversed(self._samples):
            if sample[0] <= seq:
                below = sample
                break
            above = sample
        at_bytes = above[1]
        if below is not None:
            at_bytes = below[1] + (above[1] - below[1]) * (seq - below[0]) // (above[0] - below[0])
        return Lag(end_seq - seq, end_bytes - at_bytes, max(0.0, now - above[2]))

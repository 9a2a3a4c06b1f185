"""Whether the next sync of a commit log runs on the event loop or in a disk thread. Pure: told durations, asked one question.

An fdatasync of a few hundred bytes takes 100 to 200 µs; handing it to a thread and coming back costs as much again, and the answers
leave a turn of the loop later. So it is done in place while syncs are short (INV-9: at most 5 ms; the limit for their mean is a fifth).

    expected_s   running mean of what syncs took, the newest weighing a fifth, none counted for more than LONG_S

From a steady 0.2 ms, one sync of 4 ms changes nothing; after one of 5 ms the next goes to the thread, after anything longer the next
9 at most: enough to pass over a burst. While a device stays over the limit every sync stays away from the loop. In place goes only
the database that asked last time too: with several written in turn each wake-up would add up their syncs, while threads run them
side by side.

One for all databases of an engine, since they share the device.
"""

from __future__ import annotations

IN_PLACE_S_MAX = 0.001
LONG_S = 0.025
SHARE_OF_NEWEST = 0.2


class SyncPace:
    """Begins as if the device were slow: the first few syncs, in the thread, have to show otherwise."""

    def __init__(self) -> None:
        self.expected_s = 2 * IN_PLACE_S_MAX
        self._asked_last = ""

    def took(self, seconds: float) -> None:
        """One sync took so long, wherever it ran."""
        self.expected_s += SHARE_OF_NEWEST * (min(seconds, LONG_S) - self.expected_s)

    def allows_in_place(self, log: str) -> bool:
        """Asked once for each sync. log: which one asks."""
        again, self._asked_last = self._asked_last == log, log
        return again and self.expected_s < IN_PLACE_S_MAX

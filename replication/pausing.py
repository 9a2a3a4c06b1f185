"""Maintenance mode of a whole cluster: whether it is paused, since when and why. Pure values, their merge and their file.

While it is paused, changes of role that automation asks for are refused; an operator's own are not. Every node keeps the newest word in
pause.json: {"format": 1, "since_us": n, "resumed_us": n, "why": "..."}, and says it in its Hellos and heartbeats, so that one order
reaches all, and a node that was away learns it when it comes back. `newer` takes the later of two words, whatever the order and number of
times in which they are heard; each new word is later than every one known where it is given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from storage import DamagedRecord, NewerFormat

from .roles import WHY_CHARS_MAX

PAUSE_FILE = "pause.json"
PAUSE_FORMAT = 1
TIME_US_MAX = 2**62


@dataclass(frozen=True, slots=True)
class PauseWord:
    """since_us, resumed_us: when it was last paused and resumed, 0 for never."""

    since_us: int = 0
    resumed_us: int = 0
    why: str = ""

    @property
    def paused(self) -> bool:
        return self.since_us > self.resumed_us

    @property
    def given_us(self) -> int:
        return max(self.since_us, self.resumed_us)

    def told(self) -> tuple[int, int, str]:
        """As it travels between nodes."""
        return (self.since_us, self.resumed_us, self.why)

    def shown(self) -> dict[str, int | str] | None:
        """As a status has it."""
        return {"since_us": self.since_us, "why": self.why} if self.paused else None


NEVER = PauseWord()


def newer(mine: PauseWord, theirs: PauseWord) -> PauseWord:
    """The later word. Of two given at one time the one that pauses; then by its other fields, so that all nodes agree."""
    return max(mine, theirs, key=lambda word: (word.given_us, word.paused, word.told()))


def paused(mine: PauseWord, now_us: int, why: str) -> PauseWord:
    return PauseWord(max(now_us, mine.given_us + 1), mine.resumed_us, why)


def resumed(mine: PauseWord, now_us: int) -> PauseWord:
    """The same word when it is not paused."""
    return PauseWord(mine.since_us, max(now_us, mine.given_us + 1), mine.why) if mine.paused else mine


def is_sound(told: tuple[int, int, str]) -> bool:
    """Whether a peer's word is within bounds."""
    return all(0 <= time <= TIME_US_MAX for time in told[:2]) and len(told[2]) <= WHY_CHARS_MAX


def write_pause(word: PauseWord) -> bytes:
    value = {"format": PAUSE_FORMAT, "since_us": word.since_us, "resumed_us": word.resumed_us, "why": word.why}
    return json.dumps(value, indent=1).encode() + b"\n"


def read_pause(data: bytes) -> PauseWord:
    """Raises DamagedRecord or NewerFormat."""
    try:
        value = json.loads(data)
        form = int(value["format"])
        if form <= PAUSE_FORMAT:
            return PauseWord(int(value["since_us"]), int(value["resumed_us"]), str(value["why"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRecord(
            f"{PAUSE_FILE} cannot be read ({error}): remove it; this node then learns from its peers whether the cluster is paused",
            file=PAUSE_FILE,
            offset=0,
        ) from error
    raise NewerFormat(f"{PAUSE_FILE} has format {form}, this Twinlog knows up to {PAUSE_FORMAT}: start the newer one")

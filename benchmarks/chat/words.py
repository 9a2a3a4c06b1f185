"""A made-up vocabulary whose words come as often as words do: the n-th has a share of about 1/n (Zipf). Deterministic by seed.

Words are syllables of a consonant and a vowel, the frequent ones short; one in 80 has a letter beyond ASCII. The letters q and x
occur in none, so that a text which is in no message can be told. Every word stands in the table in ten forms, small and capitalised, with and
without a mark behind it; made-up names and numbers stand behind the words. A token is an index into that table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WORDS = 60_000
NAMES = 20_000
NUMBERS = 3_000
MARKS = ("", ",", ".", "!", "?")
PLAIN, COMMA, FULL_STOP, CALL, ASK = range(len(MARKS))
CAPITALISED = len(MARKS)  # added to the mark: the capitalised form
FORMS = 2 * len(MARKS)
FIRST_NAME = FORMS * WORDS
FIRST_NUMBER = FIRST_NAME + NAMES
SLOTS = 1 << 22  # of the table that turns an even draw into a word; the rarest word has six of them
ZIPF_SHIFT = 2.7  # Mandelbrot's: the very first words are a little less frequent than 1/n
ABSENT_LETTERS = "qx"

ONSETS = ("b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "st", "tr", "sh", "ch", "pl", "gr", "th")
VOWELS = ("a", "e", "i", "o", "u", "ea", "ou", "ai")
CODAS = ("", "", "", "n", "r", "s", "t", "l", "m", "nd", "ck")
BEYOND_ASCII = str.maketrans({"a": "ä", "e": "é", "o": "ö", "u": "ü"})
BEYOND_ASCII_SHARE = 1 / 80
SYLLABLES_BY_RANK = ((60, 1, 1), (1_500, 1, 2), (12_000, 2, 3), (WORDS, 2, 4))  # up to the rank: from, to


@dataclass(frozen=True)
class Vocabulary:
    """words: the most frequent first. table: every token's text. share: of each word among all that are drawn."""

    words: list[str]
    table: np.ndarray  # of str
    share: np.ndarray
    _slots: np.ndarray

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Ranks of so many words."""
        return self._slots[rng.integers(0, SLOTS, count, dtype=np.uint32)]


def zipf(count: int, shift: float) -> np.ndarray:
    """Shares of the ranks 0 to count-1; their sum is 1."""
    weights = 1.0 / (np.arange(count) + 1.0 + shift)
    return weights / weights.sum()


def vocabulary(seed: int) -> Vocabulary:
    """A second of work."""
    rng = np.random.default_rng([seed, 1])
    words = _words(rng)
    small = np.array(words, object)
    large = np.array([word.capitalize() for word in words], object)
    forms = [case + mark for case in (small, large) for mark in MARKS]
    names = np.array(["@" + words[rank] + str(number) for rank, number in rng.integers([0, 1], [WORDS, 999], (NAMES, 2)).tolist()], object)
    numbers = np.array([str(number) for number in (10 ** rng.uniform(0, 5, NUMBERS)).astype(int).tolist()], object)
    share = zipf(WORDS, ZIPF_SHIFT)
    slots = np.searchsorted(np.cumsum(share), (np.arange(SLOTS) + 0.5) / SLOTS).clip(max=WORDS - 1).astype(np.int32)
    return Vocabulary(words, np.concatenate([*forms, names, numbers]), share, slots)


def _words(rng: np.random.Generator) -> list[str]:
    """All different, so the choice of syllables goes on until there are enough."""
    found: dict[str, None] = {}
    while len(found) < WORDS:
        syllables = rng.integers(0, [len(ONSETS), len(VOWELS), len(CODAS)], (WORDS, 4, 3)).tolist()
        for parts, length, odd in zip(syllables, rng.random(WORDS).tolist(), (rng.random(WORDS) < BEYOND_ASCII_SHARE).tolist(), strict=True):
            low, high = next(((low, high) for rank, low, high in SYLLABLES_BY_RANK if len(found) < rank), (0, 0))
            count = low + int(length * (high - low + 1))
            word = "".join([ONSETS[onset] + VOWELS[vowel] + CODAS[coda] for onset, vowel, coda in parts[:count]])
            found.setdefault(word.translate(BEYOND_ASCII) if odd else word)
    return list(found)[:WORDS]

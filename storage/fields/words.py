"""Words: the longest runs of word bytes in the UTF-8 of a string: A-Z a-z 0-9 _ and every byte from 0x80 on. Pure."""

from __future__ import annotations

import re

WORD_BYTES = bytes(b for b in range(256) if b >= 0x80 or chr(b).isalnum() or b == ord("_"))
_SPACES = bytes(b if b in WORD_BYTES else ord(" ") for b in range(256))


def words_of(text: bytes) -> list[bytes]:
    """The words in their order."""
    return text.translate(_SPACES).split()


def split_words(literal: bytes) -> list[tuple[bytes, bool, bool]]:
    """The words in a literal: (word, begins at the literal's start, ends at its end)."""
    spaced = literal.translate(_SPACES)
    return [(m.group(), m.start() == 0, m.end() == len(literal)) for m in re.finditer(rb"[^ ]+", spaced)]

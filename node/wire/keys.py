"""Pre-shared keys and the text of key files. Pure: text in, keys out; reading the file is the caller's.

One key a line, blank lines and lines that begin with # are skipped:

    twinlog-key-1 <key id, 32 hex digits> <key, 64 hex digits>

Several lines are a rotation: the first key is the one to dial with, all of them are accepted. The key id goes over the
wire in clear; the key never does and never shows in a repr. All keys of a file are of one port: a client key file
never serves the cluster port.
"""

from __future__ import annotations

from collections.abc import Callable

from .errors import KeyFileError
from .noise import KEY_BYTES

KEY_ID_BYTES = 16
KEYS_MAX = 64
KEY_FILE_CHARS_MAX = 64 * 2**10
WORD = "twinlog-key-1"


class Key:
    """One pre-shared key and the id by which both ends name it. Equal by both."""

    __slots__ = ("id", "psk")

    def __init__(self, id: bytes, psk: bytes) -> None:
        assert len(id) == KEY_ID_BYTES, f"a key id has {KEY_ID_BYTES} bytes"
        assert len(psk) == KEY_BYTES, f"a key has {KEY_BYTES} bytes"
        self.id = id
        self.psk = psk

    def __repr__(self) -> str:
        return f"Key(id={self.id.hex()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and (self.id, self.psk) == (other.id, other.psk)

    def __hash__(self) -> int:
        return hash((self.id, self.psk))


class KeyRing:
    """The keys of one file. `dial` is the first; `psk_of` is what a ServerSession asks."""

    __slots__ = ("keys", "_by_id")

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.keys = keys
        self._by_id = {key.id: key.psk for key in keys}

    @property
    def dial(self) -> Key:
        return self.keys[0]

    def psk_of(self, key_id: bytes) -> bytes | None:
        return self._by_id.get(key_id)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(key.id.hex() for key in self.keys)})"


def new_key(random_bytes: Callable[[int], bytes]) -> Key:
    """A fresh key with a fresh id; random_bytes must be fit for secrets."""
    key_id = random_bytes(KEY_ID_BYTES)
    while key_id == bytes(KEY_ID_BYTES):  # zeros mean "plain" in the opening
        key_id = random_bytes(KEY_ID_BYTES)
    return Key(key_id, random_bytes(KEY_BYTES))


def format_keys(keys: tuple[Key, ...]) -> str:
    """The text of a key file, first key first."""
    return "".join(f"{WORD} {key.id.hex()} {key.psk.hex()}\n" for key in keys)


def parse_keys(text: str) -> KeyRing:
    """The keys of a key file. Raises KeyFileError naming the line, never the key."""
    if len(text) > KEY_FILE_CHARS_MAX:
        raise KeyFileError(f"a key file of {len(text)} characters, at most {KEY_FILE_CHARS_MAX}", line=0)
    keys: list[Key] = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key = _parse_line(stripped, number)
        if any(key.id == other.id for other in keys):
            raise KeyFileError(f"line {number}: key id {key.id.hex()} is there twice; remove one", line=number)
        keys.append(key)
        if len(keys) > KEYS_MAX:
            raise KeyFileError(f"line {number}: more than {KEYS_MAX} keys; remove old ones", line=number)
    if not keys:
        raise KeyFileError(f"no key in the file: it needs a line `{WORD} <key id> <key>`", line=0)
    return KeyRing(tuple(keys))


def _parse_line(line: str, number: int) -> Key:
    words = line.split()
    if words[0] != WORD:
        raise KeyFileError(f"line {number}: must begin with `{WORD}`", line=number)
    if len(words) != 3:
        raise KeyFileError(f"line {number}: {len(words)} words, must be `{WORD} <key id> <key>`", line=number)
    key_id = _from_hex(words[1], KEY_ID_BYTES, "key id", number)
    if key_id == bytes(KEY_ID_BYTES):
        raise KeyFileError(f"line {number}: the key id is all zeros, which means no key; make another", line=number)
    return Key(key_id, _from_hex(words[2], KEY_BYTES, "key", number))


def _from_hex(word: str, size: int, what: str, number: int) -> bytes:
    if len(word) == 2 * size and word.isascii() and word.isalnum():
        try:
            return bytes.fromhex(word)
        except ValueError:
            pass
    raise KeyFileError(f"line {number}: the {what} must be {2 * size} hex digits", line=number)

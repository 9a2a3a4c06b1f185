"""The key file of encrypted backups: who may read it, what stands in it, which key a file was encrypted with. Blocking.

    # any number of lines like this one
    4f2d...   64 hex digits, or 44 characters of base64: the key that new files are encrypted with
    91ac...   older keys below it, with which files are read only

Or 32 bytes and nothing else: one key. The file is read when something is encrypted or decrypted, by whichever process does that: a key is never on a command
line, in a setting, in the log, or sent to another process. It is read again when it has changed.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Callable
from pathlib import Path

from ..errors import ENOKEY, ConfigError
from .seal_format import KEY_BYTES, decode, is_sealed, key_id

FILE_BYTES_MAX = 65_536
KEYS_MAX = 100
MODE = 0o600
FORMS = "64 hex digits, 44 characters of base64, or 32 bytes alone"


class KeyRing:
    """Keys by their ids. The first is for what is encrypted from now on."""

    __slots__ = ("_by_id", "first")

    def __init__(self, keys: list[bytes]) -> None:
        assert keys, "a key ring holds a key"
        self.first = keys[0]
        self._by_id = {key_id(key): key for key in keys}

    def of(self, wanted: bytes, path: str) -> bytes:
        """Raises OSError (ENOKEY) naming the key."""
        found = self._by_id.get(wanted)
        if found is None:
            raise no_key(path, wanted, f"is not in backup_key_file, which has {self}: add it below them")
        return found

    def __repr__(self) -> str:
        return ", ".join(one.hex() for one in self._by_id)


def no_key(path: str, wanted: bytes, why: str) -> OSError:
    return OSError(ENOKEY, f"it is encrypted with key {wanted.hex()}, which {why}", path)


def refuse_sealed(data: bytes, path: str) -> None:
    """Raises OSError (ENOKEY) for the beginning of an encrypted file that was read as it is, since no key is configured; DamagedRecord."""
    if is_sealed(data):
        raise no_key(path, decode(data, path).key_id, "no setting names: set backup_key_file")


def read_key_file(path: str) -> KeyRing:
    """Raises ConfigError naming the rule, never a key."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb") as file:
            facts = os.fstat(file.fileno())
            _check_private(path, facts)
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}; make one with `twinlog backup keygen`") from error
    return KeyRing(parse_keys(content, path))


def _check_private(path: str, facts: os.stat_result) -> None:
    """Its owner alone; one that somebody else owns, as a secret that is mounted, must let this process's group read it."""
    mode = stat.S_IMODE(facts.st_mode)
    allowed = 0o700 if facts.st_uid == os.geteuid() else 0o740
    if not stat.S_ISREG(facts.st_mode) or mode & ~allowed:
        raise _refused(path, f"has mode {mode:03o}: others than its owner can get at it; chmod 600 {path}")


def parse_keys(content: bytes, path: str) -> list[bytes]:
    """Raises ConfigError."""
    if len(content) == KEY_BYTES:
        return [content]
    if len(content) > FILE_BYTES_MAX:
        raise _refused(path, f"is over {FILE_BYTES_MAX} bytes: this is another file")
    keys: list[bytes] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        key = _key_of(text)
        if key is None:
            raise _refused(path, f"line {number} is no key: {FORMS}")
        if key in keys:
            raise _refused(path, f"line {number}: the key {key_id(key).hex()} is there twice; remove one")
        keys.append(key)
    if not 0 < len(keys) <= KEYS_MAX:
        raise _refused(path, f"holds {len(keys)} keys, it must be 1 to {KEYS_MAX}")
    return keys


def _key_of(text: bytes) -> bytes | None:
    try:
        key = binascii.unhexlify(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def write_key_file(path: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """A new key, for its owner only; returns its id. FileExistsError if the file is there: losing a key loses what it encrypted (INV-7)."""
    key = random_bytes(KEY_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, MODE)  # whatever the umask says
        file.write(f"# twinlog backup key {key_id(key).hex()}\n{key.hex()}\n")
        file.flush()
        os.fsync(descriptor)
    return key_id(key).hex()


class KeyFile:
    """The keys of one file, as they are now. Raises what read_key_file raises, as an OSError that callers of a disk know."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: tuple[int, ...] = (0,)
        self._ring: KeyRing | None = None

    def ring(self) -> KeyRing:
        seen = self._now()
        if self._ring is None or seen != self._seen:
            try:
                self._ring, self._seen = read_key_file(self.path), seen
            except ConfigError as error:  # never a FileNotFoundError, which would be a file's that is asked for
                raise OSError(ENOKEY, error.message, self.path) from error
        return self._ring

    def _now(self) -> tuple[int, ...]:
        try:
            facts = os.stat(self.path)
        except OSError:
            return ()
        return (facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_mode)


def _refused(path: str, why: str) -> ConfigError:
    return ConfigError(f"backup_key_file: {path} {why}", path="backup_key_file")

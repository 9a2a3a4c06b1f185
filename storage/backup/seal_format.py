"""The format of an encrypted file: a header, then chunks, each encrypted and authenticated. Pure; knows no file and no key file.

    0       8         12            16       24     56    60      64                 64 + 65,552
    ├───────┼─────────┼─────────────┼────────┼──────┼─────┼───────┼──────────────────┼─── ...  ── last chunk ──┤   little-endian
    │ magic │ version │ chunk_bytes │ key id │ salt │ crc │ zeros │ chunk 0 + tag 16 │ chunk 1  0 to 65,536 + 16 │
    └───────┴─────────┴─────────────┴────────┴──────┴─────┴───────┴──────────────────┴─── ...  ─────────────────┘
     8s      u32       u32           8s       32s    u32   4x

    crc      crc32c of bytes 0 to 56: damage to the key id is no other key
    chunk    AES-256-GCM of 65,536 bytes of the file, the last one of what is left (of a file of 0 bytes: 0, else 1 to 65,536)
    its key  HKDF-SHA256(key, salt, "twinlog sealed file" 0 header): of this file alone
    nonce    chunk number u64, 1 for the last chunk and 0 for others u32, big-endian: never twice, since each file has its salt
    data     authenticated with each chunk: the file's identity, see identity()

So a file of n bytes has n + 64 + 16 * max(1, ceil(n / 65,536)). A chunk that was changed, moved, cut off, or is of another file or another backup is not
decrypted: InvalidTag from AES-GCM becomes DamagedRecord, naming the chunk.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass

import google_crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import DamagedRecord, NewerFormat
from .names import PART, is_backup, is_safety

HEADER = struct.Struct("<8sII8s32sI4x")
HEADER_BYTES = 64
CHECKED_BYTES = 56
MAGIC = b"TWSEAL\r\n"
VERSION = 1
KEY_BYTES, KEY_ID_BYTES, SALT_BYTES, TAG_BYTES = 32, 8, 32, 16
CHUNK_BYTES = 64 * 2**10
CHUNK_BYTES_MAX = 16 * 2**20
assert HEADER.size == HEADER_BYTES, "the drawing says 64"
_NONCE = struct.Struct(">QI")
_ARCHIVE = re.compile(r".+\.[0-9a-f]{32}\Z")


@dataclass(frozen=True, slots=True)
class Header:
    """key_id: of the key in the key file; salt: drawn for this file."""

    key_id: bytes
    salt: bytes
    chunk_bytes: int = CHUNK_BYTES

    def encode(self) -> bytes:
        bare = HEADER.pack(MAGIC, VERSION, self.chunk_bytes, self.key_id, self.salt, 0)[:CHECKED_BYTES]
        return HEADER.pack(MAGIC, VERSION, self.chunk_bytes, self.key_id, self.salt, google_crc32c.value(bare))

    def stored_size(self, size: int) -> int:
        """Of a file of so many bytes."""
        return HEADER_BYTES + size + TAG_BYTES * max(1, -(-size // self.chunk_bytes))


def is_sealed(data: bytes) -> bool:
    """Whether a file that begins so is encrypted."""
    return bytes(data[: len(MAGIC)]) == MAGIC


def decode(data: bytes, path: str) -> Header:
    """Of a file that is_sealed. Raises DamagedRecord, NewerFormat."""
    if len(data) < HEADER_BYTES:
        raise damaged(path, "its header is cut off", 0)
    _, version, chunk_bytes, key_id, salt, crc = HEADER.unpack_from(data)
    if google_crc32c.value(bytes(data[:CHECKED_BYTES])) != crc or any(data[CHECKED_BYTES + 4 : HEADER_BYTES]):
        raise damaged(path, "its header is not as it was written", 0)
    if version > VERSION:
        raise NewerFormat(f"{path}: encryption format {version}, this Twinlog reads up to {VERSION}; use a newer one")
    if not 0 < chunk_bytes <= CHUNK_BYTES_MAX:
        raise damaged(path, f"chunks of {chunk_bytes} bytes", 0)
    return Header(key_id, salt, chunk_bytes)


def key_id(key: bytes) -> bytes:
    """What a key is called; says nothing about it."""
    assert len(key) == KEY_BYTES, f"a key has {KEY_BYTES} bytes"
    return hashlib.blake2b(key=key, person=b"twinlog key id", digest_size=KEY_ID_BYTES).digest()


def identity(path: str) -> str:
    """What a file's chunks are bound to, wherever its shelf or archive lies or is moved to: `<backup>/<path in it>`, `<database>.<uuid>/<file>` of an archive,
    else the file's own name. A backup that is being made is the backup."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts):
        bare = part.removesuffix(PART)
        if is_backup(bare) or is_safety(bare):
            return "/".join([bare, *parts[number + 1 :]])
    return "/".join(parts[-2:] if len(parts) > 1 and _ARCHIVE.match(parts[-2]) else parts[-1:])


class Chunks:
    """Encrypts and decrypts the chunks of one file. path: for messages and for its identity."""

    def __init__(self, key: bytes, header: Header, path: str) -> None:
        self.header = header
        self._path = path
        self._bound = identity(path).encode()
        info = b"twinlog sealed file\0" + header.encode()
        self._cipher = AESGCM(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=header.salt, info=info).derive(key))

    def encrypt(self, number: int, plain: bytes, *, is_last: bool) -> bytes:
        assert len(plain) <= self.header.chunk_bytes and (is_last or len(plain) == self.header.chunk_bytes), "only the last chunk may be shorter"
        return self._cipher.encrypt(_NONCE.pack(number, is_last), bytes(plain), self._bound)

    def decrypt(self, number: int, sealed: bytes, *, is_last: bool) -> bytes:
        """Raises DamagedRecord."""
        try:
            return self._cipher.decrypt(_NONCE.pack(number, is_last), bytes(sealed), self._bound)
        except (InvalidTag, ValueError) as error:
            at = HEADER_BYTES + number * (self.header.chunk_bytes + TAG_BYTES)
            raise damaged(self._path, f"chunk {number} is not what was encrypted here: changed, cut off, or of another file or backup", at) from error


def shape(stored: int, chunk_bytes: int, path: str) -> tuple[int, int]:
    """(bytes of the file, chunks) of one that takes so many. Raises DamagedRecord for a length that no file has."""
    body = stored - HEADER_BYTES
    chunks = -(-body // (chunk_bytes + TAG_BYTES))
    rest = body - (chunks - 1) * (chunk_bytes + TAG_BYTES)
    if chunks < 1 or rest < TAG_BYTES or (rest == TAG_BYTES and chunks > 1):
        raise damaged(path, f"it ends at {stored}, within a chunk", stored)
    return body - chunks * TAG_BYTES, chunks


def damaged(path: str, what: str, offset: int) -> DamagedRecord:
    return DamagedRecord(f"{path}: encrypted, and {what}; choose another backup", file=path, offset=offset)

"""Noise_NNpsk0_25519_AESGCM_SHA256: the handshake under a pre-shared key. Sans-IO, pure.

The Noise Protocol Framework, revision 34 (https://noiseprotocol.org/noise.html), its sections 5 (objects),
9 (pre-shared keys), 12 (functions) and 4.2 (REKEY); only this one pattern:

    NNpsk0:   -> psk, e          message 1: e 32 bytes, payload sealed (tag 16)
              <- e, ee           message 2: e 32 bytes, payload sealed (tag 16)

Both ends then hold two CipherStates (initiator to responder, responder to initiator) and the handshake hash. What it
gives: both ends hold the PSK, forward secrecy, and a prologue that both agree on. Message 1 alone can be played
again by anybody who saw it, so the responder may trust the initiator only after its first packet opened.

Randomness comes in as an argument. Checked against the published vectors in tests/wire/cacophony_nnpsk0.json.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from enum import Enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import HandshakeFailed

PROTOCOL_NAME = b"Noise_NNpsk0_25519_AESGCM_SHA256"
HASH_BYTES = 32
KEY_BYTES = 32
DH_BYTES = 32
TAG_BYTES = 16
NONCE_MAX = 2**64 - 1  # reserved for REKEY
HANDSHAKE_MESSAGE_BYTES = DH_BYTES + TAG_BYTES  # either message with an empty payload
assert len(PROTOCOL_NAME) == HASH_BYTES, "a name of just the hash's length is the first h itself"


class Role(Enum):
    """Which end of the handshake: the initiator dials and speaks first."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


nonce_bytes = struct.Struct(">4xQ").pack  # AESGCM's nonce in Noise: 4 zero bytes and the counter, big-endian


class CipherState:
    """One key and its counter. decrypt() raises cryptography's InvalidTag and then leaves the counter as it was."""

    __slots__ = ("_key", "_aead", "counter")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aead = AESGCM(key)
        self.counter = 0

    def encrypt(self, plaintext: bytes | memoryview, ad: bytes | None = None) -> bytes:
        counter = self.counter
        assert counter < NONCE_MAX, "2^64-1 packets under one handshake"
        sealed = self._aead.encrypt(nonce_bytes(counter), plaintext, ad)
        self.counter = counter + 1
        return sealed

    def decrypt(self, sealed: bytes, ad: bytes | None = None) -> bytes:
        counter = self.counter
        assert counter < NONCE_MAX, "2^64-1 packets under one handshake"
        plaintext = self._aead.decrypt(nonce_bytes(counter), sealed, ad)
        self.counter = counter + 1
        return plaintext

    def rekey(self) -> None:
        """Noise's REKEY: the next key is what this one makes of 32 zeros at the reserved counter. One-way."""
        self._key = self._aead.encrypt(nonce_bytes(NONCE_MAX), bytes(KEY_BYTES), None)[:KEY_BYTES]
        self._aead = AESGCM(self._key)


def _hkdf(chaining_key: bytes, material: bytes, count: int) -> list[bytes]:
    """Noise's HKDF with HMAC-SHA256: count (2 or 3) outputs of 32 bytes."""
    temporary = hmac.digest(chaining_key, material, "sha256")
    outputs: list[bytes] = []
    last = b""
    for number in range(1, count + 1):
        last = hmac.digest(temporary, last + bytes([number]), "sha256")
        outputs.append(last)
    return outputs


class _SymmetricState:
    """The transcript hash and the chaining key, and the key that is current while the handshake runs."""

    def __init__(self) -> None:
        self.hash = PROTOCOL_NAME
        self._chaining_key = PROTOCOL_NAME
        self._cipher: CipherState | None = None

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, material: bytes) -> None:
        self._chaining_key, key = _hkdf(self._chaining_key, material, 2)
        self._cipher = CipherState(key)

    def mix_key_and_hash(self, material: bytes) -> None:
        self._chaining_key, to_hash, key = _hkdf(self._chaining_key, material, 3)
        self.mix_hash(to_hash)
        self._cipher = CipherState(key)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        assert self._cipher is not None, "psk0 sets a key before anything is sealed"
        sealed = self._cipher.encrypt(plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        assert self._cipher is not None, "psk0 sets a key before anything is opened"
        plaintext = self._cipher.decrypt(sealed, self.hash)
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        first, second = _hkdf(self._chaining_key, b"", 2)
        return CipherState(first), CipherState(second)


class HandshakeState:
    """One end of one handshake. The initiator writes, then reads; the responder reads, then writes.

    A read that fails raises HandshakeFailed, after which the object is of no more use. Calls out of order are bugs of
    the caller and assertions.
    """

    def __init__(self, role: Role, *, psk: bytes, prologue: bytes, ephemeral: bytes) -> None:
        """psk: 32 bytes. ephemeral: 32 fresh random bytes, the private key; never the same twice."""
        assert len(psk) == KEY_BYTES, f"a PSK has {KEY_BYTES} bytes"
        assert len(ephemeral) == DH_BYTES, f"an ephemeral key has {DH_BYTES} bytes"
        self._role = role
        self._psk = psk
        self._private = X25519PrivateKey.from_private_bytes(ephemeral)
        self._remote = b""
        self._shared = b""
        self._steps_done = 0
        self._symmetric = _SymmetricState()
        self._symmetric.mix_hash(prologue)

    @property
    def finished(self) -> bool:
        return self._steps_done == 2

    @property
    def handshake_hash(self) -> bytes:
        """Both ends' name for this one session (Noise's channel binding). Only when finished."""
        assert self.finished, "the handshake is not finished"
        return self._symmetric.hash

    def write_message(self, payload: bytes = b"") -> bytes:
        """This end's message: 32 bytes of public key, then the sealed payload."""
        first = self._role is Role.INITIATOR
        assert self._steps_done == (0 if first else 1), "not this end's turn to write"
        symmetric = self._symmetric
        if first:
            symmetric.mix_key_and_hash(self._psk)
        public = self._private.public_key().public_bytes_raw()
        symmetric.mix_hash(public)
        symmetric.mix_key(public)  # with a PSK, e is mixed into the key too (section 9.2)
        if not first:
            symmetric.mix_key(self._shared)
        self._steps_done += 1
        return public + symmetric.encrypt_and_hash(payload)

    def read_message(self, message: bytes) -> bytes:
        """The payload of the other end's message."""
        first = self._role is Role.RESPONDER
        assert self._steps_done == (0 if first else 1), "not this end's turn to read"
        if len(message) < HANDSHAKE_MESSAGE_BYTES:
            raise HandshakeFailed(
                f"handshake message of {len(message)} bytes, at least {HANDSHAKE_MESSAGE_BYTES} are needed"
            )
        symmetric = self._symmetric
        if first:
            symmetric.mix_key_and_hash(self._psk)
        self._remote = message[:DH_BYTES]
        symmetric.mix_hash(self._remote)
        symmetric.mix_key(self._remote)
        # The responder needs the shared secret only when it writes, but a bad point is met here, where refusing is
        # what the caller expects.
        self._shared = self._dh()
        if not first:
            symmetric.mix_key(self._shared)
        try:
            payload = symmetric.decrypt_and_hash(message[DH_BYTES:])
        except InvalidTag as error:
            raise HandshakeFailed(
                "the handshake does not open: the two ends hold different keys under this key id, or bytes were "
                "altered on the way; compare the key files"
            ) from error
        self._steps_done += 1
        return payload

    def split(self) -> tuple[CipherState, CipherState]:
        """(initiator to responder, responder to initiator). Only when finished."""
        assert self.finished, "the handshake is not finished"
        return self._symmetric.split()

    def _dh(self) -> bytes:
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(self._remote))
        except ValueError as error:  # the all-zero result of a low-order point
            raise HandshakeFailed("the other end's ephemeral key is not a usable point") from error

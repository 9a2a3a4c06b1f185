"""Packets: sealed pieces of the inner byte stream, one key and counter for each direction. Pure.

    0        4                      4+length
    ├────────┼──────────────────────┤    length u32 little-endian: ciphertext and tag, 16 to 1 MiB + 16
    │ length │ ciphertext, tag (16) │    AES-256-GCM, no associated data
    └────────┴──────────────────────┘    nonce: 4 zero bytes, counter u64 big-endian; the counter is not sent

The counter begins at 0 with the session and never goes back, so a packet that is altered, repeated, skipped,
reordered or taken from another session does not open: BadPacket, and the connection ends. Both ends apply Noise's
REKEY after the packet that fills 2^24 packets or 64 GiB of plaintext under one key; the counter runs on. A length
that was altered on the way is refused, or makes a packet that does not open.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag

from .errors import BadPacket, PacketTooLong
from .frames import PREFIX, FrameReader
from .noise import TAG_BYTES, CipherState

PACKET_BYTES_MAX = 2**20  # of plaintext
SEALED_BYTES_MAX = PACKET_BYTES_MAX + TAG_BYTES
REKEY_PACKETS = 2**24
REKEY_BYTES = 64 * 2**30  # of plaintext


class _Direction:
    """A cipher and how much went under its current key: the same count on both ends, so both rekey after the same packet."""

    __slots__ = ("_bytes", "_bytes_max", "_cipher", "_packets", "_packets_max", "rekeys")

    def __init__(
        self, cipher: CipherState, *, rekey_packets: int = REKEY_PACKETS, rekey_bytes: int = REKEY_BYTES
    ) -> None:
        self._cipher = cipher
        self._packets_max = rekey_packets
        self._bytes_max = rekey_bytes
        self._packets = 0
        self._bytes = 0
        self.rekeys = 0

    def _rekey(self) -> None:
        self._cipher.rekey()
        self.rekeys += 1
        self._packets = 0
        self._bytes = 0


class PacketSealer(_Direction):
    """The sending direction."""

    __slots__ = ()

    def seal(self, plaintext: bytes | memoryview) -> bytes:
        """One packet, prefix included. At most PACKET_BYTES_MAX of plaintext: the caller cuts."""
        size = len(plaintext)
        assert size <= PACKET_BYTES_MAX
        sealed = self._cipher.encrypt(plaintext)
        self._packets += 1
        self._bytes += size
        if self._packets >= self._packets_max or self._bytes >= self._bytes_max:
            self._rekey()
        return PREFIX.pack(size + TAG_BYTES) + sealed


class PacketOpener(_Direction):
    """The receiving direction: packets as a FrameReader from packet_frames() gives them."""

    __slots__ = ()

    def open(self, sealed: bytes) -> bytes:
        """The plaintext of the packet that must come next, or BadPacket."""
        try:
            plaintext = self._cipher.decrypt(sealed)
        except InvalidTag as error:
            number = self._cipher.counter
            raise BadPacket(
                f"packet {number} ({len(sealed)} bytes) does not open: it was altered, repeated, skipped, reordered "
                f"or sealed under another key; close the connection and dial again",
                packet=number,
            ) from error
        self._packets += 1
        self._bytes += len(plaintext)
        if self._packets >= self._packets_max or self._bytes >= self._bytes_max:
            self._rekey()
        return plaintext

    @property
    def opened(self) -> int:
        """How many packets opened so far."""
        return self._cipher.counter


def packet_frames() -> FrameReader:
    """A reader of sealed packets with this layout's limits."""
    return FrameReader(what="packet", length_min=TAG_BYTES, length_max=SEALED_BYTES_MAX, error=PacketTooLong)

"""Packets open once, in order, unaltered, under the same key: or the connection ends with a named error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.wire import BadPacket, PacketTooLong
from node.wire.noise import CipherState
from node.wire.packets import (
    PACKET_BYTES_MAX,
    REKEY_BYTES,
    REKEY_PACKETS,
    SEALED_BYTES_MAX,
    PacketOpener,
    PacketSealer,
    packet_frames,
)

KEY = bytes(range(32))


def ends(**limits: int) -> tuple[PacketSealer, PacketOpener]:
    return PacketSealer(CipherState(KEY), **limits), PacketOpener(CipherState(KEY), **limits)


@given(st.lists(st.binary(max_size=500), max_size=20))
def test_what_goes_in_comes_out(plaintexts: list[bytes]) -> None:
    sealer, opener = ends()
    frames = packet_frames()
    for plaintext in plaintexts:
        frames.feed(sealer.seal(plaintext))
    got = [opener.open(sealed) for sealed in frames.take_frames(100)]
    assert got == plaintexts


def test_repeated_skipped_and_reordered_packets_do_not_open() -> None:
    for order in ([0, 0], [1], [0, 2], [1, 0]):
        sealer, opener = ends()
        packets = [sealer.seal(bytes([number]) * 9)[4:] for number in range(3)]
        for number in order[:-1]:
            if number != 0:
                break
            assert opener.open(packets[number]) == bytes([number]) * 9
            order = order[1:]
        with pytest.raises(BadPacket) as caught:
            opener.open(packets[order[0]])
        assert caught.value.fields["packet"] == opener.opened


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    sealed = ends()[0].seal(b"to be kept")[4:]
    for bit in range(len(sealed) * 8):
        altered = bytearray(sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadPacket):
            ends()[1].open(bytes(altered))
    for size in range(len(sealed)):
        with pytest.raises(BadPacket):
            ends()[1].open(sealed[:size])
    with pytest.raises(BadPacket):
        ends()[1].open(sealed + b"\x00")
    assert ends()[1].open(sealed) == b"to be kept"


def test_another_key_does_not_open() -> None:
    sealed = PacketSealer(CipherState(b"\x07" * 32)).seal(b"x")[4:]
    with pytest.raises(BadPacket):
        ends()[1].open(sealed)


def test_the_direction_back_is_another_key() -> None:
    """A packet thrown back at its sender does not open there: see test_session for the whole path."""
    forth, back = CipherState(b"\x01" * 32), CipherState(b"\x02" * 32)
    with pytest.raises(BadPacket):
        PacketOpener(back).open(PacketSealer(forth).seal(b"x")[4:])


def test_limits_are_those_of_the_design() -> None:
    assert (PACKET_BYTES_MAX, REKEY_PACKETS, REKEY_BYTES) == (2**20, 2**24, 64 * 2**30)


def test_largest_packet_passes_and_a_larger_claim_is_refused() -> None:
    sealer, opener = ends()
    frames = packet_frames()
    frames.feed(sealer.seal(bytes(PACKET_BYTES_MAX)))
    frame = frames.next_frame()
    assert frame is not None and len(frame) == SEALED_BYTES_MAX
    assert opener.open(frame) == bytes(PACKET_BYTES_MAX)
    for length in (SEALED_BYTES_MAX + 1, 15, 0, 2**32 - 1):
        frames = packet_frames()
        frames.feed(length.to_bytes(4, "little"))
        with pytest.raises(PacketTooLong):
            frames.next_frame()


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=60),
    rekey_packets=st.integers(1, 9),
    rekey_bytes=st.integers(1, 200),
)
def test_both_ends_rekey_after_the_same_packet(sizes: list[int], rekey_packets: int, rekey_bytes: int) -> None:
    sealer, opener = ends(rekey_packets=rekey_packets, rekey_bytes=rekey_bytes)
    for number, size in enumerate(sizes):
        plaintext = bytes([number]) * size
        assert opener.open(sealer.seal(plaintext)[4:]) == plaintext
        assert sealer.rekeys == opener.rekeys
    assert sealer.rekeys >= len(sizes) // rekey_packets
    assert sealer.rekeys >= sum(sizes) // (rekey_bytes + 60)


def test_rekey_happens_at_the_limit_and_not_before() -> None:
    sealer, _ = ends(rekey_packets=3, rekey_bytes=100)
    seen = []
    for size in (1, 1, 1, 99, 1, 100, 1, 1):
        sealer.seal(bytes(size))
        seen.append(sealer.rekeys)
    assert seen == [0, 0, 1, 1, 2, 3, 3, 3]


def test_an_end_that_does_not_rekey_is_out_of_step() -> None:
    sealer = PacketSealer(CipherState(KEY), rekey_packets=2)
    opener = PacketOpener(CipherState(KEY), rekey_packets=3)
    opener.open(sealer.seal(b"a")[4:])
    opener.open(sealer.seal(b"b")[4:])
    with pytest.raises(BadPacket):
        opener.open(sealer.seal(b"c")[4:])

"""The handshake is Noise's, by the published vectors and by a second derivation; anything altered does not open."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from node.wire import HandshakeFailed
from node.wire.noise import HANDSHAKE_MESSAGE_BYTES, PROTOCOL_NAME, CipherState, HandshakeState, Role

VECTOR = json.loads((Path(__file__).parent / "cacophony_nnpsk0.json").read_text("utf-8"))
PSK = bytes(range(32))
PROLOGUE = b"prologue"


def initiator(psk: bytes = PSK, prologue: bytes = PROLOGUE) -> HandshakeState:
    return HandshakeState(Role.INITIATOR, psk=psk, prologue=prologue, ephemeral=b"\x11" * 32)


def responder(psk: bytes = PSK, prologue: bytes = PROLOGUE) -> HandshakeState:
    return HandshakeState(Role.RESPONDER, psk=psk, prologue=prologue, ephemeral=b"\x22" * 32)


def vector_end(role: Role, prefix: str) -> HandshakeState:
    return HandshakeState(
        role,
        psk=bytes.fromhex(VECTOR[f"{prefix}_psks"][0]),
        prologue=bytes.fromhex(VECTOR[f"{prefix}_prologue"]),
        ephemeral=bytes.fromhex(VECTOR[f"{prefix}_ephemeral"]),
    )


def test_published_vector_handshake_and_transport() -> None:
    assert VECTOR["protocol_name"].encode() == PROTOCOL_NAME
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in VECTOR["messages"]]
    first, second = vector_end(Role.INITIATOR, "init"), vector_end(Role.RESPONDER, "resp")

    assert first.write_message(messages[0][0]) == messages[0][1]
    assert second.read_message(messages[0][1]) == messages[0][0]
    assert second.write_message(messages[1][0]) == messages[1][1]
    assert first.read_message(messages[1][1]) == messages[1][0]
    assert first.handshake_hash.hex() == second.handshake_hash.hex() == VECTOR["handshake_hash"]

    forth, back = first.split()
    forth_too, back_too = second.split()
    assert len(messages) == 6
    for number, (payload, ciphertext) in enumerate(messages[2:]):
        sender, receiver = ((forth, forth_too), (back_too, back))[number % 2]
        assert sender.encrypt(payload) == ciphertext
        assert receiver.decrypt(ciphertext) == payload


def test_second_derivation_of_the_whole_pattern() -> None:
    """The same keys worked out straight from the specification's text, sharing no code with noise.py."""

    def hkdf(key: bytes, material: bytes, count: int) -> list[bytes]:
        temp = hmac.new(key, material, hashlib.sha256).digest()
        out = [hmac.new(temp, b"\x01", hashlib.sha256).digest()]
        for number in range(2, count + 1):
            out.append(hmac.new(temp, out[-1] + bytes([number]), hashlib.sha256).digest())
        return out

    def digest(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(parts)).digest()

    a, b = X25519PrivateKey.from_private_bytes(b"\x11" * 32), X25519PrivateKey.from_private_bytes(b"\x22" * 32)
    a_public, b_public = a.public_key().public_bytes_raw(), b.public_key().public_bytes_raw()
    h = ck = b"Noise_NNpsk0_25519_AESGCM_SHA256"
    h = digest(h, PROLOGUE)
    ck, extra, k = hkdf(ck, PSK, 3)
    h = digest(digest(h, extra), a_public)
    ck, k = hkdf(ck, a_public, 2)
    sealed_1 = AESGCM(k).encrypt(bytes(12), b"one", h)
    h = digest(digest(h, sealed_1), b_public)
    ck, k = hkdf(ck, b_public, 2)
    ck, k = hkdf(ck, a.exchange(X25519PublicKey.from_public_bytes(b_public)), 2)
    sealed_2 = AESGCM(k).encrypt(bytes(12), b"two", h)
    h = digest(h, sealed_2)
    k_forth, k_back = hkdf(ck, b"", 2)

    first, second = initiator(), responder()
    assert first.write_message(b"one") == a_public + sealed_1
    assert second.read_message(a_public + sealed_1) == b"one"
    assert second.write_message(b"two") == b_public + sealed_2
    assert first.read_message(b_public + sealed_2) == b"two"
    assert first.handshake_hash == second.handshake_hash == h
    forth, back = first.split()
    assert AESGCM(k_forth).decrypt(bytes(12), forth.encrypt(b"x"), None) == b"x"
    assert AESGCM(k_back).decrypt(bytes(12), back.encrypt(b"y"), None) == b"y"


def test_rekey_is_the_specification_s() -> None:
    key = bytes(range(32))
    cipher = CipherState(key)
    cipher.encrypt(b"before")
    cipher.rekey()
    next_key = AESGCM(key).encrypt(bytes(4) + b"\xff" * 8, bytes(32), b"")[:32]
    sealed = cipher.encrypt(b"after")
    assert AESGCM(next_key).decrypt(bytes(4) + (1).to_bytes(8, "big"), sealed, None) == b"after"  # counter runs on


def test_nonce_is_big_endian() -> None:
    cipher = CipherState(bytes(32))
    cipher.counter = 0x0102
    assert AESGCM(bytes(32)).decrypt(bytes(10) + b"\x01\x02", cipher.encrypt(b"x"), None) == b"x"


def test_another_psk_or_prologue_does_not_open() -> None:
    for reader in (responder(psk=b"\x01" * 32), responder(prologue=b"Prologue")):
        with pytest.raises(HandshakeFailed):
            reader.read_message(initiator().write_message())


def test_every_flipped_bit_of_either_message_is_refused() -> None:
    message_1 = initiator().write_message()
    assert len(message_1) == HANDSHAKE_MESSAGE_BYTES
    for bit in range(len(message_1) * 8):
        altered = bytearray(message_1)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(HandshakeFailed):
            responder().read_message(bytes(altered))

    second = responder()
    second.read_message(message_1)
    message_2 = second.write_message()
    for byte in range(len(message_2)):
        first = initiator()
        first.write_message()
        altered = bytearray(message_2)
        altered[byte] ^= 0x10
        with pytest.raises(HandshakeFailed):
            first.read_message(bytes(altered))


def test_short_messages_are_refused() -> None:
    message = initiator().write_message()
    for size in range(HANDSHAKE_MESSAGE_BYTES):
        with pytest.raises(HandshakeFailed):
            responder().read_message(message[:size])


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_low_order_points_are_refused_while_reading(point: bytes) -> None:
    with pytest.raises(HandshakeFailed, match="usable point"):
        responder().read_message(point + bytes(16))


def test_steps_out_of_order_are_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        responder().write_message()
    with pytest.raises(AssertionError):
        initiator().read_message(bytes(48))
    with pytest.raises(AssertionError):
        initiator().split()

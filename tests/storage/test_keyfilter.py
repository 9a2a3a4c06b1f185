"""The key filter never calls an added key absent, and seldom asks for a look in vain."""

from __future__ import annotations

from array import array
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import native
from storage.index.keyfilter import CAPACITY_MAX, KeyFilter, _NoFilter
from storage.values.keys import hash64

is_native = KeyFilter is not _NoFilter
both = pytest.mark.parametrize("kind", [_NoFilter, KeyFilter], ids=["none", "chosen"])


def key(number: int) -> bytes:
    return b"\x11" + number.to_bytes(8, "big")


def hashes(collection: int, keys: list[bytes]) -> array:
    return array("Q", [hash64(collection, its) for its in keys])


def test_the_kernel_has_one():
    assert is_native == (native.KERNEL is not None)


@both
@settings(deadline=None)
@given(st.lists(st.binary(max_size=300)), st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_an_added_key_is_never_absent(kind: type, keys: list[bytes], collection: int, capacity: int):
    found = kind(capacity)
    for start in range(0, len(keys), 7):
        found.add(hashes(collection, keys[start : start + 7]))
    assert found.may_hold(collection, keys) == b"\1" * len(keys) == found.may_hold(collection, tuple(keys))
    assert (found.count, found.capacity) == (len(keys), capacity)


@both
def test_what_is_refused(kind: type):
    for capacity in (0, -1, CAPACITY_MAX + 1):
        with pytest.raises(ValueError):
            kind(capacity)
    with pytest.raises(ValueError):
        kind(1).add(bytes(9))


@pytest.mark.skipif(not is_native, reason="the kernel is not built")
@pytest.mark.parametrize("capacity", [1_000, 40_000])
def test_false_positives_at_capacity(capacity: int):
    found = KeyFilter(capacity)
    assert found.may_hold(1, [key(0)]) == b"\0"
    found.add(hashes(1, [key(number) for number in range(capacity)]))
    assert found.bytes <= capacity * 13 / 8 + 64
    assert found.may_hold(1, [key(number) for number in range(capacity)]).count(1) == capacity
    asked = 100_000
    wrong = found.may_hold(1, [key(2**40 + number) for number in range(asked)]).count(1)
    assert wrong / asked < 0.01
    assert found.may_hold(2, [key(number) for number in range(1_000)]).count(1) < 40


@pytest.mark.skipif(not is_native, reason="the kernel is not built")
def test_what_the_native_one_refuses():
    found = KeyFilter(capacity=3)
    for collection, keys in ((-1, []), (2**32, []), (1, ["text"]), (1, [bytes(8193)]), (1, [b"", b"", None])):
        with pytest.raises((ValueError, OverflowError)):
            found.may_hold(collection, keys)
    for bad in (None, 5, "text"):
        with pytest.raises(TypeError):
            found.add(bad)
    with pytest.raises(AttributeError):
        found.count = 5
    assert found.count == 0


@pytest.mark.skipif(not is_native, reason="the kernel is not built")
def test_one_thread_adds_at_a_time_and_others_may_ask():
    """Nothing is lost where two would add at once: the second is refused."""
    many = array("Q", range(2**22))
    found = KeyFilter(2**23)
    mine = [key(number) for number in range(1_000)]
    found.add(hashes(1, mine))
    refused = 0
    for _ in range(20):
        adder = Thread(target=found.add, args=(many,))
        adder.start()
        while adder.is_alive() and not refused:
            assert found.may_hold(1, mine) == b"\1" * len(mine)
            try:
                found.add(hashes(1, [key(1_000)]))
            except RuntimeError:
                refused += 1
        adder.join()
        if refused:
            break
    assert refused
    found.add(hashes(1, [key(1_001)]))
    assert found.may_hold(1, [*mine, key(1_001)]) == b"\1" * 1_001

"""The hot cache: bounded, and never older than the database it stands in."""

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.cache import ENTRY_COST_BYTES, DocumentCache


def test_the_least_recently_used_goes_first_and_the_bytes_stay_within_the_bound():
    cache = DocumentCache(3 * (10 + ENTRY_COST_BYTES))
    for number in range(3):
        cache.put(1, b"%d" % number, b"x" * 10)
    assert cache.get(1, b"0") == b"x" * 10
    cache.put(1, b"3", b"y" * 10)
    assert [cache.get(1, b"%d" % number) is not None for number in range(4)] == [True, False, True, True]
    assert (cache.hits, cache.misses) == (4, 1)
    assert cache.bytes == 3 * (10 + ENTRY_COST_BYTES)


def test_a_document_larger_than_the_cache_is_not_kept():
    cache = DocumentCache(100)
    cache.put(1, b"a", b"x" * 1000)
    assert len(cache) == 0 and cache.bytes == 0


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["put", "get", "forget"]), st.integers(0, 9), st.integers(0, 300)), max_size=80))
def test_the_bytes_are_what_it_holds(steps):
    cache = DocumentCache(2_000)
    for step, key, size in steps:
        place = (1, b"%d" % key)
        if step == "put":
            cache.put(*place, b"x" * size)
        elif step == "get":
            cache.get(*place)
        else:
            cache.forget([place])
            assert cache.get(*place) is None
        held = [found for number in range(10) if (found := cache._documents.get((1, b"%d" % number))) is not None]
        assert cache.bytes == sum(map(len, held)) + ENTRY_COST_BYTES * len(held) <= 2_000

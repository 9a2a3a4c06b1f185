"""INV-6: the state hash depends on content alone."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.commit.codec import CATALOG
from storage.errors import DamagedRecord
from storage.versions.statehash import (
    CollectionState,
    StateFold,
    catalog_entry,
    fold_states,
    hash_document,
    state_hash,
)
from tests.shard.shard_world import document

DOCUMENTS = st.lists(st.binary(min_size=1, max_size=8), max_size=12, unique=True)


def state_of(documents: list[bytes]) -> CollectionState:
    state = CollectionState()
    for doc in documents:
        state.add(hash_document(doc))
    return state


def test_the_layout_is_the_one_drawn():
    digest = hashlib.blake2b(digest_size=32)
    h = hashlib.blake2b(b"doc", digest_size=32).digest()
    digest.update(b"\x01\0\0\0a" + bytes(8) + bytes(32))
    digest.update(b"\x02\0\0\0\xc3\xa9" + b"\x01" + bytes(7) + h)
    assert state_hash([("é", state_of([b"doc"])), ("a", CollectionState())]) == digest.hexdigest()
    assert state_hash([]) == hashlib.blake2b(digest_size=32).hexdigest()


@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_subtracting_undoes_adding(documents: list[bytes], rng: random.Random):
    shuffled = list(documents)
    rng.shuffle(shuffled)
    assert state_of(documents) == state_of(shuffled)
    state = state_of([*shuffled, b"extra more"])
    state.subtract(hash_document(b"extra more"))
    assert state == state_of(documents)
    assert 0 <= state.total < 2**256


@given(DOCUMENTS, DOCUMENTS)
def test_different_content_has_different_hashes(one: list[bytes], other: list[bytes]):
    same = set(one) == set(other)
    assert (state_hash([("c", state_of(one))]) == state_hash([("c", state_of(other))])) is same


def test_names_and_empty_collections_count():
    hashes = {
        state_hash([]),
        state_hash([("a", CollectionState())]),
        state_hash([("b", CollectionState())]),
        state_hash([("ab", CollectionState())]),
        state_hash([("a", CollectionState()), ("b", CollectionState())]),
    }
    assert len(hashes) == 5


def test_the_catalog_decides_which_collections_there_are():
    base = {1: ("users", state_of([b"u1", b"u2"])), 2: ("chat", state_of([b"c1"]))}
    changes = [
        (CATALOG, b"users", None, document("users", id=1)),
        (CATALOG, b"people", document("people", id=1), None),
        (1, b"k", b"u3", b"u1"),
        (CATALOG, b"chat", document("chat", id=3), document("chat", id=2)),
        (2, b"k", None, b"c1"),
        (3, b"k", b"new", None),
    ]
    expected = {1: ("people", state_of([b"u2", b"u3"])), 3: ("chat", state_of([b"new"]))}
    assert fold_states(base, changes) == expected
    assert base[1] == ("users", state_of([b"u1", b"u2"])), "the base is left alone"
    fold = StateFold(base)
    for collection, _, new, old in reversed(changes[2:]):
        fold.change(collection, new, old)
    for collection, _, new, old in changes[:2]:
        fold.change(collection, new, old)
    assert fold.states() == expected


@pytest.mark.parametrize(
    "doc", [b"", b"\xc1", b"\x01", document("x"), document(5, id=1), document("x", id="1"), document("x", id=0)]
)
def test_what_is_no_catalog_document_is_damage(doc: bytes):
    with pytest.raises(DamagedRecord):
        catalog_entry(doc)

"""Key files read back as written; what is wrong is named by line, and a key never shows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.wire import Key, KeyFileError, format_keys, new_key, parse_keys
from node.wire.keys import KEYS_MAX

from .pair import KEY, OTHER_KEY

LINE = format_keys((KEY,)).strip()


def test_the_text_is_the_documented_line() -> None:
    assert format_keys((KEY,)) == f"twinlog-key-1 {KEY.id.hex()} {KEY.psk.hex()}\n"


@given(st.lists(st.binary(min_size=16, max_size=16).filter(any), min_size=1, max_size=5, unique=True), st.data())
def test_keys_come_back_in_order(ids: list[bytes], data: st.DataObject) -> None:
    keys = tuple(Key(key_id, data.draw(st.binary(min_size=32, max_size=32))) for key_id in ids)
    ring = parse_keys(format_keys(keys))
    assert ring.keys == keys
    assert ring.dial == keys[0]
    assert [ring.psk_of(key.id) for key in keys] == [key.psk for key in keys]
    assert ring.psk_of(bytes(16)) is None


def test_comments_blank_lines_and_line_ends() -> None:
    ring = parse_keys(f"# clients of shop\r\n\r\n  {LINE.upper().replace('TWINLOG-KEY-1', 'twinlog-key-1')}  \r\n")
    assert ring.keys == (KEY,)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 0),
        ("# nothing\n", 0),
        ("x" * 70_000, 0),
        ("twinlog-key-2 a b", 1),
        (f"\n{LINE} more", 2),
        (LINE[:-1], 1),
        (f"{LINE}0", 1),
        (LINE[:-1] + "g", 1),
        (LINE[:-2] + "\u0661\u0662", 1),
        (f"twinlog-key-1 {'0' * 32} {KEY.psk.hex()}", 1),
        (f"{LINE}\n{LINE}", 2),
        ("".join(f"twinlog-key-1 {n:032x} {KEY.psk.hex()}\n" for n in range(1, KEYS_MAX + 2)), KEYS_MAX + 1),
    ],
)
def test_bad_files_are_named_by_line_without_the_key(text: str, line: int) -> None:
    with pytest.raises(KeyFileError) as caught:
        parse_keys(text)
    assert caught.value.fields == {"line": line}
    assert KEY.psk.hex()[:16] not in caught.value.message
    assert caught.value.refusal == "ConfigError"


def test_a_key_shows_in_no_repr() -> None:
    ring = parse_keys(format_keys((KEY, OTHER_KEY)))
    for shown in (repr(KEY), repr(ring), str(ring.dial)):
        assert KEY.id.hex() in shown
        assert KEY.psk.hex() not in shown


def test_new_keys_are_fresh_and_never_have_the_plain_id() -> None:
    source = random.Random(5)
    assert new_key(source.randbytes) != new_key(source.randbytes)
    answers = [bytes(16), b"\x01" * 16, b"\x02" * 32]
    assert new_key(lambda size: answers.pop(0)) == Key(b"\x01" * 16, b"\x02" * 32)

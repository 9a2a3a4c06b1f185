"""What a pattern requires is in every text that it matches, whichever engine matches; and it requires what one would expect."""

from __future__ import annotations

import random
import re
import unicodedata

import pytest
import re2
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.query.literals import (
    ANYTHING,
    NEED_LITERALS_MAX,
    And,
    Edge,
    Literal,
    Need,
    Or,
    fold_case,
    required,
)
from tests.query.needs import is_met

FREE, WORD, TERM = Edge


def lit(text: str, at_start: Edge = FREE, at_end: Edge = FREE, *, ignore_case: bool = False) -> Literal:
    return Literal(text.encode(), ignore_case, at_start, at_end)


EXPECTED = [
    ("abc", "", lit("abc")),
    ("two words", "", lit("two words")),
    ("^abc", "", lit("abc", TERM)),
    ("^abc$", "m", lit("abc", TERM, TERM)),
    (r"\Aabc\z", "", lit("abc", TERM, TERM)),
    (r"\bcat\b", "", lit("cat", WORD, WORD)),
    (r"\b-cat\b.*", "", lit("-cat", FREE, WORD)),
    (r"\bécat\b", "", lit("écat", FREE, WORD)),
    (r"é\b.", "", lit("é")),
    (r"-\b", "", lit("-")),
    (r"foo\b-bar", "", lit("foo-bar")),
    ("AbC", "i", lit("abc", ignore_case=True)),
    ("(?i)Abc", "", lit("abc", ignore_case=True)),
    ("A(?i:b)c", "", lit("abc", ignore_case=True)),
    ("fooÜber", "i", lit("fooüber", ignore_case=True)),
    (r"\bStraße", "i", lit("strasse", WORD, ignore_case=True)),
    ("fooÜber", "", lit("fooÜber")),
    ("colou?r", "", Or((lit("color"), lit("colour")))),
    ("gr[ae]y", "", Or((lit("gray"), lit("grey")))),
    ("x[0-9]y", "", And((lit("x"), lit("y")))),
    ("x[^a]y", "", And((lit("x"), lit("y")))),
    ("foo|bar", "", Or((lit("foo"), lit("bar")))),
    ("foo|ba.*r", "", Or((lit("foo"), And((lit("ba"), lit("r")))))),
    ("foo|.*", "", ANYTHING),
    ("foo(bar|)baz", "", Or((lit("foobarbaz"), lit("foobaz")))),
    ("(?:foo)(?P<n>bar)(?<m>baz)", "", lit("foobarbaz")),
    ("ab+c", "", And((lit("ab"), lit("bc")))),
    ("ab*c", "", And((lit("a"), lit("c")))),
    ("a{3}", "", lit("aaa")),
    ("(ab){2,}c", "", And((lit("abab"), lit("ababc")))),
    ("a{0}b", "", lit("b")),
    ("foo.*bar", "s", And((lit("foo"), lit("bar")))),
    (r"1\.5\x41\t", "", lit("1.5A\t")),
    (r"\d+ apples", "", lit(" apples")),
    (r"\p{L}foo\pLbar", "", And((lit("foo"), lit("bar")))),
    ("", "", ANYTHING),
    (".*", "", ANYTHING),
]

NOT_READ = [
    *("foo(?=bar)", "(?!a)foo", "(?<=a)foo", "(?<!a)foo", r"(a)\1foo", r"(?P<n>a)(?P=n)foo", "(?#note)foo", "(?|a|b)foo"),
    *("(*UTF8)foo", r"\Qa.b\E", r"foo\Kbar", "(?x)f o o", "(?(1)a|b)foo", r"\0foo", r"\x{41}", r"\cAfoo", r"foo\yz", r"\ü"),
    *(
        "foo{e<=1}",
        "foo{,3}",
        "foo{",
        "{foo",
        "[[:alpha:]]",
        "[a&&b]",
        "[]a]",
        "[a",
        "(foo",
        "foo)",
        "*foo",
        "a**",
        "a{2}{3}",
        "^*a",
    ),
    *("foo\\", "(?", "(?P<n", r"\p{L", "(?P<1>a)", "(?i", "[a\\", "[a-"),
    *("(" * 60 + "a" + ")" * 60, "a" * 5_000, "((((((((a{8}){8}){8}){8}){8}){8}){8}){8}){8}"),
    "|".join(f"word{n}" for n in range(NEED_LITERALS_MAX + 1)),
    "foo\ud800",
]


@pytest.mark.parametrize(("pattern", "options", "need"), EXPECTED)
def test_it_requires_what_one_would_expect(pattern: str, options: str, need: Need):
    assert required(pattern, options) == need


@pytest.mark.parametrize("pattern", NOT_READ, ids=lambda pattern: ascii(pattern[:20]))
def test_what_engines_may_read_differently_requires_nothing(pattern: str):
    assert required(pattern) == ANYTHING


@pytest.mark.parametrize("options", ["x", "ix", "q", " "])
def test_options_that_it_does_not_know_require_nothing(options: str):
    assert required("foo", options) == ANYTHING


def test_nested_repeats_take_bounded_time():
    pattern = "a"
    for _ in range(49):
        pattern = f"(?:{pattern})+"
    assert required(pattern) == ANYTHING


# Random patterns, mostly of what the reader knows, each with a text that it matches (but for anchors that came to stand inside).

OTHERS = [
    (".", "x"),
    ("^", ""),
    ("$", ""),
    (r"\b", ""),
    (r"\B", ""),
    (r"\d", "1"),
    (r"\w", "_"),
    (r"\W", "-"),
    (r"\s", "\n"),
    (r"\.", "."),
]
OTHERS += [
    (r"\n", "\n"),
    (r"\x41", "A"),
    (r"\A", ""),
    (r"\bab\b", "ab"),
    ("^ab", "ab"),
    ("ab$", "ab"),
    ("[ab]", "b"),
    ("[^a]", "é"),
]
OTHERS += [
    ("[a-d]", "c"),
    ("[ -k]", "-"),
    ("[a-zé]", "é"),
    (r"[\d_]", "7"),
    (r"[a\-b]", "-"),
    ("[k]", "k"),
    ("[-a]", "-"),
    ("[a-]", "a"),
]
OTHERS += [("(?i)", ""), ("(?m)", "")]
REPEATS = {
    "*": (0, 1, 3),
    "+": (1, 3),
    "?": (0, 1),
    "{2}": (2,),
    "{0,2}": (0, 2),
    "{2,}": (2, 3),
    "{1}": (1,),
    "+?": (1, 2),
    "??": (0,),
}
LETTERS = "abkKsi_ -éßÉ"


def letters(rng: random.Random, most: int, least: int = 0) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randint(least, most)))


def sequence(rng: random.Random, depth: int) -> tuple[str, str]:
    parts = [piece(rng, depth) for _ in range(rng.randint(1, 3))]
    return "".join(pattern for pattern, _ in parts), "".join(text for _, text in parts)


def piece(rng: random.Random, depth: int) -> tuple[str, str]:
    """(pattern, text)"""
    kind = rng.randrange(8 if depth else 4)
    if kind == 0:
        return rng.choice(OTHERS)
    if kind < 4:
        literal = letters(rng, 3, 1)
        return literal, literal
    pattern, text = sequence(rng, depth - 1)
    if kind == 4:
        repeat, times = rng.choice(list(REPEATS.items()))
        return f"(?:{pattern}){repeat}", text * rng.choice(times)
    if kind == 5:
        branches = [(pattern, text), *(sequence(rng, depth - 1) for _ in range(rng.randint(0, 2)))]
        return "(?:" + "|".join(branch for branch, _ in branches) + ")", rng.choice(branches)[1]
    if kind == 6:
        opening = rng.choice(["(", "(?i:", "(?:"])
        return f"{opening}{pattern})", text.swapcase() if opening == "(?i:" else text
    repeat, times = rng.choice(list(REPEATS.items()))
    return f"{pattern}a{repeat}", text + "a" * rng.choice(times)


def engines(pattern: str, options: str) -> list:
    """Compiled by all engines that take it; the standard library's stands for PCRE."""
    found = []
    quiet = re2.Options()
    quiet.log_errors = False
    try:
        found.append(re2.compile(f"(?{options}){pattern}" if options else pattern, quiet))
    except re2.error:
        pass
    for engine in (regex, re):
        try:
            found.append(engine.compile(pattern, sum(getattr(engine, option.upper()) for option in options)))
        except engine.error:
            pass
    return found


def check(pattern: str, options: str, texts: list[str]) -> None:
    need = required(pattern, options)
    for engine in engines(pattern, options):
        for text in texts:
            assert not engine.search(text) or is_met(need, text), (engine, text, need)


@given(st.integers(0, 2**32))
def test_every_match_meets_the_need(seed: int):
    rng = random.Random(seed)
    for _ in range(5):
        pattern, text = sequence(rng, 2)
        before, behind = letters(rng, 3), letters(rng, 3)
        texts = [
            text,
            before + text,
            text + behind,
            f"{before}\n{text}\n{behind}",
            text.swapcase(),
            text.upper(),
            before + behind,
        ]
        check(pattern, rng.choice(["", "", "i", "m", "s", "im"]), [*texts, text.replace("k", "\u212a").replace("s", "ſ")])


def test_letters_beyond_ascii_stand_for_letters_and_beside_words():
    check("(?i)skI", "", ["xſ\u212ai", "SKI", "ſkİ"])
    check(r"\bab\b", "", ["éab", "abé", "é ab", "ab"])
    check(r"\bab\b", "i", ["ſab", "ABß", "xab"])


@settings(max_examples=200)
@given(st.text("ab()[]{}*+?|\\^$.-,:<>=!#iPx1&e \n\0é", max_size=20), st.text("ab()*+ .-\n", max_size=8))
def test_any_string_has_a_need_and_no_error(pattern: str, text: str):
    check(pattern, "", [text])


def test_what_engines_take_for_equal_folds_to_the_same():
    cased = [
        char
        for char in map(chr, range(0x20000))
        if not "\ud800" <= char <= "\udfff" and len({char, char.lower(), char.upper(), char.title()}) > 1
    ]
    folded = {char: fold_case(char) for char in cased}
    everything = "".join(cased)
    for char in cased:
        for engine in (re2, regex):
            alike = engine.findall(f"(?i){char}", everything)
            assert char in alike
            assert {folded[other] for other in alike} == {folded[char]}, (engine, alike)


UNASSIGNED = next(char for char in map(chr, range(0x378, 0x110000)) if unicodedata.category(char) == "Cn")


def test_characters_without_a_known_case_require_nothing():
    assert required(f"foo{UNASSIGNED}", "i") == ANYTHING
    assert required(f"foo{UNASSIGNED}") == lit(f"foo{UNASSIGNED}")


@given(st.text("aßſΣσςİıΐẞ\u212aé\u0307 "), st.text("aßſΣσςİıΐẞ\u212aé\u0307 "))
def test_folding_does_not_look_at_neighbours(one: str, other: str):
    assert fold_case(one + other) == fold_case(one) + fold_case(other)


def test_folding_leaves_words_words():
    """No character of ASCII that is no letter comes out of one that is none, nor goes: words are cut alike before and after."""
    for char in map(chr, range(0x110000)):
        if not "\ud800" <= char <= "\udfff":
            folded = fold_case(char)
            is_word = not char.isascii() or char.isalnum() or char == "_"
            assert all((not c.isascii() or c.isalnum() or c == "_") == is_word for c in folded), char

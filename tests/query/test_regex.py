"""Promises of storage/query/regex.py: PCRE's meaning, in bounded time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadQuery
from storage.query.regex import EXACT_PATTERN_MAX, SECONDS_MAX, compile_regex
from storage.query.regex_syntax import translate

# pattern, options, texts that match, texts that do not (checked once against PCRE2 10.42 with its UTF option)
MEANINGS = [
    ("abc", "", ["xabcx", "abc"], ["ABC", "ab"]),
    ("^abc", "", ["abcx"], ["xabc", "x\nabc"]),
    ("^abc", "m", ["abcx", "x\nabc"], ["xabc"]),
    ("^$", "m", ["", "a\n\nb", "\na"], ["a\n"]),  # no line begins after the newline that ends the text
    ("abc$", "", ["abc", "abc\n"], ["abc\n\n", "abcd", "abc\nx"]),
    ("abc$", "m", ["abc\nx", "abc\n\n"], ["abcd"]),
    ("(abc$|x)", "", ["abc\n", "xy"], ["abcd"]),
    ("a$\\n", "", ["a\n"], ["a"]),
    ("(a$)?b", "", ["b", "ab"], ["a"]),
    ("a\\Z", "", ["a", "a\n"], ["a\n\n"]),
    ("a\\z", "", ["a"], ["a\n"]),
    ("\\Aa", "m", ["a"], ["x\na"]),
    ("a.c", "", ["abc", "a\rc"], ["a\nc"]),
    ("a.c", "s", ["a\nc"], ["ac"]),
    ("\\w", "", ["a", "_", "5"], ["é", "-", "ß"]),
    ("\\w", "i", ["K"], ["\u017f", "\u212a"]),
    ("k", "i", ["K", "\u212a"], ["j"]),
    ("ß", "i", ["ẞ", "ß"], ["ss"]),
    ("É", "i", ["é"], ["e"]),
    ("\\d+", "", ["5"], ["٣"]),
    ("\\s", "", [" ", "\v", "\f"], ["\u00a0", "\u0085"]),
    ("\\h", "", ["\u00a0", "\t"], ["\n"]),
    ("\\v", "", ["\n", "\u2028", "\v"], [" "]),
    ("a\\Rb", "", ["a\r\nb", "a\nb"], ["ab"]),
    ("\\bk", "", ["a k", "ék"], ["ak"]),
    ("\\Bk", "", ["ak"], ["a k"]),
    ("[]a]", "", ["]", "a"], ["b"]),
    ("[^]a]", "", ["b"], ["]", "a"]),
    ("[a-]", "", ["-"], ["b"]),
    ("[\\w-]+$", "", ["a-b"], ["é"]),
    ("[^\\W\\d]", "", ["a"], ["5", "-", "é"]),
    ("[\\W]", "i", ["-", "é"], ["s", "k"]),
    ("[^\\Wa]", "i", ["b"], ["a", "A", "-"]),
    ("[[:alpha:]]", "", ["a"], ["5", "é"]),
    ("[[:upper:]]", "i", ["a"], ["5"]),
    ("[[:^digit:]x]", "", ["a", "x"], ["5"]),
    ("\\p{Lu}", "", ["É"], ["é"]),
    ("\\p{Lu}", "i", ["É"], ["é"]),
    ("\\x41\\x{e9}\\101", "", ["AéA"], ["A"]),
    ("\\Qa.b\\E*", "", ["a.", "a.bbb"], ["axb"]),
    ("a{,2}", "", ["a{,2}"], ["aa"]),
    ("a{2", "", ["a{2"], ["aa"]),
    ("a{2,3}b", "", ["aab", "aaab"], ["ab"]),
    ("a b # c\n d", "x", ["abd"], ["a b"]),
    ("[ #]\\ ", "x", ["  ", "# "], ["a "]),
    ("a(?i)b|c", "", ["aB", "C"], ["AB"]),
    ("(a(?i)b|c)d", "", ["aBd", "Cd"], ["aBD"]),
    ("(?i:a)b", "", ["Ab"], ["AB"]),
    ("(?-i)a", "i", ["a"], ["A"]),
    ("(?#note)a", "", ["a"], ["b"]),
    ("(?<x>a)(?P<y>b)(?'z'c)\\k<x>\\k'y'\\g{z}\\g{-3}", "", ["abcabca"], ["abcabcb"]),
    ("(a)\\1", "", ["aa"], ["ab"]),
    ("(?|(a)|(b))\\1", "", ["aa", "bb"], ["ab"]),
    ("a(?=b)", "", ["ab"], ["ac"]),
    ("(?<!a)b", "", ["cb"], ["ab"]),
    ("a++a", "", [], ["aaa"]),
    ("(?>a|ab)c", "", ["ac"], ["abc"]),
    ("x\\Ky", "", ["xy"], ["y"]),
    ("", "", ["", "x"], []),
    ("é+", "u", ["éé"], ["e"]),
    ("😀", "", ["a😀"], ["😁"]),
]


@pytest.mark.parametrize(("pattern", "options", "matching", "others"), MEANINGS)
def test_a_pattern_means_what_it_means_in_pcre(pattern: str, options: str, matching: list[str], others: list[str]) -> None:
    matcher = compile_regex(pattern, options)
    for text in matching:
        assert matcher.search(text) is True, text
    for text in others:
        assert matcher.search(text) is False, text


@pytest.mark.parametrize(
    ("pattern", "options", "code", "named"),
    [
        ("(", "", 51091, "not closed"),
        (")", "", 51091, "opening"),
        ("[a", "", 51091, "not closed"),
        ("[b-a]", "", 51091, "descends"),
        ("[[:foo:]]", "", 51091, "foo"),
        ("[:alpha:]", "", 51091, "inside a class"),
        ("*a", "", 51091, "repeat"),
        ("a**", "", 51091, "repeat"),
        ("^*", "", 51091, "repeat"),
        ("a{3,2}", "", 51091, "bounds"),
        ("a{70000}", "", 51091, "bounds"),
        ("a\\", "", 51091, "backslash"),
        ("\\y", "", 51091, "unknown"),
        ("\\C", "", 51091, "single byte"),
        ("\\x{110000}", "", 51091, "no character"),
        ("\\x{d800}", "", 51091, "no character"),
        ("\\p{Nonsense}", "", 51091, "invalid"),
        ("(?R)", "", 51091, "recursion"),
        ("(?(1)a|b)", "", 51091, "conditions"),
        ("(*UCP)a", "", 51091, "verbs"),
        ("(?<a>x)(?<a>y)", "", 51091, "two groups"),
        ("(?<1>x)", "", 51091, "name"),
        ("\\2(a)", "", 51091, "no group 2"),
        ("(" * 251 + ")" * 251, "", 51091, "nest"),
        ("(" * 10_000, "", 51091, "nest"),
        ("(?=a)" * (EXACT_PATTERN_MAX // 5 + 1), "", 51091, "characters"),
        ("\ud800", "", 51091, "Unicode"),
        ("a\0", "", 2, "NUL"),
        ("a" * 32_765, "", 2, "too long"),
        ("a", "g", 51108, "'g'"),
        ("a", "l", 51108, "'l'"),
    ],
)
def test_a_bad_pattern_is_refused_by_name(pattern: str, options: str, code: int, named: str) -> None:
    with pytest.raises(BadQuery, match=named) as refused:
        compile_regex(pattern, options)
    assert refused.value.code == code


def test_the_usual_patterns_run_in_linear_time() -> None:
    for pattern in ("(a+)+$", "(a|aa)+$", "(.*)(.*)(.*)x", "^(\\w+\\s?)*$", "(?i)hello.*world", "[^\\s,]+@\\w+\\.com$"):
        assert translate(pattern, "").linear is not None, pattern
    assert compile_regex("(a+)+$").search("a" * 10_000 + "b") is False
    assert compile_regex("(a|aa)+$").search("a" * 1_000_000 + "b") is False


@pytest.mark.parametrize("pattern", ["(a+)+\\1$", "(?=(a+)+b)a", "(?:(?:a?){100}){100}(?=b)"])
def test_a_runaway_is_stopped_by_name(pattern: str) -> None:
    with pytest.raises(BadQuery, match=f"more than {SECONDS_MAX * 1000:.0f} ms") as refused:
        compile_regex(pattern).search("a" * 10_000 + "c")
    assert refused.value.code == 51156


def test_huge_repetitions_are_bounded() -> None:
    for pattern in ("((a{1,100}){1,100}){1,100}", "[ab]*a[ab]{900}c", "a{65535}"):
        assert compile_regex(pattern).search("b") is False


def test_equal_patterns_are_compiled_once() -> None:
    assert compile_regex("a+b", "i") is compile_regex("a+b", "i")
    assert compile_regex("a+b", "mi") == compile_regex("a+b", "im") != compile_regex("a+b", "i")


# Python's own engine is the oracle where it means the same: ASCII classes, no case folding beyond ASCII.
PIECES = ["a", "b", "\n", " ", "5", "-", ".", "\\w", "\\W", "\\d", "\\s", "\\S", "\\b", "\\B", "[ab]", "[^a]", "[\\w-]", "[^\\s5]", "\\.", "(?=a)", "(?!b)"]
CALM = ["a", "b", "c", ".", "\\w", "[ab]", "\\d"]
quantified = st.builds(lambda piece, times: piece + times, st.sampled_from(CALM), st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?"]))
sequences = st.lists(st.one_of(st.sampled_from([*PIECES, "^", "$", "\\A"]), quantified), max_size=5).map("".join)
patterns = st.recursive(
    sequences,
    lambda inner: st.one_of(
        st.builds("({})".format, inner),
        st.builds("(?:{})".format, inner),
        st.builds("{}|{}".format, inner, inner),
        st.builds("{}{}".format, inner, inner),
    ),
    max_leaves=4,
)
texts = st.text(st.sampled_from("abAB5 -\nc."), max_size=8)


@given(patterns, st.sets(st.sampled_from("is")), texts)
def test_search_agrees_with_an_oracle(pattern: str, options: set[str], text: str) -> None:
    if "\\B" in pattern and not text:
        return  # Python finds no \B in an empty text; PCRE does
    flags = re.ASCII | (re.IGNORECASE if "i" in options else 0) | (re.DOTALL if "s" in options else 0)
    expected = re.search(pattern, text, flags) is not None
    assert compile_regex(pattern, "".join(options)).search(text) is expected


@given(st.text(max_size=12), st.text(max_size=3), st.text(max_size=12))
def test_any_pattern_is_searched_for_or_refused(pattern: str, options: str, text: str) -> None:
    try:
        assert compile_regex(pattern, options).search(text) in (True, False)
    except BadQuery as refused:
        assert refused.code in (2, 51091, 51108, 51156)


@given(st.text(st.sampled_from("()[]{}|?*+\\^$.-:<>=!aiQEx01,"), max_size=14), texts)
def test_so_is_any_heap_of_signs(pattern: str, text: str) -> None:
    try:
        assert compile_regex(pattern).search(text) in (True, False)
    except BadQuery as refused:
        assert refused.code in (51091, 51156)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), texts)
def test_a_quoted_text_finds_itself(text: str, around: str) -> None:
    if "\\E" in text:
        return
    assert compile_regex(f"\\Q{text}\\E").search(around + text + around)
    assert compile_regex(f"\\A\\Q{text}\\E\\z").search(text)

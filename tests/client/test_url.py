"""URLs and options: what is understood, and what is refused with the part named and no password shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlog.errors import ConfigurationError, InvalidURI
from twinlog.url import OPTIONS, ReadFrom, host_and_port, parse_url


def parse(url, *, environ=None, **overrides):
    return parse_url(url, environ=environ or {}, **overrides)


def test_a_full_url():
    found = parse("twinlog://ann:p%40ss@a:7000,b,[::1]:7001/shop?pool=8&read=any&key=k.txt&timeout_s=2.5&retry_s=0")
    assert found.nodes == ("a:7000", "b:6900", "[::1]:7001")
    assert (found.user, found.password, found.database) == ("ann", "p@ss", "shop")
    assert (found.pool, found.read_from, found.key_file) == (8, ReadFrom.ANY, "k.txt")
    assert (found.timeout_s, found.retry_s, found.connect_timeout_s) == (2.5, 0, OPTIONS["connect_timeout_s"].default)


def test_a_bare_host_will_do():
    found = parse("localhost")
    assert found.nodes == ("localhost:6900",)
    assert (found.user, found.password, found.database, found.key_file) == (None, None, None, None)
    assert (found.pool, found.read_from) == (4, ReadFrom.PRIMARY)


def test_arguments_win_over_the_url_and_the_url_over_the_environment():
    environ = {"TWINLOG_KEY_FILE": "env.key", "TWINLOG_PASSWORD": "secret"}
    assert parse("h", environ=environ).key_file == "env.key"
    assert parse("h?key=", environ=environ).key_file is None
    assert parse("h?key=url.key", environ=environ).key_file == "url.key"
    assert parse("h?key=url.key&pool=2", environ=environ, key="arg.key", pool=3).key_file == "arg.key"
    assert parse("h?pool=2", pool=3).pool == 3
    assert parse("twinlog://ann@h", environ=environ).password == "secret"
    assert parse("twinlog://ann:own@h", environ=environ).password == "own"
    assert parse("h", environ=environ).password is None


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://h", "http"),
        ("twinlog://", "no host"),
        ("twinlog:///db", "no host"),
        ("h:0", "port"),
        ("h:65536", "port"),
        ("h:x", "port"),
        ("h:²", "port"),
        ("a,,b", "missing"),
        ("::1", "IPv6"),
        ("[::1", "IPv6"),
        ("[::1]x", "IPv6"),
        ("h/a/b", "one database"),
        ("h?pool=2&pool=3", "twice"),
        ("h?password=x", "before the host"),
        (",".join(f"h{number}" for number in range(65)), "at most 64"),
    ],
)
def test_a_wrong_url_is_refused_with_its_part(url, part):
    with pytest.raises(InvalidURI, match=part):
        parse(url)


@pytest.mark.parametrize(
    "query", ["pool=0", "pool=2.5", "pool=x", "timeout_s=nan", "timeout_s=0", "retry_s=-1", "read=nearest", "poll=1"]
)
def test_a_wrong_option_is_refused_by_name(query):
    with pytest.raises(ConfigurationError, match=query.split("=")[0]):
        parse(f"h?{query}")


def test_a_user_without_password_is_told_where_to_put_it():
    with pytest.raises(ConfigurationError, match="TWINLOG_PASSWORD"):
        parse("twinlog://ann@h")


def test_a_password_is_never_shown():
    found = parse("twinlog://ann:hunter2@h")
    assert "hunter2" not in repr(found)
    with pytest.raises(InvalidURI) as caught:
        parse("twinlog://ann:hunter2@h:bad")
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_understood_or_refused(text):
    try:
        found = parse(text)
    except ConfigurationError as error:
        assert str(error)
    else:
        assert all(1 <= host_and_port(node)[1] <= 65535 for node in found.nodes)

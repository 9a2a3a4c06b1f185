"""One mapping of the configuration file, which knows its own path. Pure: the YAML is read elsewhere.

A Section hands out values checked by the settings table, remembers what was asked for, and `finish` refuses what is
left over, with a hint of the nearest known name. Every error carries the YAML path of the value it speaks of.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from storage import errors

from .settings import NAME_CHARS_MAX, Kind, Setting

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
NONE = "none"  # how an address is switched off


class Address(NamedTuple):
    """A host and a TCP port; port 0 only where something is bound."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or re.match(r"127(\.\d{1,3}){3}\Z", self.host) is not None


class Section:
    """A mapping at `path`, read by the rows of `table` whose paths begin with `table_path`."""

    def __init__(self, content: Any, table: tuple[Setting, ...], *, path: str = "", table_path: str | None = None):
        self.path = path
        self._table_path = path if table_path is None else table_path
        if content is None:
            content = {}
        if not isinstance(content, Mapping):
            raise errors.ConfigError(
                f"{path or 'the file'} must be a mapping of settings, not {_kind_of(content)}", path=path
            )
        self._content = dict(content)
        self._table = table
        self._rows = {row.path: row for row in table}
        self._asked: set[str] = set()

    def value(self, key: str) -> Any:
        """The checked value of one setting, or its default."""
        row = self._rows[f"{self._table_path}.{key}" if self._table_path else key]
        self._asked.add(key)
        given = self._content.get(key)
        if given is None:
            return row.default
        if row.kind is Kind.INTEGER:
            return self._integer(key, row, given)
        if row.kind is Kind.FLAG:
            if not isinstance(given, bool):
                raise self.error(key, f"{given!r} must be true or false")
            return given
        if row.kind is Kind.RATIO:
            if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given <= 1:
                raise self.error(key, f"{given!r} must be a number above 0 and at most 1")
            return float(given)
        if not isinstance(given, str):
            raise self.error(key, f"{given!r} must be text ({row.kind.value}), not {_kind_of(given)}")
        if row.kind is Kind.CHOICE:
            if given not in row.choices:
                raise self.error(key, f"{given!r} must be one of {', '.join(row.choices)}{_hint(given, row.choices)}")
            return given
        if row.kind is Kind.NAME:
            return self._name(key, given)
        if row.kind is Kind.ADDRESS:
            return self._address(key, given)
        if not given or "\0" in given:
            raise self.error(key, f"{given!r} must be the path of a {row.kind.value}")
        return given

    def required(self, key: str, why: str) -> Any:
        """The same, refusing absence."""
        value = self.value(key)
        if value is None:
            raise self.error(key, f"must be set: {why}")
        return value

    def section(self, key: str) -> Section:
        """The mapping under key; empty when absent."""
        self._asked.add(key)
        table_path = f"{self._table_path}.{key}" if self._table_path else key
        return Section(self._content.get(key), self._table, path=self._at(key), table_path=table_path)

    def each(self) -> list[tuple[str, Section]]:
        """A mapping of names to mappings: `nodes`."""
        found = []
        for key in self._content:
            name = self._name(str(key), key)
            self._asked.add(name)
            table_path = f"{self._table_path}.*" if self._table_path else "*"
            found.append((name, Section(self._content[key], self._table, path=self._at(name), table_path=table_path)))
        return found

    def error(self, key: str, rule: str) -> errors.ConfigError:
        """The refusal of one value, naming its path."""
        path = self._at(key)
        return errors.ConfigError(f"{path}: {rule}", path=path)

    def finish(self) -> None:
        """Refuse every key that nothing asked for."""
        for key in self._content:
            if key not in self._asked:
                raise self.error(str(key), f"there is no such setting{_hint(str(key), self._asked)}")

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _integer(self, key: str, row: Setting, given: Any) -> int:
        if isinstance(given, bool) or not isinstance(given, int):
            raise self.error(key, f"{given!r} must be a whole number of {row.unit}")
        if row.at_least is not None and given < row.at_least:
            raise self.error(key, f"{given} must be at least {row.at_least} {row.unit}")
        if row.at_most is not None and given > row.at_most:
            raise self.error(key, f"{given} must be at most {row.at_most} {row.unit}")
        return given

    def _name(self, key: str, given: Any) -> str:
        if not isinstance(given, str) or len(given) > NAME_CHARS_MAX or not _NAME.match(given):
            raise self.error(
                key, f"{given!r} must be a name of 1 to {NAME_CHARS_MAX} letters, digits, `_`, `.` or `-`, not beginning with a sign"
            )
        return given

    def _address(self, key: str, given: str) -> Address | str:
        if given == NONE:
            return NONE
        host, colon, port = given.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise self.error(key, f"{given!r}: an IPv6 address stands in brackets, as in [::1]:6900")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise self.error(key, f"{given!r} must be host:port, with a port from 0 to 65535")
        return Address(host, int(port))


def _hint(given: str, known: Any) -> str:
    near = difflib.get_close_matches(given, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _kind_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"{value!r}"

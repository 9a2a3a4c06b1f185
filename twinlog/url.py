"""Connection URLs and options: text to Settings. Pure: the environment is handed in, key files are read elsewhere.

    twinlog://[user[:password]@]host[:port][,host[:port]...]/[database][?option=value&...]

"host[:port][,...]" without the scheme means the same. IPv6 addresses stand in brackets. Reserved characters in user and
password are percent-encoded. An empty key (`?key=`) means a plain connection whatever the environment says. OPTIONS is the one table of options: their type, default, limits and meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, unquote

from .errors import ConfigurationError, InvalidURI

SCHEME = "twinlog://"
PORT_DEFAULT = 6900
HOSTS_MAX = 64
ENV_KEY_FILE = "TWINLOG_KEY_FILE"
ENV_PASSWORD = "TWINLOG_PASSWORD"


class ReadFrom(Enum):
    """Which nodes may answer reads."""

    PRIMARY = "primary"
    STANDBY = "standby"
    ANY = "any"

    @classmethod
    def of(cls, value: str | ReadFrom) -> ReadFrom:
        """Raises ConfigurationError for anything that is not one of the three."""
        try:
            return cls(value)
        except ValueError:
            raise ConfigurationError(
                f"read={value!r}: must be one of {', '.join(member.value for member in cls)}"
            ) from None


@dataclass(frozen=True, slots=True)
class Option:
    """One number among the options. Both limits are inclusive."""

    default: float
    least: float
    most: float
    meaning: str


OPTIONS: dict[str, Option] = {
    "pool": Option(4, 1, 256, "connections to each node; 4 to 8 suit most programs"),
    "timeout_s": Option(30, 0.001, 86_400, "seconds to wait for one answer, or for a free connection"),
    "connect_timeout_s": Option(5, 0.001, 3_600, "seconds for one dial, handshake and login"),
    "retry_s": Option(10, 0, 3_600, "seconds during which a call goes on trying after its first failure"),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach a cluster. nodes: "host:port" in the order given. key_file: None means a plain connection."""

    nodes: tuple[str, ...]
    user: str | None
    password: str | None
    database: str | None
    key_file: str | None
    read_from: ReadFrom
    pool: int
    timeout_s: float
    connect_timeout_s: float
    retry_s: float

    def __repr__(self) -> str:
        return f"Settings(nodes={','.join(self.nodes)}, user={self.user!r}, pool={self.pool})"


def parse_url(url: str, *, environ: Mapping[str, str], **overrides: Any) -> Settings:
    """The settings of a URL. overrides (pool, timeout_s, key, read, user, password, ...) win over the URL, the URL over
    the environment. Raises InvalidURI or ConfigurationError, which name the part and never show a password."""
    authority, path, query = _split(url)
    login, _, hosts = authority.rpartition("@")
    user, has_password, password = login.partition(":")
    given: dict[str, Any] = {
        "user": unquote(user) if user else None,
        "password": unquote(password) if has_password else None,
    }
    given.update(_query_options(query))
    given.update({name: value for name, value in overrides.items() if value is not None})
    unknown = set(given) - set(OPTIONS) - {"user", "password", "key", "read"}
    if unknown:
        raise ConfigurationError(
            f"unknown option {sorted(unknown)[0]!r}: there are {', '.join([*OPTIONS, 'key', 'read', 'user', 'password'])}"
        )
    password = given["password"] if given["password"] is not None else environ.get(ENV_PASSWORD)
    if given["user"] is not None and password is None:
        raise ConfigurationError(f"user {given['user']!r} has no password: set {ENV_PASSWORD}, or put it in the URL")
    numbers = {name: _number(name, given.get(name, option.default)) for name, option in OPTIONS.items()}
    return Settings(
        nodes=_nodes(hosts),
        user=given["user"],
        password=password if given["user"] is not None else None,
        database=unquote(path) or None,
        key_file=str(given["key"] if "key" in given else environ.get(ENV_KEY_FILE, "")) or None,
        read_from=ReadFrom.of(given.get("read", ReadFrom.PRIMARY)),
        pool=int(numbers["pool"]),
        timeout_s=numbers["timeout_s"],
        connect_timeout_s=numbers["connect_timeout_s"],
        retry_s=numbers["retry_s"],
    )


def parse_node(text: str) -> str:
    """One "host[:port]" as "host:port". Raises InvalidURI."""
    host, port = text.strip(), ""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        host += bracket
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidURI(f"host {text!r}: an IPv6 address is written [address]:port")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    elif ":" in text:
        raise InvalidURI(f"host {text!r}: an IPv6 address is written [address]:port")
    if not host or host == "[]" or any(ch.isspace() or ch in "/@?#" for ch in host):
        raise InvalidURI(f"host {text!r}: the host name is missing or has characters that no host name has")
    if not port:
        return f"{host}:{PORT_DEFAULT}"
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise InvalidURI(f"host {text!r}: the port must be a number from 1 to 65535")
    return f"{host}:{int(port)}"


def host_and_port(node: str) -> tuple[str, int]:
    """The parts of "host:port" for dialling, brackets removed."""
    host, _, port = node.rpartition(":")
    return host.strip("[]"), int(port)


def _split(url: str) -> tuple[str, str, str]:
    scheme, separator, _ = url.partition("://")
    if separator and scheme + separator != SCHEME and not set(scheme) & set("/?@"):
        raise InvalidURI(f"URL scheme {scheme!r}: must be {SCHEME}")
    rest, _, query = url.removeprefix(SCHEME).partition("?")
    authority, _, path = rest.partition("/")
    if not authority:
        raise InvalidURI(f"the URL names no host: {SCHEME}host:{PORT_DEFAULT}/database")
    if "/" in path:
        raise InvalidURI(f"database {path!r}: the path of the URL is one database name")
    return authority, path, query


def _query_options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in options:
            raise InvalidURI(f"option {name!r} is given twice")
        if name in ("user", "password"):
            raise InvalidURI(f"{name} stands before the host: {SCHEME}user:password@host")
        options[name] = value
    return options


def _nodes(hosts: str) -> tuple[str, ...]:
    nodes = tuple(dict.fromkeys(parse_node(part) for part in hosts.split(",")))
    if len(nodes) > HOSTS_MAX:
        raise InvalidURI(f"{len(nodes)} hosts: at most {HOSTS_MAX}")
    return nodes


def _number(name: str, value: Any) -> float:
    option = OPTIONS[name]
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{name}={value!r}: must be a number ({option.meaning})") from None
    whole = name == "pool"
    if math.isnan(number) or not option.least <= number <= option.most or (whole and number != int(number)):
        raise ConfigurationError(
            f"{name}={value}: must be {'a whole number ' if whole else ''}from {option.least} to {option.most}"
            f" ({option.meaning})"
        )
    return number

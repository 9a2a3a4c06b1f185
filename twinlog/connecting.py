"""connect() and connect_async(): a URL to a client that has reached a node."""

from __future__ import annotations

from contextlib import nullcontext

from node.wire import Key

from . import transport
from .async_client import AsyncClient
from .blocking import BlockingBackend
from .client import Client
from .scope import Positions, Scope
from .trio_transport import TrioBackend
from .url import ReadFrom, Settings, parse_url


def connect(
    url: str,
    *,
    key: str | None = None,
    user: str | None = None,
    password: str | None = None,
    pool: int | None = None,
    read: str | ReadFrom | None = None,
    timeout_s: float | None = None,
    connect_timeout_s: float | None = None,
    retry_s: float | None = None,
) -> Client:
    """A blocking client for many threads, after one node has answered.

    url: twinlog://[user[:password]@]host[:port][,host[:port]...]/[database]?option=value; "host:port" will do. Arguments
    win over the URL; url.py's OPTIONS has each option's default and limits. key: a key file, by default TWINLOG_KEY_FILE;
    password: by default TWINLOG_PASSWORD. Raises ConnectionFailure, ConfigurationError, and OperationFailure (code 18)
    for a wrong key or password.
    """
    settings = parse_url(
        url, environ=transport.environment(), key=key, user=user, password=password, pool=pool, read=read,
        timeout_s=timeout_s, connect_timeout_s=connect_timeout_s, retry_s=retry_s,
    )  # fmt: skip
    backend = BlockingBackend(settings, _key(settings))
    scope = Scope(Positions(transport.new_lock()), transport.random_bytes, settings.read_from)
    client = Client(backend, scope, transport.new_lock, database=settings.database)
    try:
        client.ping()
    except BaseException:
        client.close()
        raise
    return client


async def connect_async(
    url: str,
    *,
    key: str | None = None,
    user: str | None = None,
    password: str | None = None,
    pool: int | None = None,
    read: str | ReadFrom | None = None,
    timeout_s: float | None = None,
    connect_timeout_s: float | None = None,
    retry_s: float | None = None,
) -> AsyncClient:
    """A client for the tasks of one trio run: `async with await connect_async(url) as client`. Otherwise as connect()."""
    settings = parse_url(
        url, environ=transport.environment(), key=key, user=user, password=password, pool=pool, read=read,
        timeout_s=timeout_s, connect_timeout_s=connect_timeout_s, retry_s=retry_s,
    )  # fmt: skip
    backend = TrioBackend(settings, _key(settings))
    scope = Scope(Positions(nullcontext()), transport.random_bytes, settings.read_from)
    client = AsyncClient(backend, scope, database=settings.database)
    try:
        await client.ping()
    except BaseException:
        await backend.close()
        raise
    return client


def _key(settings: Settings) -> Key | None:
    return None if settings.key_file is None else transport.read_key_file(settings.key_file)

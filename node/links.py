"""The links seam: listening and dialling on TCP, and SecureLink, whole messages over any stream. A seam for sockets.

SecureLink is replication's MessageLink: it drives a wire session (cluster port) over a trio stream, so the simulator
uses it over its own streams. Knows nothing of what the messages mean.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable

import trio

from storage import errors

from . import wire
from .section import Address

log = logging.getLogger(__name__)

BACKLOG_MAX = 1_024
DIAL_TIMEOUT_S = 10.0
ACCEPT_AGAIN_S = 1.0
TELL_EVERY_S = 60.0
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SEND_BYTES_MAX = 1_048_576
RECEIVE_BYTES_MAX = 1_048_576
ADMIN_CONNECTIONS_MAX = 64  # of the admin port at once
RandomBytes = Callable[[int], bytes]


async def bind(address: Address, setting: str) -> list[socket.socket]:
    """Listening sockets, one for each address the host has (the first alone for port 0).

    Raises ConfigError naming the setting when the port is taken or the host is not this machine's.
    """
    try:
        found = await trio.socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise _cannot_bind(address, setting, f"the host is not known ({error.strerror})") from error
    found = sorted(set(found), key=lambda row: (row[0] != socket.AF_INET, row[4]))
    listeners: list[socket.socket] = []
    failure: OSError | None = None
    for family, kind, protocol, _, where in found if address.port else found[:1]:
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(where)
            listener.listen(BACKLOG_MAX)
            listener.setblocking(False)
            listeners.append(listener)
        except OSError as error:
            listener.close()
            failure = error
            if error.errno == errno.EADDRINUSE:
                break
    if failure is not None and (not listeners or failure.errno == errno.EADDRINUSE):
        for listener in listeners:
            listener.close()
        raise _cannot_bind(address, setting, _why(failure)) from failure
    return listeners


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there; stop it, or choose another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; set `listen` to one it has"
    return str(error.strerror)


def _cannot_bind(address: Address, setting: str, why: str) -> errors.ConfigError:
    return errors.ConfigError(f"{setting}: cannot listen on {address}: {why}", path=setting)


def bound_address(listeners: list[socket.socket]) -> Address:
    """Where the first of them really listens: port 0 has become a port."""
    host, port = listeners[0].getsockname()[:2]
    return Address(host, port)


async def dial(address: Address, key: wire.Key | None, random_bytes: RandomBytes) -> SecureLink:
    """A link to a peer's cluster port. Raises OSError when nobody answers, PeerError when it is refused."""
    with trio.move_on_after(DIAL_TIMEOUT_S):
        try:
            stream = await trio.open_tcp_stream(address.host, address.port)
        except OSError as error:
            raise OSError(f"{address}: {error}") from error
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return await SecureLink.dialled(stream, key, random_bytes, peer=str(address))
    raise TimeoutError(f"{address}: no answer in {DIAL_TIMEOUT_S:g} s")


class LinkCount:
    """How many accepted connections of one port are open."""

    def __init__(self) -> None:
        self.links = 0


async def serve(
    listeners: list[socket.socket],
    ring: wire.KeyRing | None,
    take: Callable[[SecureLink], Awaitable[None]],
    random_bytes: RandomBytes,
    *,
    plain_allowed: bool,
    handshake_timeout_s: float,
    links_max: int,
    held: LinkCount | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept links until cancelled: each is given to `take` after its handshake, in a task of its own."""
    held = held or LinkCount()

    async def handle(stream: trio.SocketStream) -> None:
        try:
            peer = str(stream.socket.getpeername()[0])
        except OSError:  # gone before it was looked at
            await trio.aclose_forcefully(stream)
            return
        if held.links >= links_max:
            log.warning("%s: link refused, %d are open (limits.links_max)", peer, held.links)
            await trio.aclose_forcefully(stream)
            return
        held.links += 1
        try:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await _accepted(
                stream, ring, take, random_bytes, peer=peer, plain_allowed=plain_allowed, timeout_s=handshake_timeout_s
            )
        except Exception:
            log.exception("%s: serving this link met a bug; it is closed", peer)
        finally:
            held.links -= 1
            await trio.aclose_forcefully(stream)

    streams = [PatientListener(trio.SocketListener(trio.socket.from_stdlib_socket(listener))) for listener in listeners]
    await trio.serve_listeners(handle, streams, task_status=task_status)


class PatientListener(trio.abc.Listener[trio.SocketStream]):
    """Waits, with a line in the log, while the process has no descriptor for another link; trio would write a stack trace ten times a
    second."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self._tells_at = 0.0

    async def accept(self) -> trio.SocketStream:
        while True:
            try:
                return await self._listener.accept()
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS:
                    raise
            now = trio.current_time()
            if now >= self._tells_at:
                self._tells_at = now + TELL_EVERY_S
                log.warning("no file descriptor is left for new links of peers; raise the limit (ulimit -n)")
            await trio.sleep(ACCEPT_AGAIN_S)

    async def aclose(self) -> None:
        await self._listener.aclose()


async def _accepted(
    stream: trio.abc.Stream,
    ring: wire.KeyRing | None,
    take: Callable[[SecureLink], Awaitable[None]],
    random_bytes: RandomBytes,
    *,
    peer: str,
    plain_allowed: bool,
    timeout_s: float,
) -> None:
    link = None
    try:
        with trio.move_on_after(timeout_s):
            link = await SecureLink.accepted(stream, ring, random_bytes, plain_allowed=plain_allowed, peer=peer)
        if link is None:
            log.warning("%s: no handshake within %g s; the link is closed", peer, timeout_s)
            return
        await take(link)
    except errors.PeerError as error:
        log.warning("%s", error.message)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        log.info("%s: the link broke", peer)


class SecureLink:
    """Whole messages over one stream, under the cluster key. One task receives; sends may come from several.

    Raises trio.BrokenResourceError when the stream broke, trio.ClosedResourceError after aclose, PeerError when the
    other end breaks the wire's rules.
    """

    def __init__(self, stream: trio.abc.Stream, session: wire.Session, peer: str) -> None:
        self.peer = peer
        self._stream = stream
        self._session = session
        self._sending = trio.Lock()

    @classmethod
    async def dialled(
        cls, stream: trio.abc.Stream, key: wire.Key | None, random_bytes: RandomBytes, *, peer: str
    ) -> SecureLink:
        """The dialling end's handshake. On failure the stream is closed."""
        session = wire.ClientSession(key, wire.PortRole.CLUSTER, random_bytes=random_bytes)
        link = cls(stream, session, peer)
        await link._open(session.start())
        return link

    @classmethod
    async def accepted(
        cls,
        stream: trio.abc.Stream,
        ring: wire.KeyRing | None,
        random_bytes: RandomBytes,
        *,
        plain_allowed: bool,
        peer: str,
    ) -> SecureLink:
        """The listening end's handshake. On failure the stream is closed."""
        keys = (lambda key_id: None) if ring is None else ring.psk_of
        session = wire.ServerSession(
            keys, wire.PortRole.CLUSTER, plain_allowed=plain_allowed, random_bytes=random_bytes
        )
        link = cls(stream, session, peer)
        await link._open(b"")
        return link

    async def send(self, message: bytes) -> None:
        """Hand over one message; waits while the peer does not read. Cancelled half-way, the link is broken."""
        async with self._sending:
            self._session.send_message(message)
            await self._send_pending()

    async def receive(self) -> bytes | None:
        """The next message, or None when the peer closed in good order."""
        while True:
            event = self._next_event()
            if isinstance(event, wire.Message):
                return event.data
            if isinstance(event, wire.Ended):
                return None
            await self._feed()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def _open(self, first: bytes) -> None:
        try:
            if first:
                await self._stream.send_all(first)
            while not isinstance(event := self._next_event(), wire.HandshakeDone):
                if isinstance(event, wire.Ended):
                    raise errors.PeerError(f"{self.peer}: the link ended before its handshake")
                await self._send_pending()
                await self._feed()
            await self._send_pending()
        except BaseException as error:
            with trio.move_on_after(1.0 if isinstance(error, errors.PeerError) else 0, shield=True):
                await self._tell_refusal()
            await trio.aclose_forcefully(self._stream)
            raise

    async def _tell_refusal(self) -> None:
        """A server's refusal is still in its session."""
        try:
            await self._send_pending()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _feed(self) -> None:
        self._session.receive_data(await self._stream.receive_some(RECEIVE_BYTES_MAX))

    async def _send_pending(self) -> None:
        while data := self._session.data_to_send(SEND_BYTES_MAX):
            await self._stream.send_all(data)

    def _next_event(self) -> wire.Event:
        try:
            return self._session.next_event()
        except wire.WireError as error:
            raise errors.PeerError(f"{self.peer}: {error.message}", **error.fields, cause=error.name) from error

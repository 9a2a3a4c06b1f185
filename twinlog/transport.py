"""The client's seam to the world: dialling, entropy, clocks, threads, key files, environment, log lines. It decides nothing.

The only file of the package that touches the network, the disk, the environment, a clock or a thread. Log lines go to the standard
logger "twinlog.client", one event word first:

    CONNECT_FAILED err=<cause> node=<host:port>      a dial, handshake or login failed
    READ_LEN_FAILED err=<cause> node=<host:port>     reading the next answer's length failed: EOF, i/o timeout, ...
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Generic, TypeVar

import trio

from node.wire import Key, WireError, parse_keys

from .conversation import ReadCause, ReadFailed
from .errors import AutoReconnect, ConfigurationError, ConnectionFailure, NetworkTimeout
from .url import host_and_port

T = TypeVar("T")

RECEIVE_BYTES = 64 * 1024  # a larger buffer is mapped and unmapped for each answer: measured, 12 µs at 256 KiB
KEY_FILE_BYTES_MAX = 64 * 1024
TIMEVAL = struct.Struct("@ll")  # struct timeval: seconds, microseconds
CONNECT_FAILED = "CONNECT_FAILED"
READ_LEN_FAILED = "READ_LEN_FAILED"
LOGGER = logging.getLogger("twinlog.client")
LOGGER.addHandler(logging.NullHandler())  # silent until the program logs or set_client_logging is called

monotonic = time.monotonic
sleep = time.sleep
random_bytes = os.urandom
new_lock = threading.Lock
new_event = threading.Event


def random_byte() -> int:
    return os.urandom(1)[0]


def start_thread(work: Callable[[], None], name: str) -> threading.Thread:
    """A running daemon thread: a program that forgets to close still ends."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


class Beside(Generic[T]):
    """Work that goes on in a thread of its own, from now on."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._made: list[T] = []
        self._failure: BaseException | None = None
        self._thread = start_thread(self._run, "twinlog-beside")

    def wait(self) -> None:
        """Until it has ended, however it did."""
        self._thread.join()

    def result(self) -> T:
        """What it made. Raises what it raised."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._made[0]

    def _run(self) -> None:
        try:
            self._made.append(self._work())
        except BaseException as error:  # noqa: BLE001 - the top of the thread
            self._failure = error


async def in_thread(work: Callable[..., T], *args: object) -> T:
    """Work on a stream of the caller's that may wait, off the trio loop."""
    return await trio.to_thread.run_sync(work, *args)


def environment() -> Mapping[str, str]:
    return os.environ


def read_key_file(path: str) -> Key:
    """The first key of the file, with which a client dials. Raises ConfigurationError naming file and line."""
    try:
        with open(path, "rb") as file:
            text = file.read(KEY_FILE_BYTES_MAX).decode("utf-8")
        return parse_keys(text).dial
    except (OSError, UnicodeDecodeError, WireError) as error:
        raise ConfigurationError(f"key file {path}: {error}") from error


def set_client_logging(enabled: bool) -> None:  # noqa: FBT001 - one switch, as users of such clients know it
    """Write the client's log lines to standard error, or stop doing so. Programs with their own logging need not
    call it: the lines go to the logger "twinlog.client" in any case."""
    for handler in [handler for handler in LOGGER.handlers if isinstance(handler, _ClientLogHandler)]:
        LOGGER.removeHandler(handler)
    if enabled:
        LOGGER.addHandler(_ClientLogHandler())


class _ClientLogHandler(logging.StreamHandler):
    """The handler that set_client_logging adds, so that it finds its own again."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))


def log_connect_failed(node: str, cause: object) -> None:
    LOGGER.warning("%s err=%s node=%s", CONNECT_FAILED, cause, node)


def log_read_failed(node: str, error: ReadFailed | NetworkTimeout) -> None:
    if isinstance(error, NetworkTimeout):
        LOGGER.warning("%s err=%s node=%s: %s", READ_LEN_FAILED, ReadCause.TIMEOUT.value, node, error.message)
    else:
        LOGGER.warning("%s err=%s node=%s: %s", READ_LEN_FAILED, error.cause.value, node, error.message)


class TimedSocket:
    """A connected socket whose sends and receives end after a while. One thread may send while another receives.

    The socket itself blocks and the kernel keeps the time (SO_RCVTIMEO, SO_SNDTIMEO, told only when it changes): Python's own
    time-outs cost a poll() before every send and receive.
    """

    __slots__ = ("_socket", "_send_s", "_receive_s", "_send", "_receive", "_poller")

    def __init__(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(None)
        self._socket = connected
        self._send_s = 0.0
        self._receive_s = 0.0
        self._send = connected.send
        self._receive = connected.recv
        self._poller = select.poll()
        self._poller.register(connected, select.POLLIN)

    def send_all(self, data: bytes, seconds: float) -> None:
        """Raises NetworkTimeout, ReadFailed."""
        try:
            if seconds != self._send_s:
                self._limit_sending(seconds)
            sent = self._send(data)
            if sent != len(data):
                self._send_rest(memoryview(data)[sent:], monotonic() + seconds)
        except (BlockingIOError, TimeoutError) as error:
            raise NetworkTimeout("the node took no more of the request in time") from error
        except OSError as error:
            raise read_failed(error) from error

    def receive(self, seconds: float) -> bytes:
        """What has come, b"" at the end of the stream. Raises NetworkTimeout, ReadFailed."""
        try:
            if seconds != self._receive_s:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
                self._receive_s = seconds
            return self._receive(RECEIVE_BYTES)
        except (BlockingIOError, TimeoutError) as error:
            raise NetworkTimeout("no answer in time") from error
        except OSError as error:
            raise read_failed(error) from error

    def is_stale(self) -> bool:
        """Whether there is something to read while nothing is asked: the end, or bytes that nobody asked for."""
        return bool(self._poller.poll(0))

    def shutdown(self) -> None:
        """End the stream in both directions; a thread that sends or receives now ends too."""
        with suppress(OSError):  # it is over already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _send_rest(self, rest: memoryview, until: float) -> None:
        """Of a request that is larger than the kernel's buffer, or whose node does not read."""
        while rest:
            self._limit_sending(until - monotonic())
            rest = rest[self._send(rest) :]

    def _limit_sending(self, seconds: float) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))
        self._send_s = seconds


def _timeval(seconds: float) -> bytes:
    """For the kernel, which takes 0 for no limit and rounds up to its own tick."""
    if seconds <= 0:
        raise TimeoutError
    whole = int(seconds)
    return TIMEVAL.pack(whole, max(1, int((seconds - whole) * 1e6)))


def dial(node: str, timeout_s: float) -> TimedSocket:
    """A connected socket. Raises ConnectionFailure."""
    host, port = host_and_port(node)
    try:
        return TimedSocket(socket.create_connection((host, port), timeout=timeout_s))
    except OSError as error:
        raise ConnectionFailure(_cause(error)) from error


async def dial_trio(node: str) -> trio.SocketStream:
    """The same on trio; the caller's cancel scope is the timeout."""
    host, port = host_and_port(node)
    try:
        return await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise ConnectionFailure(_cause(error)) from error


def read_failed(error: OSError) -> AutoReconnect:
    return ReadFailed(_cause(error), ReadCause.RESET)


def is_stale(fileno: int) -> bool:
    """Whether an idle connection has something to read: its end, or bytes that nobody asked for."""
    poller = select.poll()
    poller.register(fileno, select.POLLIN)
    return bool(poller.poll(0))


def _cause(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if isinstance(error.__cause__, BaseExceptionGroup):  # trio tried several addresses
        causes = [_cause(one) for one in error.__cause__.exceptions if isinstance(one, OSError)]
        if causes:
            return "; ".join(dict.fromkeys(causes))
    if error.errno == errno.ECONNREFUSED:
        return "connection refused"
    return error.strerror or str(error)

"""A Disk in object storage: files are objects below a prefix of a bucket, over pyarrow's S3 client. Blocking; one for each process that uses it.

As far as shelves and archives need it; the rest is refused by name. What differs from a disk, and what callers make of it:

- A file is there when it was closed, whole or not at all: create(), append(), sync(), close(). sync() promises nothing yet; close() does, or raises. A file whose
  last append was followed by no sync() is given up by close(): nothing of it stays. (`puts_whole_files`)
- There are no directories: they are there while something lies below them. Nothing but a single object can be renamed.
- Memory is bounded whatever the size of a file: parts of 10 MiB go up one after the other, reading goes by windows that grow with reading on. A file has
  at most 10,000 parts.

Every request has a time limit and is tried again a few times by the client, as the store asks for; what fails then is an OSError with a number, the object, and the
next step. pyarrow is loaded at the first use: it takes half a second and belongs to the extra `s3`.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any, TypeVar

import trio

from ..errors import ConfigError
from . import spooled
from .bucket_address import BucketAddress, meaning
from .manifest import FILE as MANIFEST

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")

THREADS_MAX = 8  # of one bucket: a store that does not answer holds no thread of the engine's disk
REQUESTS_AT_ONCE = 16  # of one job that needs many objects
AHEAD_BYTES_MAX = 64 * 2**20  # of objects that nobody has taken yet
CONNECT_S_MAX = 3
REQUEST_S_MAX = 20  # without a byte
ATTEMPTS_MAX = 3
PART_BYTES = 10 * 2**20
FILE_BYTES_MAX = 10_000 * PART_BYTES
WINDOW_BYTES_MIN, WINDOW_BYTES_MAX = 64 * 2**10, 8 * 2**20
WINDOWS_MAX = 4  # of one open file
UNBOUNDED_BYTES = 1 << 60  # what a bucket has room for
PROBE = "_twinlog_probe"
CLIENT = "pyarrow"
MISSING = "storing in a bucket needs pyarrow: pip install 'twinlog[s3]'"


class BucketDisk:
    """Below one address. Connects at the first call."""

    puts_whole_files = True

    def __init__(self, address: BucketAddress) -> None:
        self.address = address
        self._client: Any = None
        self._limiter: trio.CapacityLimiter | None = None

    def create(self, path: str) -> BucketFile:
        if self.exists(path):
            raise FileExistsError(errno.EEXIST, "there is such an object already", self.address.shown(path))
        with self._named("putting", path):
            return BucketFile(self, path, writer=self._files.open_output_stream(self.address.key(path), compression=None))

    def open_append(self, path: str) -> BucketFile:
        raise self._refused("appending to an object", path)

    def open_read(self, path: str) -> BucketFile:
        with self._named("reading", path):
            return BucketFile(self, path, reader=self._files.open_input_file(self.address.key(path)))

    def map(self, path: str) -> memoryview:
        file = self.open_read(path)
        try:
            return spooled.view(file)
        finally:
            file.close()

    def read_file(self, path: str) -> bytes:
        file = self.open_read(path)
        try:
            return file.read_at(0, file.size)
        finally:
            file.close()

    def replace_file(self, path: str, data: bytes) -> None:
        """One object takes the place of another at once."""
        with self._named("putting", path):
            stream = self._files.open_output_stream(self.address.key(path), compression=None)
            try:
                stream.write(data)
            finally:
                stream.close()

    def overwrite(self, path: str, offset: int, data: bytes) -> None:
        raise self._refused("overwriting a part of an object", path)

    def rename(self, old: str, new: str) -> None:
        """Of one object: a copy, then the removal."""
        with self._named("renaming", old):
            self._files.move(self.address.key(old), self.address.key(new))

    def remove(self, path: str) -> None:
        with self._named("removing", path):
            self._files.delete_file(self.address.key(path))

    def remove_tree(self, path: str) -> None:
        """A manifest goes first: what is left when this is cut off is no backup."""
        key = self.address.key(path)
        with self._named("removing", path):
            manifest = f"{key}/{MANIFEST}"
            if self._files.get_file_info(manifest).is_file:
                self._files.delete_file(manifest)
            self._files.delete_dir(key)

    def make_dir(self, path: str) -> None:
        """Nothing to do."""

    def list_dir(self, path: str) -> list[str]:
        with self._named("listing", path):
            files = self._files
            from pyarrow import fs

            found = files.get_file_info(fs.FileSelector(self.address.key(path), allow_not_found=True))
            if not found and files.get_file_info(self.address.bucket).type is fs.FileType.NotFound:
                raise OSError("AWS Error NO_SUCH_BUCKET")
        return sorted({info.base_name for info in found})

    def exists(self, path: str) -> bool:
        with self._named("looking for", path):
            info = self._files.get_file_info(self.address.key(path))
            return info.type.name != "NotFound"

    def size(self, path: str) -> int:
        with self._named("looking for", path):
            info = self._files.get_file_info(self.address.key(path))
            if not info.is_file:
                raise FileNotFoundError
            return info.size

    def age_s(self, path: str, than: str) -> float:
        """How many seconds an object is older than another one, by the store's clock."""
        with self._named("looking for", path):
            held, other = self._files.get_file_info([self.address.key(path), self.address.key(than)])
            if not held.is_file or not other.is_file:
                raise FileNotFoundError
            return other.mtime.timestamp() - held.mtime.timestamp()

    def inode(self, path: str) -> int:
        raise self._refused("the inode of an object", path)

    def sync_dir(self, path: str) -> None:
        """Nothing to do: what was put is there."""

    def sync_all(self, files: Sequence[BucketFile]) -> None:
        for file in files:
            file.sync()

    def is_read_only(self) -> bool:
        return False

    def free_bytes(self) -> int:
        return UNBOUNDED_BYTES

    def total_bytes(self) -> int:
        return UNBOUNDED_BYTES

    def page_waits(self) -> int:
        return 0

    def lock(self, path: str, content: bytes) -> Callable[[], None]:
        raise self._refused("locking an object", path)

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(THREADS_MAX)
        return await trio.to_thread.run_sync(call, *args, limiter=self._limiter)

    def at_once(self, items: Sequence[P], size: Callable[[P], int], work: Callable[[P], R]) -> Iterator[tuple[P, R]]:
        """Each item with what work makes of it, in order; several are at work before they are asked for, while what they make (size of each) is within
        AHEAD_BYTES_MAX."""
        waiting: deque[tuple[P, Future[R]]] = deque()
        held, after = 0, 0
        with ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="twinlog-bucket") as pool:
            while after < len(items) or waiting:
                while after < len(items) and len(waiting) < 2 * REQUESTS_AT_ONCE and (not waiting or held + size(items[after]) <= AHEAD_BYTES_MAX):
                    waiting.append((items[after], pool.submit(work, items[after])))
                    held += size(items[after])
                    after += 1
                item, future = waiting.popleft()
                held -= size(item)
                yield item, future.result()

    def probe(self, unique: str) -> None:
        """Put an object and remove it again. Raises OSError when one of them is not allowed, or nobody answers."""
        path = f"{PROBE}_{unique}"
        self.replace_file(path, b"twinlog looks whether backups can be put here\n")
        self.remove(path)

    def _refused(self, what: str, path: str) -> OSError:
        return OSError(errno.EOPNOTSUPP, f"{what} is not possible in a bucket", self.address.shown(path))

    @property
    def _files(self) -> Any:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> Any:
        try:
            from pyarrow import fs
        except ImportError as error:
            raise OSError(errno.ENOSYS, MISSING, self.address.shown()) from error
        address, given = self.address, {}
        if address.endpoint:
            given["endpoint_override"] = address.endpoint
        if address.region:
            given["region"] = address.region
        return fs.S3FileSystem(
            scheme=address.scheme, background_writes=False, allow_delayed_open=True, connect_timeout=CONNECT_S_MAX, request_timeout=REQUEST_S_MAX,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS_MAX), **given,
        )  # fmt: skip

    @contextmanager
    def _named(self, doing: str, path: str) -> Iterator[None]:
        """What the client raises, as this program's callers know it."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "no such object", self.address.shown(path)) from error
        except (OSError, ValueError) as error:  # pyarrow's own are of these
            if isinstance(error, OSError) and error.errno is not None:
                raise
            number, called, step = meaning(str(error))
            at = f" at {self.address.endpoint}" if self.address.endpoint else ""
            why = called or str(error)[:300]
            text = f"{doing} it in bucket {self.address.bucket!r}{at} failed ({why}): {step}"
            raise OSError(number, text, self.address.shown(path)) from error


class BucketFile:
    """An object that is written or read. For one thread at a time."""

    def __init__(self, disk: BucketDisk, path: str, *, reader: Any = None, writer: Any = None) -> None:
        self.path = path
        self._disk = disk
        self._reader, self._writer = reader, writer
        self._synced_size = -1
        self._windows: list[tuple[int, bytes]] = []  # the newest last
        with disk._named("reading", path):
            self.size: int = reader.size() if reader is not None else 0

    def append(self, data: bytes | Sequence[bytes]) -> None:
        joined = data if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data)
        if self._writer is None:
            raise OSError(errno.EBADF, "it is not open for writing", self._disk.address.shown(self.path))
        if self.size + len(joined) > FILE_BYTES_MAX:
            raise OSError(errno.EFBIG, f"an object has at most {FILE_BYTES_MAX} bytes; keep this database's backups on a disk", self._disk.address.shown(self.path))
        with self._disk._named("putting", self.path):
            self._writer.write(joined)
        self.size += len(joined)

    def read_at(self, offset: int, length: int) -> bytes:
        wanted = max(0, min(length, self.size - offset))
        pieces = []
        while wanted:
            at, window = self._window(offset, wanted)
            piece = window[offset - at : offset - at + wanted]
            pieces.append(piece)
            offset += len(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _window(self, offset: int, wanted: int) -> tuple[int, bytes]:
        """One that holds the byte at offset. Who reads on after a window is handed one of twice its size."""
        size = WINDOW_BYTES_MIN
        for number, (at, held) in enumerate(self._windows):
            if at <= offset < at + len(held):
                return at, held
            if offset == at + len(held):
                size = min(2 * len(held), WINDOW_BYTES_MAX)
                del self._windows[number]
                break
        size = min(max(size, min(wanted, WINDOW_BYTES_MAX)), self.size - offset)
        with self._disk._named("reading", self.path):
            if self._reader is None:
                raise OSError(errno.EBADF, "it is not open for reading")
            found = self._reader.read_at(size, offset)
            if len(found) != size:
                raise OSError(f"{len(found)} bytes came at {offset}, {size} were asked for: was it replaced?")
        self._windows = [*self._windows[-WINDOWS_MAX + 1 :], (offset, found)]
        return offset, found

    def read_now(self, offset: int, length: int) -> bytes | None:
        return None

    def sync(self) -> float:
        """What was appended up to here is to stay when it is closed."""
        self._synced_size = self.size
        return 0.0

    def reserve(self, length: int) -> None:
        raise self._disk._refused("reserving space for an object", self.path)

    def trim(self) -> None:
        raise self._disk._refused("cutting an object", self.path)

    def cut(self, length: int) -> None:
        raise self._disk._refused("cutting an object", self.path)

    def inode(self) -> int:
        raise self._disk._refused("the inode of an object", self.path)

    def close(self) -> None:
        """The object is there after it, or, when something was appended since the last sync(), never was. Raises OSError."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        self._windows = []
        if reader is not None:
            reader.close()
        if writer is None:
            return
        if self._synced_size == self.size:
            with self._disk._named("putting", self.path):
                writer.close()
            return
        with suppress(OSError, ValueError):  # the client cannot give up an upload: it is ended, and the object removed
            writer.close()
            self._disk.remove(self.path)


def check_client() -> None:
    """Raises ConfigError where the client is not installed."""
    if find_spec(CLIENT) is None:
        raise ConfigError(MISSING, path="archive")

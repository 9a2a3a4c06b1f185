"""A long-lived worker process, for jobs that would hold the event loop: sealing, merging, later compaction.

    parent: WorkerProcess ── stdin ──> python, main() of this module ── stdout ──> parent

Both directions carry frames: length u32 little-endian, then a pickle. To the worker: ("module:function", arguments). Back:
for each job (DONE, result) or (FAILED, class, message, fields). A job is an importable function of
a module below `storage`; it is called with the worker's own OsDisk on ROOT in front of its arguments, and with what the worker
keeps open between seals (shard/bases.py) when it has a parameter `bases`. The process is started, never forked, and runs nothing of the program that uses it: what it imports is storage alone.

One worker of a kind for each data directory (one seals, one builds and merges field segments): it inherits a lock on
ROOT/worker.lock or ROOT/indexer.lock that its parent has taken before it is started, so that nobody waits for its imports, and it ends at
once, in the middle of a job if need be, when its parent is gone (stdin ends). The lock goes when it ends. So no seal of a killed parent goes on beside the
next one's; a job must bear being cut off at any point, as sealing does.

The parent runs one job at a time. A worker that dies fails the job it had with WorkerDied and is started again for the next.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import inspect
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, TypeVar

import trio

from .disk import OsDisk, open_lock
from .errors import InternalError, TwinlogError, from_wire
from .shard.bases import OpenBases

T = TypeVar("T")

FRAME_LENGTH = struct.Struct("<I")
FRAME_BYTES_MAX = 64 * 2**20
NICENESS = 10  # added to the parent's, so that serving goes before sealing
GC_THRESHOLD = 100_000  # new objects between collections: a job makes many small ones and hardly a cycle
IDLE_S = 60.0  # a brief worker without a job ends after so long
LOCK_S_MAX = 60.0  # for a predecessor to end
LOCK_POLL_S = 0.005
LOCK_FILE = "worker.lock"
INDEX_LOCK_FILE = "indexer.lock"
BACKUP_LOCK_FILE = "backup.lock"
BACKUP_READ_LOCK_FILE = "backup_reader.lock"
PACKAGE = __package__
DONE, FAILED = "done", "failed"


class WorkerDied(InternalError):
    """The worker process ended in the middle of a job. Fields: job, exit_code. The job may simply be run again."""


def job_name(job: Callable[..., Any]) -> str:
    """How a job is called on the other side. Raises InternalError for one that cannot be."""
    name = f"{job.__module__}:{job.__qualname__}"
    if resolve(name) is not job:
        raise InternalError(f"{name} is no job for the worker: it is not what that name imports")
    return name


def resolve(name: str) -> Callable[..., Any]:
    """The function that "module:function" names. Raises InternalError unless it is a plain function below storage."""
    module_name, _, function_name = name.partition(":")
    below = module_name.startswith(f"{PACKAGE}.") and all(part.isidentifier() for part in module_name.split("."))
    if not below or not function_name.isidentifier() or function_name.startswith("_"):
        raise InternalError(f"{name!r} is no job for the worker: only public functions of modules below {PACKAGE} are")
    job = getattr(importlib.import_module(module_name), function_name, None)
    if not callable(job):
        raise InternalError(f"{name!r} is no job for the worker: there is no such function")
    return job


def encode_frame(value: object) -> bytes:
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    if len(data) > FRAME_BYTES_MAX:
        raise InternalError(f"a worker's frame of {len(data)} bytes, limit {FRAME_BYTES_MAX}: jobs pass names, not content")
    return FRAME_LENGTH.pack(len(data)) + data


def describe_failure(error: BaseException) -> tuple[str, str, str, dict[str, Any]]:
    """The answer for a job that raised."""
    if isinstance(error, TwinlogError):
        return (FAILED, error.name, error.message, error.fields)
    if isinstance(error, OSError):
        return (FAILED, "OSError", error.strerror or str(error), {"errno": error.errno, "filename": error.filename})
    return (FAILED, InternalError.__name__, f"{type(error).__name__}: {error}", {})


def failure(name: str, message: str, fields: dict[str, Any]) -> Exception:
    """The exception that describe_failure described."""
    if name == "OSError":
        return OSError(fields["errno"], message, fields["filename"]) if fields["errno"] else OSError(message)
    return from_wire(name, message, fields)


class WorkerProcess:
    """Workers of seams.py over one worker process. `root`: the data directory, as for OsDisk.

    Start it before recovery (`start`), so that a predecessor's worker is known to be gone. After `close` it takes no jobs.
    """

    def __init__(self, root: str | os.PathLike[str], lock: str = LOCK_FILE) -> None:
        """lock: the name of the lock file below root; a second worker beside the sealing one has its own."""
        self._root = os.path.abspath(root)
        self._lock = lock
        self._process: trio.Process | None = None
        self._turn = trio.Lock()
        self._is_closed = False
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def jobs(self) -> int:
        """How many are under way or wait their turn."""
        turn = self._turn.statistics()
        return turn.tasks_waiting + turn.locked

    async def start(self) -> None:
        """Start the process now rather than at the first job. Raises WorkerDied, OSError."""
        async with self._turn:
            await self._started()

    async def run(self, job: Callable[..., T], *args: Any) -> T:
        """The job's result, or what it raised by class and message; WorkerDied when the process ended over it.

        Cancelled in the middle: the process is killed, since nothing else stops a job.
        """
        request = encode_frame((job_name(job), args))
        async with self._turn:
            process = await self._started()
            is_answered = False
            try:
                answer = await self._exchange(process, request, f"running {job.__module__}:{job.__qualname__}")
                is_answered = True
            finally:
                if not is_answered:
                    await self._kill()
        if answer[0] == DONE:
            return answer[1]
        raise failure(*answer[1:])

    def close(self) -> None:
        """End the process, also in the middle of a job. aclose also waits until it has gone."""
        self._is_closed = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    async def aclose(self) -> None:
        self.close()
        with trio.CancelScope(shield=True):
            async with self._turn:
                await self._kill()

    async def _started(self) -> trio.Process:
        if self._is_closed:
            raise InternalError("the worker is closed: it takes no more jobs")
        if self._process is not None and self._process.poll() is not None:
            await self._kill()
        if self._process is None:
            program = f"import os; os.nice({NICENESS}); from {PACKAGE}.worker import main; main()"
            home = Path(__file__).resolve().parent.parent  # where `storage` is imported from
            lock = await self._locked()
            try:
                self._process = await trio.lowlevel.open_process(
                    [sys.executable, "-c", program, self._root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=home, pass_fds=(lock,)
                )
            finally:
                os.close(lock)
            self.restarts += 1
        return self._process

    async def _locked(self) -> int:
        """A descriptor that holds the lock, for the process to inherit. Raises WorkerDied when somebody else keeps it, OSError."""
        lock = open_lock(os.path.join(self._root, self._lock))
        is_ours = False
        try:
            with trio.move_on_after(LOCK_S_MAX):
                while not (is_ours := _take(lock)):  # noqa: ASYNC110 - no event tells when another process ends
                    await trio.sleep(LOCK_POLL_S)
        finally:
            if not is_ours:
                os.close(lock)
        if not is_ours:
            raise WorkerDied(f"another worker still holds {self._root}/{self._lock} after {LOCK_S_MAX:.0f} s: does another node run there?")
        return lock

    async def _exchange(self, process: trio.Process, request: bytes, doing: str) -> tuple[Any, ...]:
        """Send, then read one frame."""
        assert process.stdin is not None and process.stdout is not None
        try:
            await process.stdin.send_all(request)
            length = FRAME_LENGTH.unpack(await _receive_exactly(process.stdout, FRAME_LENGTH.size))[0]
            if length > FRAME_BYTES_MAX:
                raise InternalError(f"the worker announced a frame of {length} bytes, limit {FRAME_BYTES_MAX}")
            return pickle.loads(await _receive_exactly(process.stdout, length))
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError) as error:
            code = await process.wait()
            raise WorkerDied(
                f"the worker process ended (exit code {code}) while {doing}; it is started again for the next job",
                job=doing,
                exit_code=code,
            ) from error

    async def _kill(self) -> None:
        """End the process if it has not ended, and let its descriptors go."""
        process, self._process = self._process, None
        if process is None:
            return
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.kill()
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()


class BriefWorkers:
    """Workers of seams.py whose process ends some time after its last job: for long jobs that come seldom, which would keep those of the others
    waiting, and whose memory is wanted for something else between them. One job at a time. `rest` is to be called now and then."""

    def __init__(self, root: str | os.PathLike[str], lock: str) -> None:
        self._root = root
        self._lock = lock
        self._turn = trio.Lock()
        self._worker: WorkerProcess | None = None
        self._used_at = 0.0

    async def run(self, job: Callable[..., T], *args: Any) -> T:
        """As WorkerProcess.run."""
        async with self._turn:
            self._worker = self._worker or WorkerProcess(self._root, self._lock)
            try:
                return await self._worker.run(job, *args)
            finally:
                self._used_at = trio.current_time()

    async def rest(self) -> None:
        """End the process if it has had no job for IDLE_S."""
        if self._worker is not None and not self._turn.locked() and trio.current_time() - self._used_at > IDLE_S:
            await self.aclose()

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()

    async def aclose(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.aclose()


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _receive_exactly(stream: trio.abc.ReceiveStream, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        chunk = await stream.receive_some(length - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


# The worker's side: no trio, plain blocking reads.


def read_frame(stream: BinaryIO) -> Any:
    """One unpickled frame. Raises EOFError at the end of the stream, also within a frame."""
    head = stream.read(FRAME_LENGTH.size)
    if len(head) < FRAME_LENGTH.size:
        raise EOFError
    length = FRAME_LENGTH.unpack(head)[0]
    if length > FRAME_BYTES_MAX:
        raise InternalError(f"a frame of {length} bytes, limit {FRAME_BYTES_MAX}")
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


def run_job(disk: OsDisk, bases: OpenBases, request: tuple[str, tuple[Any, ...]]) -> bytes:
    """The answer's frame. Everything a job raises becomes an answer."""
    name, args = request
    try:
        job = resolve(name)
        kept = {"bases": bases} if "bases" in inspect.signature(job).parameters else {}
        return encode_frame((DONE, job(disk, *args, **kept)))
    except Exception as error:  # noqa: BLE001 - the top of the job; the parent raises it again
        return encode_frame(describe_failure(error))


def serve(root: str, requests: BinaryIO, answers: BinaryIO) -> None:
    """Run jobs until the end of `requests`; that end also stops a job that is running."""
    queue: SimpleQueue[tuple[str, tuple[Any, ...]]] = SimpleQueue()  # the parent sends one at a time

    def read_requests() -> None:
        code = 1
        try:
            while True:
                queue.put(read_frame(requests))
        except EOFError:
            code = 0
        finally:
            os._exit(code)  # the parent is gone: nobody may write to its directory any more

    threading.Thread(target=read_requests, name="parent", daemon=True).start()
    disk, bases = OsDisk(root), OpenBases()
    while True:
        answers.write(run_job(disk, bases, queue.get()))
        answers.flush()


def main() -> None:
    """The process: keep stdout for answers, leave interrupts to the parent. The lock that it inherited is held by being open."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(GC_THRESHOLD)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not break a frame
    serve(sys.argv[1], sys.stdin.buffer, answers)

"""The worker process: jobs, their failures, its death, its parent's death."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from storage.disk import OsDisk
from storage.errors import DamagedRecord, InternalError
from storage.shard import checkpoint as checkpoints
from storage.shard.bases import OpenBases
from storage.shard.checkpoint import list_seqs, load
from storage.shard.seal import seal
from storage.worker import FAILED, LOCK_FILE, WorkerDied, WorkerProcess, resolve, run_job
from tests.shard.shard_world import DIRECTORY, World

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def worker(tmp_path: Path):
    process = WorkerProcess(tmp_path)
    yield process
    await process.aclose()


def written_world(root: Path) -> World:
    world = World(disk=OsDisk(root))
    collection = world.create("users")
    for number in range(50):
        world.put(collection, number, value=number)
    world.commit()
    return world


class EndlessJob:
    """`load` of a manifest that is a fifo: it is known to run once our end opens, and ends only when we let it."""

    def __init__(self, root: Path) -> None:
        self.arguments = (DIRECTORY, 1)
        self._path = root / checkpoints.path_of(DIRECTORY, 1)
        self._path.parent.mkdir(parents=True)
        os.mkfifo(self._path)
        self._end = -1

    def wait_running(self) -> None:
        self._end = os.open(self._path, os.O_WRONLY)

    def remove(self) -> None:
        os.close(self._end)
        self._path.unlink()


async def test_a_seal_in_the_worker_is_a_seal(tmp_path: Path, worker: WorkerProcess):
    world = written_world(tmp_path)
    result = await worker.run(seal, DIRECTORY, world.plan())
    assert (result.seq, result.records) == (1, 51)
    world.check(world.open())
    assert await worker.run(list_seqs, DIRECTORY) == [1]
    assert worker.restarts == 1, "one process for all jobs"
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) > os.getpriority(os.PRIO_PROCESS, 0)


async def test_failures_come_back_by_class_and_message(tmp_path: Path, worker: WorkerProcess):
    world = written_world(tmp_path)
    world.seal()
    path = checkpoints.path_of(DIRECTORY, 1)
    with pytest.raises(FileNotFoundError):
        await worker.run(load, DIRECTORY, 7)
    world.disk.replace_file(path, b"{}")
    with pytest.raises(DamagedRecord, match="not a checkpoint manifest") as caught:
        await worker.run(load, DIRECTORY, 1)
    assert caught.value.fields["file"] == path
    with pytest.raises(InternalError, match="TypeError"):
        await worker.run(list_seqs)
    assert worker.restarts == 1


@pytest.mark.parametrize(
    "name", ["os:system", "storage:x", "storage.worker:_kill", "storage.seams:os.system", "storage.x/y:z", "", ":"]
)
def test_only_public_functions_of_storage_are_jobs(name: str, tmp_path: Path):
    with pytest.raises(InternalError, match="no job for the worker"):
        resolve(name)
    assert FAILED.encode() in run_job(OsDisk(tmp_path), OpenBases(), (name, ()))


async def test_a_local_function_is_refused_before_anything_is_sent(worker: WorkerProcess):
    with pytest.raises(InternalError, match="no job for the worker"):
        await worker.run(written_world)
    assert worker.restarts == 0


async def test_a_dead_worker_fails_its_job_and_is_started_again(tmp_path: Path, worker: WorkerProcess):
    job = EndlessJob(tmp_path)
    failures = []

    async def run_it() -> None:
        try:
            await worker.run(load, *job.arguments)
        except WorkerDied as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_it)
        await trio.to_thread.run_sync(job.wait_running)
        os.kill(worker.pid, signal.SIGKILL)
    assert failures[0].fields["exit_code"] == -signal.SIGKILL
    assert "storage.shard.checkpoint:load" in failures[0].message
    job.remove()
    assert await worker.run(list_seqs, DIRECTORY) == []
    assert worker.restarts == 2


async def test_cancelling_a_job_ends_it(tmp_path: Path, worker: WorkerProcess):
    job = EndlessJob(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, load, *job.arguments)
        await trio.to_thread.run_sync(job.wait_running)
        pid = worker.pid
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    job.remove()
    assert await worker.run(list_seqs, DIRECTORY) == []


async def test_a_closed_worker_takes_no_jobs(worker: WorkerProcess):
    await worker.start()
    worker.close()
    with pytest.raises(InternalError, match="closed"):
        await worker.run(list_seqs, DIRECTORY)


async def test_a_missing_directory_is_a_worker_that_does_not_start(tmp_path: Path):
    worker = WorkerProcess(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        await worker.start()


async def test_a_start_waits_for_no_import_and_holds_the_lock(tmp_path: Path, worker: WorkerProcess):
    await worker.start()
    assert worker.restarts == 1 and lock_is_held(tmp_path)
    worker.close()
    await worker.aclose()
    assert not lock_is_held(tmp_path)


async def test_a_lock_that_stays_held_is_told_by_its_file(tmp_path: Path, worker: WorkerProcess, autojump_clock: object):
    lock = os.open(tmp_path / LOCK_FILE, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(WorkerDied, match=f"{LOCK_FILE} after 60 s"):
        await worker.start()
    assert worker.pid is None
    os.close(lock)
    await worker.start()


def lock_is_held(root: Path) -> bool:
    lock = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


PARENT = """
import sys, trio
from storage.worker import WorkerProcess
from storage.shard.checkpoint import load

async def use():
    await WorkerProcess(sys.argv[1]).run(load, sys.argv[2], int(sys.argv[3]))

trio.run(use)
"""


async def test_it_ends_in_the_middle_of_a_job_when_its_parent_is_gone_and_only_then_the_next_begins(tmp_path: Path, worker: WorkerProcess):
    job = EndlessJob(tmp_path)
    command = [sys.executable, "-c", PARENT, str(tmp_path), *map(str, job.arguments)]
    parent = await trio.lowlevel.open_process(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    await trio.to_thread.run_sync(job.wait_running)
    assert lock_is_held(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.start)
        await trio.testing.wait_all_tasks_blocked()
        assert worker.restarts == 0, "the other's job still runs"
        parent.kill()
    await parent.wait()
    assert worker.restarts == 1
    job.remove()
    assert await worker.run(list_seqs, DIRECTORY) == []


def test_the_program_that_uses_it_is_not_run_again(tmp_path: Path):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, trio\n"
        "print('program runs')\n"
        "from storage.worker import WorkerProcess\n"
        "from storage.shard.checkpoint import list_seqs\n"
        "async def use():\n"
        "    worker = WorkerProcess(sys.argv[1])\n"
        "    print(await worker.run(list_seqs, 'db'))\n"
        "    await worker.aclose()\n"
        "trio.run(use)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["program runs", "[]"]

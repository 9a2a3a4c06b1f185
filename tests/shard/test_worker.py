"""The worker process: jobs, their failures, its death, its parent's death."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from storage.disk import OsDisk
from storage.errors import DamagedRecord, InternalError
from storage.shard import checkpoint as checkpoints
from storage.shard.bases import OpenBases
from storage.shard.checkpoint import list_seqs, load
from storage.shard.seal import seal
from storage.worker import (
    DONE,
    FAILED,
    READY,
    WorkerDied,
    WorkerProcess,
    encode_frame,
    read_frame,
    resolve,
    run_job,
)
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
    with pytest.raises(WorkerDied, match="while starting"):
        await worker.start()


def spawn(root: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "storage.worker", str(root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)


def test_it_ends_in_the_middle_of_a_job_when_its_parent_is_gone_and_only_then_the_next_begins(tmp_path: Path):
    job = EndlessJob(tmp_path)
    with spawn(tmp_path) as first, spawn(tmp_path) as second:
        ready = {first: read_frame(first.stdout)} if _has_lock(first, second) else {second: read_frame(second.stdout)}
        (holder,) = ready
        waiting = second if holder is first else first
        assert ready[holder] == (READY,)
        holder.stdin.write(encode_frame(("storage.shard.checkpoint:load", job.arguments)))
        holder.stdin.flush()
        job.wait_running()
        assert waiting.poll() is None
        holder.stdin.close()
        assert holder.wait(timeout=10) == 0
        assert read_frame(waiting.stdout) == (READY,)
        job.remove()
        waiting.stdin.write(encode_frame(("storage.shard.checkpoint:list_seqs", (DIRECTORY,))))
        waiting.stdin.flush()
        assert read_frame(waiting.stdout) == (DONE, [])
        waiting.stdin.close()
        assert waiting.wait(timeout=10) == 0


def _has_lock(first: subprocess.Popen, second: subprocess.Popen) -> bool:
    """Which of two said READY; the other says nothing while the first lives."""
    readable, _, _ = select.select([first.stdout, second.stdout], [], [], 30)
    assert len(readable) == 1
    return readable[0] is first.stdout


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

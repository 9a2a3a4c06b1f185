"""Transactions as an application runs them: read two accounts, move money from one to the other, commit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.contest import Contender, Run, ask, started
from benchmarks.generator import LoadFailed, Unavailable
from benchmarks.processes import Server
from benchmarks.report import CaseReport, Sample
from benchmarks.servers import DB, PostgresServer, TwinlogServer

from .client import GRACE_SECONDS, LOOP, peers_python

WHAT = (
    "Each transaction reads two of 10,000 accounts, writes both back with 1 moved, and commits: six round trips, tried again after a conflict. "
    "Twinlog's blocking client (snapshot isolation, plain connections) beside psycopg 3 with PostgreSQL (repeatable read, plain, prepared). At most 16 "
    "threads stand in one Python process; 64 clients are four such processes, which then share two cores with the server. At the end the accounts "
    "must hold what they held."
)
CLIENTS = (1, 16, 64)
THREADS_MAX = 16  # of one process
ACCOUNTS = 10_000
BALANCE = 1_000
TWINLOG_BATCH = 1_000


@dataclass(frozen=True)
class Bank:
    """One library against one server whose accounts are there."""

    name: str
    peers: tuple[str, ...]
    python: str
    module: str
    address: str
    server: Server

    def turn(self, clients: int, seconds: float) -> Callable[[], Sample]:
        threads = min(clients, THREADS_MAX)
        command = [self.python, str(LOOP), self.module, self.address, "transfer", str(threads), str(seconds), "0", str(ACCOUNTS)]

        def work() -> Sample:
            cpu = self.server.cpu_seconds()
            environment = {**os.environ, "PYTHONPATH": str(LOOP.parents[1])}
            loops = [
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
                for _ in range(clients // threads)
            ]
            answers = []
            for loop in loops:
                try:
                    out, err = loop.communicate(timeout=seconds + GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    loop.kill()
                    raise LoadFailed(f"{self.module}: no end after {seconds + GRACE_SECONDS:.0f} s") from None
                if loop.returncode:
                    raise LoadFailed(f"{self.module}: {err.strip()[-500:]}")
                answers.append(json.loads(out))
            cpu = self.server.cpu_seconds() - cpu
            count = sum(answer["count"] for answer in answers)
            extras = {"server_us": cpu / count * 1e6, "client_us": sum(answer["cpu"] for answer in answers) / count * 1e6}
            return Sample(sum(answer["count"] / answer["seconds"] for answer in answers), extras)

        return work


def measure(run: Run, case: CaseReport) -> None:
    try:
        python = peers_python()
    except Unavailable as error:
        case.notes.append(f"left out: psycopg: {error}")
        python = ""
    with run.directory() as directory:
        makers: list[Callable[[], Server]] = [
            lambda: TwinlogServer(directory / "async"),
            lambda: TwinlogServer(directory / "sync", sync_mode="sync"),
        ]
        if python:
            makers.append(lambda: PostgresServer(directory / "postgres"))
        with started(case, *makers) as servers:
            lazy, durable, postgres = (*servers, None)[:3]
            banks = [_twinlog("Twinlog async", lazy, "PostgreSQL, synchronous_commit off"), _twinlog("Twinlog sync", durable, "PostgreSQL, synchronous_commit on")]
            if postgres is not None:
                _fill_postgres(postgres)
                banks += [
                    Bank(f"PostgreSQL, synchronous_commit {mode}", (), python, "psycopg", _postgres_address(postgres, mode), postgres)
                    for mode in ("off", "on")
                ]
            for clients in CLIENTS:
                turns = [Contender(bank.name, bank.turn(clients, run.seconds), bank.peers) for bank in banks]
                ask(case, f"transactions, {clients} clients", "per second", turns, run.rounds)
            for server in (lazy, durable):
                with server.connect() as client:
                    total = sum(account["balance"] for account in client[DB]["accounts"].find({}))
                if total != ACCOUNTS * BALANCE:
                    raise LoadFailed(f"the accounts of {server.name} hold {total}, not {ACCOUNTS * BALANCE}")


def _twinlog(name: str, server: TwinlogServer, peer: str) -> Bank:
    with server.connect() as client:
        for start in range(0, ACCOUNTS, TWINLOG_BATCH):
            client[DB]["accounts"].insert_many([{"_id": number, "balance": BALANCE} for number in range(start, start + TWINLOG_BATCH)])
    return Bank(name, (peer,), sys.executable, "twinlog", server.url(secure=False) + "?key=", server)


def _fill_postgres(server: PostgresServer) -> None:
    server.query("create table accounts (id bigint primary key, doc jsonb not null)")
    server.query(
        f"insert into accounts select n, jsonb_build_object('balance', {BALANCE}) from generate_series(0, {ACCOUNTS - 1}) n"
    )
    server.query("vacuum analyze accounts")


def _postgres_address(server: PostgresServer, synchronous_commit: str) -> str:
    options = f"options='-c synchronous_commit={synchronous_commit}'"
    return f"host=127.0.0.1 port={server.address[1]} user=postgres dbname=postgres sslmode=disable {options}"

"""Money moved between accounts by many threads in transactions, over the wire, while the primary is killed and the standby takes over:
the total is the same in every snapshot on every node (INV-2, INV-3), and every transfer that was acknowledged is kept (INV-1)."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import twinlog
from tests.ends.pair_under_fire import PairUnderFire
from twinlog.errors import OperationFailure, TwinlogError

ACCOUNTS, BALANCE, THREADS = 12, 1_000, 8
DB = "bank"
ACKED = "acks: 1\nheartbeat_ms: 100\n"


class BankUnderFire(PairUnderFire):
    """The writer is eight tellers, each with a random stream of its own; `acknowledged` are the numbers of their transfers."""

    def __init__(self, directory: Path, settings: str) -> None:
        super().__init__(directory, settings)
        self.totals: list[int] = []
        self.halves: list[AssertionError] = []
        self.lock = threading.Lock()

    def _write(self) -> None:
        with self.connect(retry_s=2.0) as client:
            opened = client[DB]["accounts"].insert_many([{"_id": number, "balance": BALANCE} for number in range(ACCOUNTS)])
            work = [(self._transfer, client, number) for number in range(THREADS)]
            work += [(self._audit, client.read_from(kind, min_position=opened.position)) for kind in ("primary", "standby")]
            threads = [threading.Thread(target=each, args=arguments, daemon=True) for each, *arguments in work]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _transfer(self, client: twinlog.Client, teller: int) -> None:
        rng = random.Random(teller)
        number = teller
        while not self._stop.is_set():
            source, target = rng.sample(range(ACCOUNTS), 2)
            amount = rng.randint(1, 50)

            def move(tx: Any, source: int = source, target: int = target, amount: int = amount, number: int = number) -> None:
                if tx["transfers"].find_one(number) is not None:
                    return  # an earlier attempt was kept after all: its answer, and the node it came from, were lost
                for account, change in ((source, -amount), (target, amount)):
                    tx["accounts"].update_one({"_id": account}, {"$inc": {"balance": change}})
                tx["transfers"].insert_one({"_id": number, "source": source, "target": target, "amount": amount})

            try:
                client[DB].run_transaction(move, max_time_ms=5_000)
            except TwinlogError as error:
                self.refusals.append(f"{type(error).__name__}: {error}")
                continue  # the same transfer again
            with self._progress:
                self.acknowledged.add(number)
                self._progress.notify_all()
            number += THREADS

    def _audit(self, client: twinlog.Client) -> None:
        while not self._stop.is_set():
            try:
                with client[DB].transaction() as tx:
                    total, _ = audited(tx)
            except AssertionError as error:
                self.halves.append(error)
            except TwinlogError as error:
                self.refusals.append(f"{type(error).__name__}: {error}")
            else:
                with self.lock:
                    self.totals.append(total)


def audited(tx: Any) -> tuple[int, set[int]]:
    """The sum of all balances and the transfers there are; each balance is what the transfers say."""
    balances = {account["_id"]: account["balance"] for account in tx["accounts"].find({})}
    expected = dict.fromkeys(balances, BALANCE)
    seen = set()
    for transfer in tx["transfers"].find({}).batch_size(5_000):
        expected[transfer["source"]] -= transfer["amount"]
        expected[transfer["target"]] += transfer["amount"]
        seen.add(transfer["_id"])
    assert balances == expected, "a snapshot shows half of a transfer"
    return sum(balances.values()), seen


def test_the_total_is_constant_whatever_is_killed(tmp_path: Path) -> None:
    with BankUnderFire(tmp_path, ACKED) as fire:
        fire.wait_for_more(40)
        fire.kill("a")
        with fire.connect(read="any") as client:
            client.promote(fire.local.addresses()["b"], force=True)
        fire.start()
        fire.wait_for_more(40)
        fire.kill("b")
        fire.start()
        fire.wait_for_more(40)
        fire.finish()
        assert fire.halves == []
        assert set(fire.totals) <= {ACCOUNTS * BALANCE} and len(fire.totals) > 10, fire.refusals[-3:]
        for name, address in fire.local.addresses().items():
            with twinlog.connect(f"twinlog://{address}/?key={fire.local.client_key}&read=any") as client:

                def everything(client: twinlog.Client = client) -> str | None:
                    try:
                        with client.read_from("any")[DB].transaction() as tx:
                            total, kept = audited(tx)
                    except OperationFailure as error:
                        return str(error)
                    assert total == ACCOUNTS * BALANCE
                    missing = fire.acknowledged - kept
                    return f"{len(missing)} acknowledged transfers are not on {name} yet" if missing else None  # noqa: B023

                fire.local.wait_ready(everything)

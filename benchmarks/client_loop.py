"""One client library in a process of its own: inserts or gets from N threads for some seconds. Prints one JSON object.

    python client_loop.py LIBRARY ADDRESS KIND THREADS SECONDS FIRST_KEY KEY_COUNT

Stands alone, because it also runs in the environment that holds the peers' libraries and not Twinlog. LIBRARY: twinlog,
redis, psycopg. ADDRESS: what the library's connect takes. KIND: insert (keys FIRST_KEY, FIRST_KEY+1, ... over all threads),
get (any of the KEY_COUNT from FIRST_KEY), or transfer (a transaction that reads two of those, the "accounts", and moves 1 from one to the
other: six round trips; tried again when it meets a conflict). A document is a dict on both sides of every library: encoding is part of
the work.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Callable

Work = Callable[..., object]
WARM_CALLS = 10
FIELDS = {"name": "Ada Lovelace", "channel": 17, "score": 12.5, "active": True, "text": "x" * 122}


def twinlog_work(address: str, kind: str, threads: int) -> Callable[[], Work]:
    import twinlog

    client = twinlog.connect(address, pool=threads)
    collection = client["bench"]["docs"]

    def insert(key: int) -> None:
        collection.insert_one({"_id": key, **FIELDS})

    def get(key: int) -> None:
        assert collection.find_one({"_id": key}) is not None, key

    def move(tx: twinlog.Transaction, source: int, target: int) -> None:
        held = tx["accounts"]
        balances = held.find_one({"_id": source})["balance"], held.find_one({"_id": target})["balance"]
        held.update_one({"_id": source}, {"$set": {"balance": balances[0] - 1}})
        held.update_one({"_id": target}, {"$set": {"balance": balances[1] + 1}})

    def transfer(source: int, target: int) -> None:
        client["bench"].run_transaction(lambda tx: move(tx, source, target))

    return lambda: {"insert": insert, "get": get, "transfer": transfer}[kind]


def redis_work(address: str, kind: str, threads: int) -> Callable[[], Work]:
    import redis

    pool = redis.BlockingConnectionPool.from_url(
        address, max_connections=threads, **({"ssl_cert_reqs": "none"} if address.startswith("rediss:") else {})
    )
    client = redis.Redis(connection_pool=pool)

    def insert(key: int) -> None:
        client.set(b"%016d" % key, json.dumps(FIELDS))

    def get(key: int) -> None:
        assert json.loads(client.get(b"%016d" % key)), key

    return lambda: insert if kind == "insert" else get


def psycopg_work(address: str, kind: str, threads: int) -> Callable[[], Work]:
    import psycopg
    from psycopg.types.json import Jsonb

    def for_one_thread() -> Work:
        connection = psycopg.connect(address, autocommit=True, prepare_threshold=0)
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        cursor = connection.cursor()

        def insert(key: int) -> None:
            cursor.execute("insert into docs values (%s, %s)", (key, Jsonb(FIELDS)))

        def get(key: int) -> None:
            assert cursor.execute("select doc from docs where id = %s", (key,)).fetchone() is not None, key

        def transfer(source: int, target: int) -> None:
            while True:
                try:
                    with connection.transaction():
                        read = "select (doc->>'balance')::bigint from accounts where id = %s"
                        balances = [cursor.execute(read, (one,)).fetchone()[0] for one in (source, target)]
                        for one, balance in ((source, balances[0] - 1), (target, balances[1] + 1)):
                            cursor.execute("update accounts set doc = %s where id = %s", (Jsonb({"balance": balance}), one))
                    return
                except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                    pass

        return {"insert": insert, "get": get, "transfer": transfer}[kind]

    return for_one_thread


LIBRARIES = {"twinlog": twinlog_work, "redis": redis_work, "psycopg": psycopg_work}


def main() -> None:
    library, address, kind, threads, seconds, first, count = sys.argv[1:]
    make = LIBRARIES[library](address, kind, int(threads))
    rng = random.Random()
    numbers = range(int(first), int(first) + int(count))
    sequence = itertools.count(int(first))
    draws = {
        "insert": lambda: (next(sequence),),
        "get": lambda: (rng.choice(numbers),),
        "transfer": lambda: rng.sample(numbers, 2),
    }
    next_keys = draws[kind]
    done = [0] * int(threads)
    begun = threading.Barrier(int(threads) + 1)
    ends_at = [float("inf")]

    def loop(number: int) -> None:
        work = make()
        for _ in range(WARM_CALLS):  # each thread's connection is made here, all of them at once
            work(*next_keys())
        begun.wait()
        while time.monotonic() < ends_at[0]:
            work(*next_keys())
            done[number] += 1

    running = [threading.Thread(target=loop, args=(number,), daemon=True) for number in range(int(threads))]
    for thread in running:
        thread.start()
    begun.wait()
    cpu = time.process_time()  # from here on: importing a library and its first connection are not what a call costs
    began = time.monotonic()
    ends_at[0] = began + float(seconds)
    for thread in running:
        thread.join()
    took = time.monotonic() - began
    cpu = time.process_time() - cpu
    keys = next(sequence) - int(first)
    print(json.dumps({"count": sum(done), "seconds": took, "keys": keys, "cpu": cpu}))


if __name__ == "__main__":
    main()

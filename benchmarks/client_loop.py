"""One client library in a process of its own: inserts or gets from N threads for some seconds. Prints one JSON object.

    python client_loop.py LIBRARY ADDRESS KIND THREADS SECONDS FIRST_KEY KEY_COUNT

Stands alone, because it also runs in the environment that holds the peers' libraries and not Twinlog. LIBRARY: twinlog,
redis, psycopg. ADDRESS: what the library's connect takes. KIND: insert (keys FIRST_KEY, FIRST_KEY+1, ... over all threads) or
get (any of the KEY_COUNT from FIRST_KEY). A document is a dict on both sides of every library: encoding is part of the
work.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Callable

Work = Callable[[int], object]
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

    return lambda: insert if kind == "insert" else get


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
        cursor = psycopg.connect(address, autocommit=True, prepare_threshold=0).cursor()

        def insert(key: int) -> None:
            cursor.execute("insert into docs values (%s, %s)", (key, Jsonb(FIELDS)))

        def get(key: int) -> None:
            assert cursor.execute("select doc from docs where id = %s", (key,)).fetchone() is not None, key

        return insert if kind == "insert" else get

    return for_one_thread


LIBRARIES = {"twinlog": twinlog_work, "redis": redis_work, "psycopg": psycopg_work}


def main() -> None:
    library, address, kind, threads, seconds, first, count = sys.argv[1:]
    make = LIBRARIES[library](address, kind, int(threads))
    rng = random.Random(1)
    draw = lambda: int(first) + rng.randrange(int(count))  # noqa: E731
    sequence = itertools.count(int(first))
    next_key = sequence.__next__ if kind == "insert" else draw
    done = [0] * int(threads)
    begun = threading.Barrier(int(threads) + 1)
    ends_at = [float("inf")]

    def loop(number: int) -> None:
        work = make()
        for _ in range(WARM_CALLS):  # each thread's connection is made here, all of them at once
            work(next_key())
        begun.wait()
        while time.monotonic() < ends_at[0]:
            work(next_key())
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

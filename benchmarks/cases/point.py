"""Single requests: insert with ever new keys, get by key, ping. Nothing is synced before an answer, anywhere."""

from __future__ import annotations

from benchmarks import templates
from benchmarks.contest import Contender, Keys, Run, ask, load, started
from benchmarks.generator import Dial, Load
from benchmarks.processes import Server
from benchmarks.report import CaseReport
from benchmarks.servers import COLLECTION, DB, PostgresServer, RedisServer, TwinlogServer
from benchmarks.templates import Template

WHAT = (
    "16 connections, one request outstanding on each, then 64: insert of one 200-byte document with a new key, get by key among "
    "the documents loaded before, ping. Twinlog in its default mode (async: an answer means that the kernel has the bytes), Redis "
    "with appendfsync everysec, PostgreSQL with synchronous_commit off. Encrypted Twinlog stands beside Redis over TLS (both AES-256-GCM), plain "
    "beside plain."
)
CONNECTIONS = 16
DEPTHS = (1, 64)
WARMUP_SHARE = 0.25
PRELOAD_PER_REQUEST = 1000
PRELOAD_SECONDS_MAX = 3600.0


class Field:
    """One way into one server: what it is called, whom it is set against, and its requests."""

    def __init__(
        self, name: str, peers: tuple[str, ...], server: Server, dial: Dial, keys: Keys, *, tls: bool, requests: dict[str, Template]
    ) -> None:
        self.name = name
        self.peers = peers
        self.server = server
        self.dial = dial
        self.keys = keys
        self.tls = tls
        self.requests = requests
        self.loaded = 0  # keys that gets may draw from: the same for every server, however many inserts it took since

    def contender(self, kind: str, run: Run, *, connections: int, depth: int) -> Contender:
        inserts = kind == "insert"
        order = Load(
            self.requests[kind],
            depth=depth,
            seconds=run.seconds,
            warmup=run.seconds * WARMUP_SHARE,
            key_count=self.loaded if kind == "get" else 0,
            tls=self.tls,
        )
        keys = self.keys if inserts else None
        return Contender(self.name, lambda: load(self.server, self.dial, connections, order, keys), self.peers, self.server)

    def preload(self, documents: int) -> None:
        template = self.requests["insert_many"]
        order = Load(template, seconds=PRELOAD_SECONDS_MAX, limit=documents // template.documents, tls=self.tls)
        load(self.server, self.dial, 1, order, self.keys)


def twinlog_fields(server: TwinlogServer) -> list[Field]:
    requests = {
        "insert": templates.twinlog_insert(DB, COLLECTION),
        "insert_many": templates.twinlog_insert(DB, COLLECTION, PRELOAD_PER_REQUEST),
        "get": templates.twinlog_get(DB, COLLECTION),
        "ping": templates.twinlog_ping(),
    }
    keys = Keys()
    with server.connect() as client:
        client.create_database(DB)
    return [
        Field("Twinlog encrypted", ("Redis TLS",), server, server.secure, keys, tls=False, requests=requests),
        Field("Twinlog plain", ("Redis plain", "PostgreSQL plain"), server, server.plain, keys, tls=False, requests=requests),
    ]


def redis_fields(server: RedisServer) -> list[Field]:
    requests = {
        "insert": templates.redis_set(),
        "insert_many": templates.redis_set(PRELOAD_PER_REQUEST),
        "get": templates.redis_get(),
        "ping": templates.redis_ping(),
    }
    keys = Keys()
    return [
        Field("Redis TLS", (), server, server.secure, keys, tls=True, requests=requests),
        Field("Redis plain", (), server, server.plain, keys, tls=False, requests=requests),
    ]


def postgres_fields(server: PostgresServer, *, synchronous_commit: bool) -> list[Field]:
    requests = {
        "insert": templates.postgres_insert(),
        "insert_many": templates.postgres_copy(PRELOAD_PER_REQUEST),
        "get": templates.postgres_get(),
        "ping": templates.postgres_ping(),
    }
    server.make_table()
    dial = server.dial(synchronous_commit=synchronous_commit)
    return [Field("PostgreSQL plain", (), server, dial, Keys(), tls=False, requests=requests)]


def measure(run: Run, case: CaseReport) -> None:
    with run.directory() as directory:
        makers = (
            lambda: TwinlogServer(directory / "twinlog"),
            lambda: RedisServer(directory / "redis", fsync="everysec"),
            lambda: PostgresServer(directory / "postgres"),
        )
        with started(case, *makers) as (twinlog, redis, postgres):
            fields = twinlog_fields(twinlog)
            if redis is not None:
                fields += redis_fields(redis)
            if postgres is not None:
                fields += postgres_fields(postgres, synchronous_commit=False)
            documents = run.count(short=20_000, long=200_000)
            for field in {id(field.keys): field for field in fields}.values():
                field.preload(documents)
            for field in fields:
                field.loaded = documents
            for depth in DEPTHS:
                for kind in ("insert", "get", "ping"):
                    contenders = [field.contender(kind, run, connections=CONNECTIONS, depth=depth) for field in fields]
                    ask(case, f"{kind}, {CONNECTIONS} connections × {depth}", "per second", contenders, run.rounds)

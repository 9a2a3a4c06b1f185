"""What the node's tests share: a member without peers, a service over a real engine in memory, a bare client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from itertools import count
from typing import Any

import trio
from msgspec import Raw

import storage
from node import wire
from node.carrier import carry
from node.config import Limits, load
from node.metrics import Metrics
from node.service import Service
from node.users import Logins, User

LAG = {"commits": 3, "bytes": 100, "seconds": 0.5}


class FakeRole(Enum):
    PRIMARY = "primary"


class FakeMember:
    """A primary without standbys: begins the reign of new databases, acknowledges what is durable here."""

    role = FakeRole.PRIMARY
    epoch = 1

    def __init__(self, engine: storage.Engine) -> None:
        self.refusal: storage.TwinlogError | None = None
        self.held = False  # acknowledgements wait until release()
        self.promoted_with: list[bool] = []
        self.orders: list[tuple[Any, ...]] = []
        self._engine = engine
        self._waiting: list[tuple[Any, int, Callable[[Any], None]]] = []
        engine.watch_databases(self._on_database)

    def _on_database(self, kind: str, name: str) -> None:
        db = self._engine.databases.get(name)
        if kind == "created" and db is not None:
            db.begin_reign(self.epoch)
            db.flush()
            db.visible_advance.subscribe(lambda seq: self.release() if not self.held else None)

    @property
    def leads(self) -> bool:
        return self.role is FakeRole.PRIMARY

    def check_leads(self) -> None:
        if not self.leads:
            raise storage.NotPrimary("a fake standby", primary="127.0.0.1:6901")

    def check_writable(self, database: object = None) -> None:
        if self.refusal is not None:
            raise self.refusal

    def primary_address(self) -> str:
        return "127.0.0.1:6900"

    def when_acknowledged(self, db: Any, seq: int, callback: Callable[[Any], None]) -> None:
        if not self.held and db.visible.seq >= seq:
            callback(None)
        else:
            self._waiting.append((db, seq, callback))

    def release(self, error: storage.TwinlogError | None = None) -> None:
        ready = [entry for entry in self._waiting if error is not None or entry[0].visible.seq >= entry[1]]
        self._waiting = [entry for entry in self._waiting if entry not in ready]
        for _, _, callback in ready:
            callback(error)

    async def acknowledged(self, db: Any, seq: int) -> None:
        await db.visible_advance.wait_for(seq)

    async def mark(self, name: str) -> dict[str, tuple[int, int, str]]:
        db = self._engine.database(name)
        seq = db.mark()
        db.flush()
        await db.mark_advance.wait_for(seq)
        return {"node": (seq, db.chain, db.marks[seq])}

    async def drop_database(self, name: str) -> None:
        await self._engine.drop_database(name)

    async def promote(self, *, force: bool = False, automatic: bool = False) -> None:
        self.promoted_with.append(force)
        self.asked_automatically = automatic

    async def switch_over(self, to: str, timeout_s: float, *, automatic: bool = False) -> tuple[int, float]:
        self.switched_to = (to, timeout_s)
        self.asked_automatically = automatic
        return self.epoch + 2, 0.01

    async def fence(self, why: str) -> dict[str, Any]:
        return self._ordered("fence", why)

    async def unfence(self) -> dict[str, Any]:
        return self._ordered("unfence")

    async def rejoin(self, *, reseed: bool) -> dict[str, Any]:
        return self._ordered("rejoin", reseed)

    async def pause(self, why: str) -> dict[str, Any]:
        return self._ordered("pause", why)

    async def resume(self) -> dict[str, Any]:
        return self._ordered("resume")

    def reseed(self, name: str) -> None:
        self._ordered("reseed", name)

    def role_history(self) -> dict[str, Any]:
        return self._ordered("role_history")

    def check(self) -> dict[str, Any]:
        return self._ordered("check")

    def _ordered(self, *order: Any) -> dict[str, Any]:
        self.orders.append(order)
        return {"role": self.role.value, "epoch": self.epoch}

    def status(self) -> dict[str, Any]:
        return {
            "role": self.role.value,
            "epoch": self.epoch,
            "databases": {
                name: {
                    "position": list(db.position),
                    "chain": f"{db.chain:016x}",
                    "history": [reign.as_list() for reign in db.history],
                    "standbys": {"b": {"known": True, "streaming": True, "lag": LAG}},
                }
                for name, db in self._engine.databases.items()
            },
            "peers": {"b": {"address": "10.0.0.2:6901", "connected": True, "role": "standby", "epoch": 1}},
            "alarms": [],
        }


def memory_seams() -> storage.Seams:
    """Everything in memory, with counted time and entropy."""
    disk = storage.MemoryDisk()
    ticks, draws = count(1_700_000_000_000_000), count(1)
    return storage.Seams(
        disk, lambda: next(ticks), lambda size: next(draws).to_bytes(8, "big").rjust(size, b"r")[-size:], storage.WorkHere(disk)
    )


def limits(**changes: int) -> Limits:
    """The default limits, some changed: names without `limits.`."""
    overrides = {"data": "unused", **{f"limits.{name}": value for name, value in changes.items()}}
    return load(None, overrides).limits


class Rig:
    """A service over a real engine; `member` is the fake."""

    def __init__(self, engine: storage.Engine, member: FakeMember, service: Service, chosen: Limits) -> None:
        self.engine = engine
        self.member = member
        self.service = service
        self.metrics = service.metrics
        self.limits = chosen

    def session(self) -> wire.ServerSession:
        return wire.ServerSession(
            lambda key_id: None, wire.PortRole.CLIENT, plain_allowed=True, random_bytes=lambda size: bytes(size)
        )


@asynccontextmanager
async def open_rig(
    *,
    users: dict[str, User] | None = None,
    options: storage.EngineOptions | None = None,
    seams: storage.Seams | None = None,
    **changes: int,
) -> AsyncIterator[Rig]:
    seams = seams or memory_seams()
    chosen = limits(**changes)
    async with storage.Engine.open(seams, options=options) as engine, trio.open_nursery() as nursery:
        member = FakeMember(engine)
        logins = Logins(
            users, seams.disk.run, failures_max=chosen.login_failures_max, window_s=chosen.login_window_s
        )
        service = Service(
            engine, member, node="node", limits=chosen, logins=logins, metrics=Metrics(), random_bytes=seams.random_bytes
        )
        await nursery.start(service.run)
        yield Rig(engine, member, service, chosen)
        nursery.cancel_scope.cancel()


class BareClient:
    """A wire session over a stream, one request after the other or many at once; answers by request id."""

    def __init__(self, stream: trio.abc.Stream, key: wire.Key | None = None) -> None:
        self.stream = stream
        self._session = wire.ClientSession(key, wire.PortRole.CLIENT, random_bytes=lambda size: b"\x07" * size)
        self._ids = count(1)
        self._answers: dict[int, wire.Answer] = {}

    async def open(self) -> BareClient:
        await self.stream.send_all(self._session.start())
        while not isinstance(await self._event(), wire.HandshakeDone):
            pass
        return self

    async def send(self, kind: type[wire.Request], *values: Any, **named: Any) -> int:
        """Send one request; returns its id."""
        request_id = next(self._ids)
        self._session.send_message(wire.encode_request(kind(request_id, *values, **named)))
        await self.flush()
        return request_id

    async def flush(self) -> None:
        while data := self._session.data_to_send():
            await self.stream.send_all(data)

    async def answer(self, request_id: int) -> wire.Answer:
        while request_id not in self._answers:
            event = await self._event()
            assert not isinstance(event, wire.Ended), "the node closed the connection"
            if isinstance(event, wire.Message):
                answer = wire.decode_answer(event.data)
                self._answers[answer.id] = answer
        return self._answers.pop(request_id)

    async def call(self, kind: type[wire.Request], *values: Any, **named: Any) -> Any:
        """The decoded result; a Failure raises the error it names."""
        answer = await self.ask(kind, *values, **named)
        if isinstance(answer, wire.Failure):
            raise storage.errors.from_wire(answer.name, answer.message, answer.fields)
        return storage.decode_value(bytes(answer.result))

    async def read_here(self, kind: type[wire.Request], *values: Any, **named: Any) -> Any:
        """As call, of a node that may be a standby."""
        return await self.call(wire.Anywhere, kind(0, *values, **named))

    async def ask(self, kind: type[wire.Request], *values: Any, **named: Any) -> wire.Answer:
        return await self.answer(await self.send(kind, *values, **named))

    async def _event(self) -> wire.Event:
        while True:
            event = self._session.next_event()
            if event is not wire.NEED_DATA:
                await self.flush()
                return event
            self._session.receive_data(await self.stream.receive_some())

    async def ended(self) -> None:
        """Until the node has closed the connection, whatever it still said."""
        while not isinstance(await self._event(), wire.Ended):
            pass


@asynccontextmanager
async def connect(rig: Rig, nursery: trio.Nursery, *, peer: str = "10.0.0.1") -> AsyncIterator[BareClient]:
    """A client of the rig over a stream in memory that pushes back."""
    near, far = trio.testing.lockstep_stream_pair()

    async def serve() -> None:
        await carry(far, rig.service, rig.session(), rig.limits, peer=peer)

    nursery.start_soon(serve)
    async with near:
        yield await BareClient(near).open()


def document(**fields: Any) -> Raw:
    """A document as the wire carries it; `id` becomes `_id`."""
    named = {("_id" if name == "id" else name): value for name, value in fields.items()}
    return Raw(storage.encode_document(named))


def value(plain: Any) -> Raw:
    """A filter, key, sort or projection as the wire carries it."""
    return Raw(storage.encode_value(plain))

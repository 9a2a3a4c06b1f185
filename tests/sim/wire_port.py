"""A client of the simulated cluster over real wire sessions: dials, asks, follows NotPrimary, gives up after a while.

It never decides an outcome it did not hear: a broken link or a timeout is NoAnswer, and the same request goes out again
with the same id.
"""

from __future__ import annotations

import random

import trio
from msgspec import Raw

from node import wire
from storage import encode_value
from storage.errors import TwinlogError, from_wire
from tests.sim.links import SimNetwork, SimStream
from tests.sim.node import DATABASE
from tests.sim.workload import INDEXES, Answer, NoAnswer, Request

ANSWER_TIMEOUT_S = 3.0


class WirePort:
    """One client's connection, at most one request under way."""

    def __init__(self, name: str, names: list[str], network: SimNetwork, rng: random.Random) -> None:
        self._name = name
        self._names = names
        self._network = network
        self._rng = rng
        self._target = names[0]
        self._stream: SimStream | None = None
        self._session: wire.ClientSession | None = None
        self._last_id = 0

    async def call(self, request: Request) -> Answer:
        try:
            with trio.move_on_after(ANSWER_TIMEOUT_S):
                reply = await self._exchange(request)
                return self._answer(request, reply)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, wire.WireError):
            pass
        except TwinlogError as error:
            if error.name == "NotPrimary":
                self._go_to(str(error.fields.get("primary", "")).partition("/")[0])
                raise NoAnswer from None
            if error.name in ("ReadOnly", "ShuttingDown", "DiskFailed"):
                self._go_to("")
            raise
        self._go_to("")
        raise NoAnswer

    def _go_to(self, name: str) -> None:
        self._close()
        self._target = name if name in self._names else self._rng.choice(self._names)

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close_now()
        self._stream = self._session = None

    async def _exchange(self, request: Request) -> wire.Reply:
        if self._stream is None:
            self._stream = await self._network.dial(self._name, f"{self._target}/client")
            self._session = wire.ClientSession(None, wire.PortRole.CLIENT, random_bytes=self._rng.randbytes)
            await self._stream.send_all(self._session.start())
        self._last_id += 1
        self._session.send_message(wire.encode_request(to_wire(request, self._last_id)))
        await self._send()
        while True:
            event = self._session.next_event()
            if event is wire.NEED_DATA:
                self._session.receive_data(await self._stream.receive_some())
            elif isinstance(event, wire.Ended):
                raise trio.BrokenResourceError("the node closed the connection")
            elif isinstance(event, wire.Message):
                answer = wire.decode_answer(event.data)
                if answer.id != self._last_id:
                    continue
                if isinstance(answer, wire.Failure):
                    raise from_wire(answer.name, answer.message, answer.fields)
                return answer
            await self._send()

    async def _send(self) -> None:
        while data := self._session.data_to_send(2**20):
            await self._stream.send_all(data)

    def _answer(self, request: Request, reply: wire.Reply) -> Answer:
        fields = wire.decode_fields(reply.result)
        changed = 0
        if request.kind == "insert":
            for row in fields["errors"]:
                assert row[2] == "DuplicateKey", f"an insert was refused by {row}"
            changed = fields["n"]
        elif request.kind in ("replace", "update"):
            changed = fields["modified"] + (fields["upserted"] is not None)
        elif request.kind == "delete":
            changed = fields["n"]
        return Answer(self._target, reply.epoch, reply.seq, changed)


def to_wire(request: Request, number: int) -> wire.Request:
    name, condition = request.collection, Raw(encode_value(request.filter))
    if request.kind == "insert":
        return wire.Insert(number, DATABASE, name, [Raw(doc) for doc in request.docs], request=request.id)
    if request.kind == "replace":
        return wire.Replace(number, DATABASE, name, condition, Raw(request.docs[0]), upsert=request.upsert, request=request.id)
    if request.kind == "update":
        change = Raw(encode_value(request.change))
        return wire.Update(
            number, DATABASE, name, condition, change, many=request.many, upsert=request.upsert, request=request.id
        )
    if request.kind == "delete":
        return wire.Delete(number, DATABASE, name, condition, many=request.many, request=request.id)
    if request.kind == "index":
        keys, options = INDEXES[request.index]
        return wire.CreateIndexes(number, DATABASE, name, [(Raw(encode_value(keys)), Raw(encode_value(options)))], request=request.id)
    if request.kind == "drop index":
        return wire.DropIndex(number, DATABASE, name, request.index, request=request.id)
    return wire.DropCollection(number, DATABASE, name)

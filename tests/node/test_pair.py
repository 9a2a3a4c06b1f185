"""Two whole nodes over loopback, under keys: what is acknowledged on the primary is on the standby, and both say so."""

from __future__ import annotations

import socket
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from node import wire
from node.config import load
from node.server import Node
from storage import canonical, errors

from .fakes import BareClient, document, value


def _free_ports(number: int) -> list[int]:
    """Ports that were free a moment ago: peers must know each other's before either is up."""
    with ExitStack() as held:
        taken = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [listener.getsockname()[1] for listener in taken]


@pytest.fixture
def pair(tmp_path):
    """The configurations of nodes a (primary at first) and b."""
    for name, first in (("client.key", 1), ("cluster.key", 100)):
        key = wire.Key(bytes(range(first, first + 16)), bytes(range(first, first + 32)))
        (tmp_path / name).write_text(wire.format_keys((key,)))
        (tmp_path / name).chmod(0o600)
    ports = _free_ports(4)
    text = f"""
cluster: pair
primary: a
acks: 1
client_keys: client.key
cluster_key: cluster.key
heartbeat_ms: 50
nodes:
  a: {{client: "127.0.0.1:{ports[0]}", cluster: "127.0.0.1:{ports[1]}"}}
  b: {{client: "127.0.0.1:{ports[2]}", cluster: "127.0.0.1:{ports[3]}"}}
"""
    (tmp_path / "pair.yaml").write_text(text)
    path = str(tmp_path / "pair.yaml")
    return {name: load(path, {"node": name, "data": str(tmp_path / name)}) for name in "ab"}


@asynccontextmanager
async def _client(node: Node):
    key = wire.Key(bytes(range(1, 17)), bytes(range(1, 33)))
    async with await trio.open_tcp_stream(*node.client_address) as stream:
        yield await BareClient(stream, key).open()


async def test_an_acknowledged_write_is_read_from_the_standby(pair):
    with trio.fail_after(120):
        async with Node.open(pair["a"]) as a, Node.open(pair["b"]) as b, _client(a) as writer, _client(b) as reader:
            written = await writer.ask(wire.Insert, "chat", "m", [document(id=1, text="twice")])
            assert isinstance(written, wire.Reply), written
            position = [written.epoch, written.seq]
            read = await reader.read_here(wire.Get, "chat", "m", value(1), min_position=position)
            assert read["doc"] == {"_id": 1, "text": "twice"}
            with pytest.raises(errors.NotPrimary) as refused:
                await reader.call(wire.Insert, "chat", "m", [document(id=2)])
            assert refused.value.fields["primary"] == str(a.client_address)
            for kind, asked in ((wire.Get, ("m", value(1))), (wire.Find, ("m", value({}))), (wire.ListCollections, ()), (wire.Begin, ())):
                with pytest.raises(errors.NotPrimary, match="read=any") as refused:
                    await reader.call(kind, "chat", *asked)
                assert refused.value.fields["primary"] == str(a.client_address), kind
            status = await writer.call(wire.Status, mark=True)
            mark = status["databases"]["chat"]["mark"]
            assert mark["equal"] is True and set(mark["nodes"]) == {"a", "b"}
            (standby,) = status["standbys"]
            assert (standby["name"], standby["connected"], standby["streaming"]) == ("b", True, True)
            assert b"twinlog_standby_lag_commits" in a.metrics.exposition()
            told = await reader.call(wire.Status)
            assert told["role"] == "standby" and told["standbys"][0]["lag_commits"] is None
            assert b"twinlog_role" in b.metrics.exposition()


async def test_a_promoted_standby_takes_writes_and_the_old_primary_follows(pair):
    with trio.fail_after(120):
        async with Node.open(pair["b"]) as b, _client(b) as client:
            async with Node.open(pair["a"]) as a, _client(a) as writer:
                assert isinstance(await writer.ask(wire.Insert, "chat", "m", [document(id=1)]), wire.Reply)
            assert (await client.call(wire.Promote))["role"] == "primary"
            async with Node.open(pair["a"]) as a, _client(a) as reader:
                written = await client.ask(wire.Insert, "chat", "m", [document(id=2)])
                assert isinstance(written, wire.Reply) and written.epoch == 2
                read = await reader.read_here(wire.Get, "chat", "m", value(2), min_position=[written.epoch, written.seq])
                assert read["doc"] == {"_id": 2}
                assert (await reader.call(wire.Status))["role"] == "standby"


async def _scrubbed(client: BareClient) -> dict:
    report = await client.call(wire.Scrub, "chat", True, 5_000)
    while report["running"]:
        report = await client.call(wire.Scrub, "chat", False, 5_000)
    return report


def _flip(node: Node, number: int, at: int) -> tuple[Path, bytes]:
    """Flip a bit of a sealed document's record, `at` bytes from its start: its file, and what that held before."""
    marker = document(id=number, text="x" * number)
    for path in Path(node.config.data, "chat").glob("shard_*.db"):
        content = path.read_bytes()
        place = content.find(bytes(marker))
        if place >= 0:
            start = place - len(canonical(number)) - 40
            with path.open("r+b") as file:
                file.seek(start + at)
                file.write(bytes([content[start + at] ^ 16]))
            return path, content
    raise AssertionError(f"{number} is in no shard log")


async def _sealed(node: Node) -> None:
    await node.engine.databases["chat"].sealing.seal_now()


@pytest.mark.parametrize("at", [5, 39, 60])
async def test_a_byte_that_rots_on_either_node_is_put_right_from_the_other(pair, at):
    """In a record's header, where only the peer can help, and in its document, where the own log can."""
    with trio.fail_after(120):
        async with Node.open(pair["a"]) as a, Node.open(pair["b"]) as b, _client(a) as writer, _client(b) as reader:
            documents = [document(id=number, text="x" * number) for number in range(10, 60)]
            written = await writer.ask(wire.Insert, "chat", "m", documents)
            await reader.read_here(wire.Get, "chat", "m", value(11), min_position=[written.epoch, written.seq])
            for node in (a, b):
                await _sealed(node)
            for node, client in ((a, writer), (b, reader)):
                path, before = _flip(node, 33, at)
                assert path.read_bytes() != before
                report = await _scrubbed(client)
                assert path.read_bytes() == before, "byte for byte"
                assert report["repaired"] == 1 and report["damaged"] == []
                assert [finding["severity"] for finding in report["findings"]] == ["note"]
                status = await client.call(wire.Status)
                assert status["databases"]["chat"]["scrub"]["repaired"] == 1 and status["alarms"] == []
                assert b"twinlog_scrub_repaired 1.0" in node.metrics.exposition()
            mark = (await writer.call(wire.Status, mark=True))["databases"]["chat"]["mark"]
            assert mark["equal"] is True and set(mark["nodes"]) == {"a", "b"}, "INV-6"


async def test_a_read_that_meets_damage_is_repaired_for_the_next_one(pair):
    with trio.fail_after(120):
        async with Node.open(pair["a"]) as a, Node.open(pair["b"]), _client(a) as writer:
            documents = [document(id=number, text="x" * number) for number in range(10, 60)]
            await writer.call(wire.Insert, "chat", "m", documents)
            await _sealed(a)
            path, before = _flip(a, 40, 9)
            with pytest.raises(errors.DamagedRecord):
                await writer.call(wire.Get, "chat", "m", value(40))
            while path.read_bytes() != before:  # noqa: ASYNC110 - another task writes it
                await trio.sleep(0.01)
            assert (await writer.call(wire.Get, "chat", "m", value(40)))["doc"]["_id"] == 40

"""An old primary comes back: what it alone had is salvaged, shown by the node, and put back through the client and the command line."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio
from click.testing import CliRunner

import twinlog
from node import wire
from node.config import load
from node.server import Node
from ops.exit_codes import ExitCode
from ops.main import main
from twinlog.errors import InvalidOperation, OperationFailure


async def until(is_so) -> None:
    """A state of nodes in this process; looked for again and again, as long as the test's own limit lasts."""
    while not is_so():  # noqa: ASYNC110 - other nodes make it so
        await trio.sleep(0.02)


def _free_ports(number: int) -> list[int]:
    """Ports that were free a moment ago: peers must know each other's before either is up."""
    with ExitStack() as held:
        taken = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [listener.getsockname()[1] for listener in taken]


@pytest.fixture
def pair(tmp_path):
    """The configurations of nodes a (primary at first) and b, and the cluster's URL."""
    for name, first in (("client.key", 1), ("cluster.key", 100)):
        key = wire.Key(bytes(range(first, first + 16)), bytes(range(first, first + 32)))
        (tmp_path / name).write_text(wire.format_keys((key,)))
        (tmp_path / name).chmod(0o600)
    ports = _free_ports(4)
    text = f"""
cluster: pair
primary: a
client_keys: client.key
cluster_key: cluster.key
heartbeat_ms: 50
nodes:
  a: {{client: "127.0.0.1:{ports[0]}", cluster: "127.0.0.1:{ports[1]}"}}
  b: {{client: "127.0.0.1:{ports[2]}", cluster: "127.0.0.1:{ports[3]}"}}
"""
    (tmp_path / "pair.yaml").write_text(text)
    path = str(tmp_path / "pair.yaml")
    configs = {name: load(path, {"node": name, "data": str(tmp_path / name)}) for name in "ab"}
    return configs, f"twinlog://127.0.0.1:{ports[0]},127.0.0.1:{ports[2]}/?key={tmp_path / 'client.key'}"


@asynccontextmanager
async def came_back(pair):
    """Both nodes, b primary of epoch 2; a has rewound what it wrote alone: 10 and 11 made, 1 changed, 2 and 3 deleted. b has written 11 and 3 since."""
    configs, url = pair
    async with Node.open(configs["a"]) as a:
        async with Node.open(configs["b"]) as b, await twinlog.connect_async(url) as client:
            things = client.shop.things
            await things.insert_many([{"_id": number, "n": number} for number in range(5)])
            end = a.engine.databases["shop"].position.seq
            await until(lambda: "shop" in b.engine.databases and b.engine.databases["shop"].visible.seq >= end)
        async with await twinlog.connect_async(url) as client:
            things = client.shop.things
            await things.insert_many([{"_id": 10, "by": "a"}, {"_id": 11, "by": "a"}])
            await things.update_one({"_id": 1}, {"$set": {"by": "a"}})
            await things.delete_many({"_id": {"$in": [2, 3]}})
    async with Node.open(configs["b"]) as b:
        await b.member.promote(force=True)
        async with await twinlog.connect_async(url) as client:
            await client.shop.things.insert_one({"_id": 11, "by": "b"})
            await client.shop.things.update_one({"_id": 3}, {"$set": {"by": "b"}})
        async with Node.open(configs["a"]) as a:
            end = b.engine.databases["shop"].position.seq
            await until(lambda: a.engine.databases.get("shop") is not None and a.engine.databases["shop"].visible == (2, end))
            assert a.engine.databases["shop"].chain == b.engine.databases["shop"].chain
            yield a, b, url


async def _contents(url: str) -> dict:
    async with await twinlog.connect_async(url) as client:
        return {document.pop("_id"): document async for document in client.shop.things.find({})}


async def test_what_the_old_primary_alone_had_is_shown_and_put_back(pair):
    with trio.fail_after(300):
        async with came_back(pair) as (a, b, url), await twinlog.connect_async(url) as client:
            node = str(a.client_address)
            assert (await client.salvage_list(str(b.client_address)))["entries"] == []
            [entry] = (await client.salvage_list(node))["entries"]
            assert (entry["kind"], entry["database"], entry["manifest"]["documents"], entry["applied"]) == ("rewind", "shop", 3, [])
            assert (await client.status(node))["salvage"] == {"entries": 1, "bytes": entry["bytes"]}
            assert b"twinlog_salvage_entries 1.0" in a.metrics.exposition()
            shown = await client.salvage_show(entry["name"], node, limit=2)
            rows = shown["rows"] + (await client.salvage_show(entry["name"], node, offset=shown["next"]))["rows"]
            assert [(row["_id"], row["now"]) for row in rows] == [(10, "absent"), (11, "rewritten"), (1, "unchanged")]
            assert rows[0]["doc"] == {"_id": 10, "by": "a"} and shown["entry"]["manifest"]["collections"]["things"]["written_ids"] == [10, 11, 1]

            dry = await client.salvage_apply(entry["name"], node, dry_run=True)
            assert (dry.inserted, dry.skipped_total, dry.deletions_left) == (1, 2, 2) and 10 not in await _contents(url)
            result = await client.salvage_apply(entry["name"], node)
            assert (result.inserted, result.same, result.deleted, result.deletions_left) == (1, 0, 0, 2)
            assert {value: why.split(" ")[0] for _, value, why in result.skipped} == {11: "the", 1: "it"}
            assert (await _contents(url))[10] == {"by": "a"}
            again = await client.salvage_apply(entry["name"], node, deletes=True)
            assert (again.inserted, again.same, again.deleted, again.skipped_total) == (0, 1, 1, 3), "3 was written by b since"
            found = await _contents(url)
            assert 2 not in found and found[3]["by"] == "b" and found[11] == {"by": "b"}

            over = await client.salvage_apply(entry["name"], node, mode="upsert", deletes=True)
            assert (over.replaced, over.deleted, over.same, over.skipped_total) == (2, 1, 2, 0)
            assert sorted(value for _, value in over.overwritten) == [3, 11]
            assert await _contents(url) == {0: {"n": 0}, 1: {"n": 1, "by": "a"}, 4: {"n": 4}, 10: {"by": "a"}, 11: {"by": "a"}}
            [entry] = (await client.salvage_list(node))["entries"]
            assert [applied["mode"] for applied in entry["applied"]] == ["missing", "missing", "upsert"], "a dry run leaves no note"
            with pytest.raises(OperationFailure, match="no salvage entry"):
                await client.salvage_drop("shop/salvage/other", node)
            assert await client.salvage_drop(entry["name"], node) == entry["bytes"]
            assert (await client.status(node))["salvage"] == {"entries": 0, "bytes": 0}


async def test_the_command_line_lists_shows_applies_and_drops(pair, tmp_path):
    async def run(*words: str):
        return await trio.to_thread.run_sync(lambda: CliRunner().invoke(main, ["salvage", *words]))

    with trio.fail_after(300):
        async with came_back(pair) as (a, _b, url):
            listed = await run("list", "--url", url, "--json")
            entries = [entry["name"] for answer in json.loads(listed.stdout) for entry in answer["entries"]]
            assert listed.exit_code == 0 and len(entries) == 1
            name = entries[0].rpartition("/")[2]
            assert name in (await run("list", "--url", url)).stdout
            shown = await run("show", name, "--url", url, "--limit", "1")
            assert "3 documents written, 2 deleted" in shown.stdout and '"_id":10' in shown.stdout and "and more" in shown.stdout
            assert (await run("show", "nothing", "--url", url)).exit_code == ExitCode.NOT_FOUND
            applied = await run("apply", name, "--url", url)
            assert applied.exit_code == ExitCode.PARTIAL and "1 inserted" in applied.stdout and "left things 11" in applied.stderr
            upserted = await run("apply", name, "--url", url, "--mode", "upsert", "--json")
            outcome = json.loads(upserted.stdout)
            assert upserted.exit_code == 0 and (outcome["replaced"], outcome["overwritten_ids"]) == (2, [{"collection": "things", "_id": 11}])
            offline = await run("show", name, "--data-dir", str(tmp_path / "a"), "--part", "deletions", "--json")
            assert [json.loads(line).get("_id") for line in offline.stdout.splitlines()[1:]] == [2, 3]
            assert (await run("drop", name, "--url", url)).exit_code == ExitCode.DECLINED
            assert len(await a.engine.salvage.list()) == 1
            assert (await run("drop", name, "--url", url, "--yes")).exit_code == 0
            assert await a.engine.salvage.list() == []
    assert "nothing was set aside" in (await run("list", "--data-dir", str(tmp_path / "a"))).stdout
    gone = await run("list", "--url", url)
    assert gone.exit_code == ExitCode.UNREACHABLE and gone.stderr.count("!") == 2


async def test_an_embedded_database_refuses_by_name():
    async with twinlog.open_async(":memory:") as client:
        with pytest.raises(InvalidOperation, match="nodes of a cluster"):
            await client.salvage_list()

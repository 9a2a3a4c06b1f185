"""Nodes asked and ordered through the client, over loopback: what they say, what is silent, what is refused."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager

import pytest
import trio

from node.config import load
from node.server import Node
from ops.kubernetes.api import access_from
from ops.kubernetes.nodes import Nodes
from ops.kubernetes.verdicts import leading, pod_of
from ops.refusal import Refusal
from ops.target import Target


@asynccontextmanager
async def alone(tmp_path, name: str):
    """One node of that name, on a free port of loopback."""
    overrides = {"node": name, "data": str(tmp_path / "data"), "listen.client": "127.0.0.1:0", "listen.admin": "none"}
    async with Node.open(load(None, overrides)) as node:
        yield node.client_address.port


def nodes_at(*hosts: str) -> Nodes:
    return Nodes(Target(f"twinlog://{','.join(hosts)}/shop?key=", None, "a test"))


def free_port() -> int:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def test_a_node_is_known_by_its_pods_name_and_a_silent_one_is_an_answer_too(tmp_path):
    with trio.fail_after(60):
        async with alone(tmp_path, "localhost") as port:
            silent = free_port()
            nodes = nodes_at(f"localhost:{port}", f"127.0.0.1:{silent}")
            views = await nodes.ask()
            assert [view.reachable for view in views] == [True, False]
            assert pod_of(leading(views).host) == "localhost" and leading(views).node == "localhost"
            assert await nodes.promote("localhost", force=False, automatic=False) == leading(views).epoch, "it is primary already"
            with pytest.raises(Refusal, match="no other node 'twinlog-7'"):
                await nodes.switch_over("localhost", "twinlog-7", timeout_s=1, automatic=False)


async def test_a_node_that_is_not_named_as_its_pod_is_not_believed(tmp_path):
    with trio.fail_after(60):
        async with alone(tmp_path, "a") as port:
            (view,) = await nodes_at(f"localhost:{port}").ask()
            assert not view.reachable and "it says that it is node a" in view.problem


@pytest.mark.parametrize(("host", "pod"), [("twinlog-1.twinlog:6900", "twinlog-1"), ("twinlog-0.twinlog.shop.svc:6900", "twinlog-0"), ("twinlog-0:6900", "twinlog-0")])
def test_a_host_names_its_pod(host, pod):
    assert pod_of(host) == pod


def test_the_way_to_the_api_is_the_pods_own_or_named(tmp_path):
    with pytest.raises(Refusal, match="runs inside the cluster"):
        access_from({}, tmp_path)
    (tmp_path / "token").write_text("secret")
    (tmp_path / "namespace").write_text("shop\n")
    inside = access_from({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, tmp_path)
    assert (inside.url, inside.namespace, inside.account) == ("https://[fd00::1]:443", "shop", tmp_path)
    outside = access_from({"TWINLOG_KUBE_API": "http://127.0.0.1:8001/", "TWINLOG_KUBE_NAMESPACE": "shop"}, tmp_path)
    assert (outside.url, outside.namespace, outside.account) == ("http://127.0.0.1:8001", "shop", None)

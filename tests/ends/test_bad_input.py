"""Bad input against a real pair under load: each is refused by name, and the writer beside it never notices."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest
import yaml

import twinlog
from ops.keyfiles import write_key_file
from tests.ends.pair_under_fire import DB, PairUnderFire
from twinlog import errors


def send_and_read(address: str, data: bytes) -> bytes:
    """What a stranger gets back before the node hangs up on it."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as stranger:
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := stranger.recv(65536):
                answer += chunk
        except ConnectionResetError:
            pass
        return answer


def named(error: errors.TwinlogError) -> str:
    return str(getattr(error, "details", {}).get("name", type(error).__name__))


@pytest.fixture(scope="module")
def fire(tmp_path_factory: pytest.TempPathFactory) -> PairUnderFire:
    with PairUnderFire(tmp_path_factory.mktemp("pair")) as running:
        running.wait_for_more(1)
        yield running
        running.wait_for_more(100)
        running.finish()
        assert running.refusals == [], "the writer beside all this was never refused"
        marks = running.wait_equal()
        assert marks["a"] == marks["b"]
        assert running.numbers_on("b") >= running.acknowledged


@pytest.mark.parametrize("port", ["client", "cluster"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(5000),
        b"TWL1",
        b"TWL1" + bytes(100),
        struct.pack("<I", 2**32 - 1) * 10,
        b"TWL1\x01\x00\x01\x00" + bytes(16) + struct.pack("<I", 2**31) + bytes(1000),
    ],
    ids=["nothing", "http", "noise", "cut preamble", "zeros", "long frames", "plain where keys rule"],
)
def test_garbage_on_either_port_ends_that_connection_only(fire: PairUnderFire, port: str, data: bytes) -> None:
    addresses = fire.local.addresses()["a"]
    if port == "cluster":
        addresses = yaml.safe_load(fire.local.config_file.read_text())["nodes"]["a"]["cluster"]
    answer = send_and_read(addresses, data)
    assert len(answer) < 1000, "a stranger is told why in a line, or nothing"
    fire.wait_for_more(20)


def test_a_wrong_key_is_refused_by_name(fire: PairUnderFire, tmp_path: Path) -> None:
    write_key_file(tmp_path / "other.key")
    address = fire.local.addresses()["a"]
    with pytest.raises(errors.TwinlogError, match="key") as refused:
        with twinlog.connect(f"twinlog://{address}/?key={tmp_path / 'other.key'}", retry_s=0) as client:
            client.ping()
    assert isinstance(refused.value, (errors.ConnectionFailure, errors.OperationFailure))
    fire.wait_for_more(20)


def test_no_key_is_refused_by_name(fire: PairUnderFire) -> None:
    with pytest.raises(errors.TwinlogError, match="(?i)plain|key"):
        with twinlog.connect(f"twinlog://{fire.local.addresses()['a']}/", retry_s=0) as client:
            client.ping()


def test_a_document_over_16_mib_and_a_duplicate_are_refused_by_name(fire: PairUnderFire) -> None:
    with fire.connect() as client:
        collection = client[DB]["odd"]
        with pytest.raises(errors.TwinlogError, match="16"):
            collection.insert_one({"_id": "big", "data": b"x" * (16 * 2**20)})
        collection.insert_one({"_id": 1})
        with pytest.raises(errors.DuplicateKeyError) as refused:
            collection.insert_one({"_id": 1.0})
        assert refused.value.code == 11000
        collection.insert_one({"_id": "nearly", "data": b"x" * (16 * 2**20 - 100)})
        assert len(collection.find_one({"_id": "nearly"})["data"]) == 16 * 2**20 - 100
    fire.wait_for_more(20)


def test_a_write_sent_to_the_standby_finds_the_primary(fire: PairUnderFire) -> None:
    addresses = fire.local.addresses()
    with twinlog.connect(f"twinlog://{addresses['b']}/?key={fire.local.client_key}") as client:
        client[DB]["odd"].insert_one({"_id": "through b"})
        assert client.status(addresses["b"])["role"] == "standby"
    with fire.connect() as client:
        assert client[DB]["odd"].find_one({"_id": "through b"})
    fire.wait_for_more(20)


def test_a_full_disk_refuses_writes_by_name_and_serves_reads(tmp_path: Path) -> None:
    with PairUnderFire(tmp_path, "flush_interval_ms: 50\n") as fire:
        fire.wait_for_more(20)
        fire.finish()
        fire.local.stop()
        fire.local.config_file.write_text(fire.local.config_file.read_text() + "free_mb_min: 1048576\n")
        fire.start()
        with fire.connect() as client:
            with pytest.raises(errors.OperationFailure, match="free") as refused:
                client[DB]["numbers"].insert_one({"_id": "x"})
            assert named(refused.value) == "DiskFull"
            assert client[DB]["numbers"].count_documents({}) >= 20
            assert client[DB]["numbers"].delete_one({"_id": 0}).deleted_count == 1

"""Configuration: what a file means, and that every wrong value is refused with its path, its rule and a hint."""

from __future__ import annotations

import pytest

from node.config import load
from node.keyring import Secrets
from node.section import Address
from node.settings import SETTINGS, Kind
from storage import errors

PAIR = """
cluster: chat
primary: a
node: b
data: files
nodes:
  a: {client: "db-a:6900", cluster: "db-a:6901", admin: "db-a:6902"}
  b: {client: "db-b:6900", cluster: "db-b:6901"}
client_keys: client.key
cluster_key: keys/cluster.key
"""


def _load(tmp_path, text: str, **overrides):
    path = tmp_path / "node.yaml"
    path.write_text(text)
    return load(str(path), {name.replace("__", "."): value for name, value in overrides.items()})


def _refused(tmp_path, text: str, **overrides) -> errors.ConfigError:
    with pytest.raises(errors.ConfigError) as refused:
        _load(tmp_path, text, **overrides)
    return refused.value


def test_a_node_alone_needs_nothing_but_its_directory():
    config = load(None, {"data": "/d"})
    assert (config.data, config.node, config.primary, config.peers) == ("/d", "node", "node", {})
    assert config.listen.client == Address("127.0.0.1", 6900) and config.listen.cluster is None
    assert config.storage.sync_mode == "async" and config.storage.flush_interval_s == 0.2
    assert config.replication.acks == 0 and config.limits.position_timeout_s == 10.0


def test_a_pair_is_read_and_paths_count_from_the_file(tmp_path):
    config = _load(tmp_path, PAIR)
    assert config.data == str(tmp_path / "files")
    assert config.cluster_key == str(tmp_path / "keys/cluster.key")
    assert list(config.peers) == ["a"] and config.peers["a"].cluster == Address("db-a", 6901)
    assert config.listen.client == Address("db-b", 6900) and config.listen.admin is None


def test_listen_overrides_what_is_bound_but_not_what_others_dial(tmp_path):
    config = _load(tmp_path, PAIR + "listen: {client: '0.0.0.0:16900', admin: '[::1]:0'}\n")
    assert config.listen.client == Address("0.0.0.0", 16900) and config.listen.admin == Address("::1", 0)
    assert config.listen.cluster == config.nodes["b"].cluster == Address("db-b", 6901)
    assert config.listen_setting("client") == "listen.client" and config.listen_setting("cluster") == "nodes.b.cluster"


def test_overrides_go_over_the_file_and_are_held_to_the_same_rules(tmp_path):
    config = _load(tmp_path, PAIR + "limits: {cursors_max: 5}\n", limits__cursors_max="7", disable_crc="true", node="a")
    assert (config.limits.cursors_max, config.storage.crc, config.node) == (7, False, "a")
    assert _refused(tmp_path, PAIR, limits__cursors_max="0").fields["path"] == "limits.cursors_max"
    assert _refused(tmp_path, PAIR, shards="many").fields["path"] == "shards"
    assert "no such setting" in _refused(tmp_path, PAIR, nonsense="1").message


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("data: d\ncash_mb: 5\n", "cash_mb", "did you mean cache_mb?"),
        ("data: d\nlimits: {cursor_max: 5}\n", "limits.cursor_max", "did you mean cursors_max?"),
        ("data: d\nlimits: 5\n", "limits", "must be a mapping"),
        ("data: d\nsync_mode: fast\n", "sync_mode", "async, sync"),
        ("data: d\nshards: 0\n", "shards", "at least 1"),
        ("data: d\nshards: 2.5\n", "shards", "whole number"),
        ("data: d\nshards: true\n", "shards", "whole number"),
        ("data: d\ndisable_crc: 1\n", "disable_crc", "true or false"),
        ("data: d\nlog_keep_mb: 32\n", "log_keep_mb", "log_segment_mb (64)"),
        ("data: d\nacks: 1\n", "acks", "other nodes (0)"),
        ("data: d\nlisten: {client: localhost}\n", "listen.client", "host:port"),
        ("data: d\nlisten: {client: '::1:6900'}\n", "listen.client", "brackets"),
        ("data: d\nlisten: {client: 'localhost:70000'}\n", "listen.client", "65535"),
        ("data: d\nlisten: {client: none}\n", "listen.client", "only listen.admin"),
        ("data: d\nlisten: {cluster: 'localhost:1'}\n", "listen.cluster", "no peers"),
        ("data: d\nlisten: {client: '0.0.0.0:6900'}\n", "client_keys", "not loopback"),
        ("data: d\nnode: 'a b'\n", "node", "letters"),
        ("data: 5\n", "data", "text"),
        ("sync_mode: sync\n", "data", "must be set"),
        ("data: d\nlimits: {total_buffer_bytes: 1048576}\n", "limits.total_buffer_bytes", "connection_buffer_bytes"),
        (PAIR + "acks: 2\n", "acks", "other nodes (1)"),
        (PAIR + "acks: 1\nack_timeout_ms: 900\n", "ack_timeout_ms", "2 × heartbeat_ms (1000)"),
        (PAIR.replace("primary: a", "primary: c"), "primary", "not one of the nodes (a, b)"),
        (PAIR.replace("node: b\n", ""), "node", "which of them this process is"),
        (PAIR.replace("cluster: chat\n", ""), "cluster", "needs a name"),
        (PAIR.replace("cluster_key: keys/cluster.key\n", ""), "cluster_key", "not loopback"),
        (PAIR.replace("db-b:6901", "db-a:6901"), "nodes.b.cluster", "taken by nodes.a.cluster"),
        (PAIR.replace("db-b:6901", "db-b:0"), "nodes.b.cluster", "cannot be dialled"),
        (PAIR.replace(', cluster: "db-b:6901"', ""), "nodes.b.cluster", "must be set"),
        (PAIR.replace("admin:", "amin:"), "nodes.a.amin", "did you mean admin?"),
    ],
)
def test_every_wrong_value_is_refused_with_its_path_and_rule(tmp_path, text, path, says):
    refused = _refused(tmp_path, text)
    assert refused.fields["path"] == path
    assert path in refused.message and says in refused.message


@pytest.mark.parametrize("row", [row for row in SETTINGS if row.kind is Kind.INTEGER and "*" not in row.path], ids=lambda row: row.path)
def test_every_number_is_refused_beyond_its_limits(row):
    for value in (row.at_least - 1, row.at_most + 1):
        with pytest.raises(errors.ConfigError) as refused:
            load(None, {"data": "/d", row.path: value})
        assert refused.value.fields["path"] == row.path and str(value) in refused.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [", "not valid YAML"), ("- a\n", "mapping"), ("data: d\ndata: e\n", "stands twice"), ("x" * 2_000_000, "over")],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, says):
    assert says in _refused(tmp_path, text).message


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(errors.ConfigError, match="nowhere.yaml"):
        load(str(tmp_path / "nowhere.yaml"))


def test_one_key_in_both_key_files_is_refused(tmp_path):
    line = f"twinlog-key-1 {'01' * 16} {'02' * 32}\n"
    for name in ("client.key", "cluster.key"):
        (tmp_path / name).write_text(line)
        (tmp_path / name).chmod(0o600)
    config = _load(tmp_path, PAIR.replace("keys/cluster.key", "cluster.key"))
    with pytest.raises(errors.ConfigError, match="a key of its own"):
        Secrets.read(config)


@pytest.mark.parametrize(("mode", "fine"), [(0o600, True), (0o640, True), (0o604, False), (0o644, False), (0o602, False)])
def test_secret_files_must_not_be_open_to_everybody(tmp_path, mode, fine):
    path = tmp_path / "client.key"
    path.write_text(f"twinlog-key-1 {'01' * 16} {'02' * 32}\n")
    path.chmod(mode)
    config = load(None, {"data": str(tmp_path), "client_keys": str(path)})
    if fine:
        assert len(Secrets.read(config).client.keys) == 1
    else:
        with pytest.raises(errors.ConfigError, match="chmod 600"):
            Secrets.read(config)


def test_a_broken_key_file_is_refused_without_showing_the_key(tmp_path):
    path = tmp_path / "client.key"
    path.write_text(f"twinlog-key-1 {'01' * 16} {'0g' * 32}\n")
    path.chmod(0o600)
    with pytest.raises(errors.ConfigError) as refused:
        Secrets.read(load(None, {"data": str(tmp_path), "client_keys": str(path)}))
    assert refused.value.fields["path"] == "client_keys" and "0g0g" not in refused.value.message


def test_compaction_is_told_by_three_settings(tmp_path):
    config = _load(tmp_path, "data: d\n", compaction="false", compact_stale_ratio="0.25", compact_min_size="8")
    storage = config.storage
    assert (storage.compaction, storage.compact_stale_ratio, storage.compact_min_bytes) == (False, 0.25, 8 * 2**20)
    for wrong in ("0", "1.5", "true", "half"):
        with pytest.raises(errors.ConfigError, match="compact_stale_ratio.*above 0 and at most 1"):
            _load(tmp_path, "data: d\n", compact_stale_ratio=wrong)


TRIO = PAIR.replace("client_keys", '  c: {client: "db-c:6900", cluster: "db-c:6901", delay_s: 3600}\nclient_keys')


def test_a_delayed_standby_is_known_to_every_node_and_may_be_told_on_the_command_line(tmp_path):
    config = _load(tmp_path, TRIO)
    assert {name: node.delay_s for name, node in config.nodes.items()} == {"a": 0, "b": 0, "c": 3600}
    assert _load(tmp_path, TRIO, nodes__b__delay_s="60").nodes["b"].delay_s == 60
    assert "nodes.c.delay_s" in _refused(tmp_path, TRIO.replace("3600", "soon")).message
    assert "at most 2592000" in _refused(tmp_path, TRIO.replace("3600", "9000000")).message


def test_acks_counts_no_delayed_standby_and_none_is_the_first_primary(tmp_path):
    assert _load(tmp_path, TRIO + "acks: 1\n").replication.acks == 1
    for node in "abc":
        refused = _refused(tmp_path, TRIO.replace("node: b", f"node: {node}") + "acks: 2\n")
        assert refused.fields["path"] == "acks" and "other nodes without a delay (1)" in refused.message
    refused = _refused(tmp_path, TRIO.replace("primary: a", "primary: c"))
    assert refused.fields["path"] == "nodes.c.delay_s" and "`primary`" in refused.message

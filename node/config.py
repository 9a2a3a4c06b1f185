"""The configuration of one node: a YAML file and overrides, read once into frozen values.

Knows the relations between settings; the rules of single settings are in settings.py. Reads the file, and nothing else:
key files are opened by keyring.py, when the node starts or the configuration is checked. Overrides are the command
line's: setting path to value, laid over the file before anything is read, so that both are held to the same rules.
Relative paths in the file count from the file's own directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from storage import check_backup_place, errors, is_bucket

from .section import NONE, Address, Section
from .settings import DEFAULT_ADMIN_PORT, DEFAULT_CLIENT_PORT, SETTINGS, Kind

CONFIG_BYTES_MAX = 1_048_576
ALONE = "node"  # the name of a node that has no peers and was given none
MIB = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddresses:
    """Where one node of the cluster is reached by others."""

    client: Address
    cluster: Address
    admin: Address | None
    delay_s: int = 0  # of a delayed standby


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenConfig:
    """What this node binds. cluster and admin None: it has no such port."""

    client: Address
    cluster: Address | None
    admin: Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """The engine's part, in the engine's units."""

    sync_mode: str
    shards: int
    crc: bool
    cache_bytes: int
    flush_interval_s: float
    memtable_records_max: int
    memtable_bytes_max: int
    seal_age_s: float
    log_segment_bytes: int
    log_keep_bytes: int
    free_bytes_min: int
    copy_grace_s: float
    copy_grace_bytes: int
    view_age_s: float
    databases_max: int
    compaction: bool
    compact_stale_ratio: float
    compact_min_bytes: int
    scrub_interval_s: float
    scrub_bytes_per_s: int
    transactions_max: int
    transaction_time_limit_s: float
    transactions_bytes_max: int
    archive: str
    archive_interval_s: float

    @classmethod
    def read(cls, section: Section, base: Path) -> Self:
        segment_mb, keep_mb = section.value("log_segment_mb"), section.value("log_keep_mb")
        if keep_mb < segment_mb:
            raise section.error(
                "log_keep_mb", f"{keep_mb} must be at least log_segment_mb ({segment_mb}); the segment being written is kept"
            )
        return cls(
            sync_mode=section.value("sync_mode"),
            shards=section.value("shards"),
            crc=not section.value("disable_crc"),
            cache_bytes=section.value("cache_mb") * MIB,
            flush_interval_s=section.value("flush_interval_ms") / 1000,
            memtable_records_max=section.value("memtable_records_max"),
            memtable_bytes_max=section.value("memtable_mb") * MIB,
            seal_age_s=section.value("seal_age_s"),
            log_segment_bytes=segment_mb * MIB,
            log_keep_bytes=keep_mb * MIB,
            copy_grace_s=section.value("copy_grace_s"),
            copy_grace_bytes=section.value("copy_grace_mb") * MIB,
            free_bytes_min=section.value("free_mb_min") * MIB,
            view_age_s=section.value("view_age_s"),
            databases_max=section.value("databases_max"),
            compaction=section.value("compaction"),
            compact_stale_ratio=section.value("compact_stale_ratio"),
            compact_min_bytes=section.value("compact_min_size") * MIB,
            scrub_interval_s=section.value("scrub_interval_h") * 3600.0,
            scrub_bytes_per_s=section.value("scrub_mb_per_s") * MIB,
            transactions_max=section.value("transactions_max"),
            transaction_time_limit_s=section.value("transaction_time_limit_s"),
            transactions_bytes_max=section.value("transactions_mb") * MIB,
            archive=_place(section, base, "archive"),
            archive_interval_s=section.value("archive_interval_ms") / 1000,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupsConfig:
    """How backups are made and proven. bytes_per_s 0: as fast as it goes."""

    bytes_per_s: int
    proof: bool
    proof_bytes_per_s: int
    key_file: str

    @classmethod
    def read(cls, section: Section, base: Path) -> Self:
        return cls(
            bytes_per_s=section.value("backup_mb_per_s") * MIB,
            proof=section.value("backup_proof"),
            proof_bytes_per_s=section.value("backup_proof_mb_per_s") * MIB,
            key_file=_below(base, section.value("backup_key_file")) or "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationConfig:
    """How the cluster keeps its copies. on_ack_timeout: block or degrade."""

    acks: int
    ack_timeout_s: float
    on_ack_timeout: str
    heartbeat_s: float
    mark_interval_s: float
    window_bytes: int
    seed_chunk_bytes: int

    @classmethod
    def read(cls, section: Section, *, peers: int, delayed: int = 0) -> Self:
        """peers: the other nodes, without the delayed ones, as a primary sees them; delayed: how many those are."""
        acks, timeout_ms, heartbeat_ms = (section.value(key) for key in ("acks", "ack_timeout_ms", "heartbeat_ms"))
        if acks > peers:
            which = "other nodes without a delay" if delayed else "other nodes"
            raise section.error("acks", f"{acks} must be at most the number of {which} ({peers}); no write could be answered")
        if acks and timeout_ms < 2 * heartbeat_ms:
            raise section.error(
                "ack_timeout_ms",
                f"{timeout_ms} must be at least 2 × heartbeat_ms ({2 * heartbeat_ms}); a healthy standby would be given up",
            )
        return cls(
            acks=acks,
            ack_timeout_s=timeout_ms / 1000,
            on_ack_timeout=section.value("on_ack_timeout"),
            heartbeat_s=heartbeat_ms / 1000,
            mark_interval_s=section.value("mark_interval_s"),
            window_bytes=section.value("replication_window_mb") * MIB,
            seed_chunk_bytes=section.value("seed_chunk_kb") * 1024,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one node (INV-8); each is a row of the settings table under `limits`."""

    connections_max: int
    connection_buffer_bytes: int
    total_buffer_bytes: int
    in_flight_max: int
    requests_max: int
    idle_timeout_s: float
    handshake_timeout_s: float
    slow_client_timeout_s: float
    cursors_max: int
    cursor_idle_s: float
    position_timeout_s: float
    login_failures_max: int
    login_window_s: float
    links_max: int
    stop_timeout_s: float

    @classmethod
    def read(cls, section: Section) -> Self:
        names = [row.path.partition(".")[2] for row in SETTINGS if row.path.startswith("limits.")]
        values = {name: section.value(name) for name in names}
        section.finish()
        values["position_timeout_s"] = values.pop("position_timeout_ms") / 1000
        if values["total_buffer_bytes"] < values["connection_buffer_bytes"]:
            raise section.error(
                "total_buffer_bytes",
                f"{values['total_buffer_bytes']} must be at least connection_buffer_bytes"
                f" ({values['connection_buffer_bytes']}); one connection could stop all others",
            )
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Everything a node is told. `nodes` is empty for a node that stands alone."""

    data: str
    node: str
    cluster: str
    primary: str
    nodes: Mapping[str, NodeAddresses]
    listen: ListenConfig
    client_keys: str | None
    cluster_key: str | None
    users: str | None
    allow_plain: bool
    storage: StorageConfig
    backups: BackupsConfig
    replication: ReplicationConfig
    limits: Limits

    @property
    def peers(self) -> dict[str, NodeAddresses]:
        """The other nodes of the cluster."""
        return {name: addresses for name, addresses in self.nodes.items() if name != self.node}

    def listen_setting(self, port: str) -> str:
        """The path of the setting that says where a port listens, for errors met when it is bound."""
        own = self.nodes.get(self.node)
        if own is not None and getattr(own, port) == getattr(self.listen, port):
            return f"nodes.{self.node}.{port}"
        return f"listen.{port}"

    @classmethod
    def read(cls, section: Section, base: Path) -> Self:
        """From the root section; relative paths count from base."""
        nodes = _read_nodes(section)
        node = section.value("node") or ALONE
        if nodes:
            _check_cluster(section, nodes)
        delayed = sum(1 for addresses in nodes.values() if addresses.delay_s)
        listen = _read_listen(section, nodes.get(node))
        files = {key: _below(base, section.value(key)) for key in ("client_keys", "cluster_key", "users")}
        allow_plain = section.value("allow_plain")
        config = cls(
            data=_below(base, section.required("data", "the directory of this node's files")) or "",
            node=node,
            cluster=section.value("cluster") or "",
            primary=section.value("primary") or node,
            nodes=nodes,
            listen=listen,
            allow_plain=allow_plain,
            storage=StorageConfig.read(section, base),
            backups=BackupsConfig.read(section, base),
            replication=ReplicationConfig.read(section, peers=max(len(nodes) - delayed - 1, 0), delayed=delayed),
            limits=Limits.read(section.section("limits")),
            **files,
        )
        section.finish()
        if not allow_plain:
            _check_loopback(section, config)
        return config


def load(path: str | None, overrides: Mapping[str, Any] | None = None) -> NodeConfig:
    """Read and check a configuration file with overrides laid over it; path None: overrides alone.

    overrides: setting path ("limits.cursors_max") to value; text for a number or a flag is read as YAML would.
    Raises ConfigError, with the setting's path in its fields.
    """
    content: dict[Any, Any] = {}
    base = Path.cwd()
    if path is not None:
        content = _read_yaml(Path(path))
        base = Path(path).resolve().parent
    for name, value in (overrides or {}).items():
        if value is not None:
            _lay_over(content, name, value)
    return NodeConfig.read(Section(content, SETTINGS), base)


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise errors.ConfigError(f"{path} is over {CONFIG_BYTES_MAX} bytes; this is no configuration file", path="")
        content = yaml.load(path.read_bytes(), Loader=_StrictLoader)
    except OSError as error:
        raise errors.ConfigError(f"{path} cannot be read: {error.strerror}", path="") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"{path} is not valid YAML: {error}", path="") from error
    if content is not None and not isinstance(content, dict):
        raise errors.ConfigError(f"{path} must hold a mapping of settings", path="")
    return content or {}


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key that stands twice in one mapping is an error and not a silent choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} stands twice", key_node.start_mark
                )
            if isinstance(key_node.value, str):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _lay_over(content: dict[Any, Any], name: str, value: Any) -> None:
    if isinstance(value, str) and any(_is_row(row.path, name) and row.kind in (Kind.INTEGER, Kind.RATIO, Kind.FLAG) for row in SETTINGS):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            pass  # the section refuses the text with the setting's own rule
    if isinstance(value, str) and any(row.path == name and row.kind in (Kind.FILE, Kind.DIRECTORY, Kind.PLACE) for row in SETTINGS) and not is_bucket(value):
        value = str(Path.cwd() / value)  # what the command line names counts from where it was typed
    *sections, key = name.split(".")
    for step in sections:
        below = content.setdefault(step, {})
        if not isinstance(below, dict):
            raise errors.ConfigError(f"{name}: {step} is not a mapping, so nothing below it can be set", path=name)
        content = below
    content[key] = value


def _is_row(row: str, name: str) -> bool:
    """Whether a row of the table is the one of this setting; `*` stands for any name, which has no dot here."""
    steps, given = row.split("."), name.split(".")
    return len(steps) == len(given) and all(step in ("*", one) for step, one in zip(steps, given, strict=True))


def _place(section: Section, base: Path, key: str) -> str:
    """A directory, or an s3:// URL as it is."""
    given = section.value(key)
    if given is None or not is_bucket(given):
        return _below(base, given) or ""
    try:
        check_backup_place(given)
    except errors.BadRequest as error:
        raise section.error(key, error.message) from error
    return given


def _below(base: Path, given: str | None) -> str | None:
    return None if given is None else str(base / given)


def _read_nodes(section: Section) -> dict[str, NodeAddresses]:
    nodes = {}
    taken: dict[Address, str] = {}
    listed = section.section("nodes")
    for name, entry in listed.each():
        client = entry.required("client", "where clients reach this node, as host:port")
        cluster = entry.required("cluster", "where the other nodes reach this node, as host:port")
        admin, delay_s = entry.value("admin"), entry.value("delay_s")
        for key, address in (("client", client), ("cluster", cluster), ("admin", admin)):
            if address == NONE and key == "admin":
                admin = None
            elif address == NONE or (address is not None and address.port == 0):
                raise entry.error(key, f"{address} cannot be dialled; name the host and port that others use")
            elif address is not None:
                if address in taken:
                    raise entry.error(key, f"{address} is taken by {taken[address]} already")
                taken[address] = f"{entry.path}.{key}"
        entry.finish()
        nodes[name] = NodeAddresses(client=client, cluster=cluster, admin=admin, delay_s=delay_s)
    listed.finish()
    return nodes


def _check_cluster(section: Section, nodes: dict[str, NodeAddresses]) -> None:
    known = ", ".join(nodes)
    section.required("cluster", "with nodes, the cluster needs a name")
    for key, why in (("node", "which of them this process is"), ("primary", "which of them takes writes at first")):
        name = section.required(key, f"with nodes, {why}")
        if name not in nodes:
            raise section.error(key, f"{name!r} is not one of the nodes ({known})")
    first = section.value("primary")
    if nodes[first].delay_s:
        raise section.error(f"nodes.{first}.delay_s", f"{nodes[first].delay_s} must be 0: {first} is the `primary`, which is behind nobody")


def _read_listen(section: Section, own: NodeAddresses | None) -> ListenConfig:
    listen = section.section("listen")
    client, cluster, admin = (listen.value(key) for key in ("client", "cluster", "admin"))
    listen.finish()
    for key, address in (("client", client), ("cluster", cluster)):
        if address == NONE:
            raise listen.error(key, "only listen.admin can be none")
    if own is None:
        if cluster is not None:
            raise listen.error("cluster", "a node without `nodes` has no peers and no cluster port")
        client = client or Address("127.0.0.1", DEFAULT_CLIENT_PORT)
        admin = admin or Address("127.0.0.1", DEFAULT_ADMIN_PORT)
    else:
        client, cluster, admin = client or own.client, cluster or own.cluster, admin or own.admin
    return ListenConfig(client=client, cluster=cluster, admin=None if admin == NONE else admin)


def _check_loopback(section: Section, config: NodeConfig) -> None:
    """Plain ports stay on loopback unless told otherwise."""
    for what, address, key in (
        ("client", config.listen.client, config.client_keys),
        ("cluster", config.listen.cluster, config.cluster_key),
    ):
        setting = "client_keys" if what == "client" else "cluster_key"
        if address is not None and key is None and not address.is_loopback:
            raise section.error(
                setting,
                f"must be set, because the {what} port listens on {address}, which is not loopback; make a key with"
                f" `twinlog keygen FILE`, or set allow_plain: true to go without",
            )

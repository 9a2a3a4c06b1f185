"""The table of settings: every name a configuration file may hold, with default, unit, limits and meaning. Pure.

One row a setting; `config.py` reads by it, docs/settings.md is held against it by a test. A path with `*` stands for
any name at that place. Defaults that are None mean "not set"; the meaning says what happens then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

DEFAULT_CLIENT_PORT = 6900
DEFAULT_ADMIN_PORT = 6902
NAME_CHARS_MAX = 64
DELAY_S_MAX = 2_592_000  # 30 days


class Kind(Enum):
    """How a setting is written."""

    INTEGER = "integer"
    RATIO = "0 to 1"
    FLAG = "true or false"
    CHOICE = "one of"
    NAME = "name"
    TEXT = "text"
    ADDRESS = "host:port"
    FILE = "file"
    DIRECTORY = "directory"
    PLACE = "directory or s3:// URL"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row. at_least and at_most bound integers; choices bound choices."""

    path: str
    kind: Kind
    default: Any
    unit: str
    meaning: str
    at_least: int | None = None
    at_most: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def limits(self) -> str:
        """The limits in words, as the settings page shows them."""
        if self.kind is Kind.INTEGER:
            return f"{self.at_least} to {self.at_most}"
        if self.kind is Kind.CHOICE:
            return ", ".join(self.choices)
        return self.kind.value

    @property
    def default_text(self) -> str:
        """The default as it would stand in the file; empty when not set."""
        if self.default is None:
            return ""
        if isinstance(self.default, bool):
            return "true" if self.default else "false"
        return str(self.default)


def _integer(path: str, default: int, unit: str, at_least: int, at_most: int, meaning: str) -> Setting:
    return Setting(path, Kind.INTEGER, default, unit, meaning, at_least, at_most)


_IDENTITY = (
    Setting("data", Kind.DIRECTORY, None, "", "Directory of this node's files; required."),
    Setting("node", Kind.NAME, None, "", "Which of `nodes` this process is; `node` when there are none."),
    Setting("cluster", Kind.NAME, None, "", "Name of the cluster; peers of another name are refused. Required with `nodes`."),
    Setting("primary", Kind.NAME, None, "", "The node that takes writes at the very first start. Required with `nodes`."),
    Setting("nodes.*.client", Kind.ADDRESS, None, "", "Where clients reach that node; required."),
    Setting("nodes.*.cluster", Kind.ADDRESS, None, "", "Where its peers reach that node; required."),
    Setting("nodes.*.admin", Kind.ADDRESS, None, "", "Where that node answers admin HTTP; without it, it has none."),
    _integer(
        "nodes.*.delay_s", 0, "s", 0, DELAY_S_MAX,
        "As a standby, that node shows the primary's state of so long ago. It counts for no `acks` and is not promoted unless forced.",
    ),
    Setting(
        "listen.client", Kind.ADDRESS, None, "",
        "What this node binds for clients, when not its address in `nodes`; alone, 127.0.0.1:6900. Port 0 takes a free one.",
    ),
    Setting("listen.cluster", Kind.ADDRESS, None, "", "What this node binds for its peers, when not its address in `nodes`."),
    Setting(
        "listen.admin", Kind.ADDRESS, None, "",
        "What this node binds for admin HTTP, when not its address in `nodes`; alone, 127.0.0.1:6902. `none` for no admin HTTP.",
    ),
)  # fmt: skip

_SECURITY = (
    Setting(
        "client_keys", Kind.FILE, None, "",
        "Key file for clients; every key in it is accepted. Without it connections are plain and only loopback is bound.",
    ),
    Setting(
        "cluster_key", Kind.FILE, None, "",
        "Key file for peers; the first key dials, all are accepted. Without it links are plain and only loopback is bound.",
    ),
    Setting("users", Kind.FILE, None, "", "Users file; without it whoever may connect has the role admin."),
    Setting("allow_plain", Kind.FLAG, False, "", "Take plain connections too, on any address."),
)  # fmt: skip

_ENGINE = (
    Setting(
        "sync_mode", Kind.CHOICE, "async", "",
        "When a write is answered: async, after the kernel has it; sync, after fdatasync.", choices=("async", "sync"),
    ),
    _integer("shards", 8, "shards", 1, 1024, "Shards of databases created from now on; fixed for each at its creation."),
    Setting("disable_crc", Kind.FLAG, False, "", "Databases created from now on carry no checksum over shard record bodies."),
    _integer("cache_mb", 64, "MiB", 0, 65_536, "Hot cache of documents, each database."),
    _integer("flush_interval_ms", 200, "ms", 1, 60_000, "In async mode, at most this much is lost by a power cut."),
    _integer("memtable_records_max", 64_000, "records", 100, 1_000_000, "A memtable of this many records is sealed."),
    _integer("memtable_mb", 32, "MiB", 1, 1_024, "A memtable of this size is sealed."),
    _integer("seal_age_s", 300, "s", 1, 86_400, "A memtable of this age is sealed."),
    _integer("log_segment_mb", 64, "MiB", 1, 4_096, "Size of one commit log segment."),
    _integer("log_keep_mb", 1_024, "MiB", 1, 1_048_576, "Commit log kept at most for standbys that are away and for an archive that fails, each database."),
    _integer("copy_grace_s", 60, "s", 0, 86_400, "Files that nothing needs any more stay so long, for copies of the live directory by cp, rsync or tar."),
    _integer("copy_grace_mb", 1_024, "MiB", 0, 1_048_576, "Commit log kept at most for that, each database."),
    _integer("view_age_s", 600, "s", 1, 86_400, "A query still reading after so long ends with SnapshotTooOld."),
    _integer("databases_max", 256, "databases", 1, 10_000, "Databases on this node; creating more is refused by name."),
    Setting("compaction", Kind.FLAG, True, "", "Shard logs are rewritten by themselves when enough of them is stale; on demand it is always there."),
    Setting("compact_stale_ratio", Kind.RATIO, 0.5, "", "A shard is compacted when so large a part of its logs is stale."),
    _integer("compact_min_size", 64, "MiB", 0, 1_048_576, "Shards whose logs are smaller are left alone."),
    _integer("transactions_max", 256, "transactions", 1, 100_000, "Open transactions, each database; more are refused by name."),
    _integer("transaction_time_limit_s", 60, "s", 1, 86_400, "A transaction open for so long is ended."),
    _integer("transactions_mb", 256, "MiB", 1, 65_536, "What open transactions have written, each database; a write that goes over it is refused by name."),
    _integer("scrub_interval_h", 24, "h", 0, 8_760, "Time between two scrubs, which read every file and repair what is damaged; 0: none by itself."),
    _integer("scrub_mb_per_s", 20, "MiB/s", 1, 100_000, "How fast such a scrub reads, all databases together."),
    Setting(
        "archive", Kind.PLACE, None, "",
        "Where the primary's commit logs are copied to as they grow, for restores to any moment; without it backups restore to their own.",
    ),
    _integer("archive_interval_ms", 1_000, "ms", 10, 3_600_000, "Time between two copies: how much of the newest past an archive may lack."),
    _integer("free_mb_min", 1, "MiB", 1, 1_048_576, "At least so much disk space is kept free; what seals and compaction need is worked out and kept in any case."),
)  # fmt: skip

_BACKUPS = (
    _integer("backup_mb_per_s", 0, "MiB/s", 0, 100_000, "How fast a backup is copied; 0: as fast as it goes."),
    Setting("backup_proof", Kind.FLAG, True, "", "Every backup by schedule is read again in a worker process, down to its documents, and must come to its state hash."),
    _integer("backup_proof_mb_per_s", 50, "MiB/s", 1, 100_000, "How fast it is read for that."),
    Setting(
        "backup_key_file", Kind.FILE, None, "",
        "Keys of backups and archives, one a line: with the first they are encrypted, with all of them read; without it they are not encrypted.",
    ),
)  # fmt: skip

_REPLICATION = (
    _integer("acks", 0, "standbys", 0, 15, "How many standbys must have a commit before it is answered."),
    _integer("ack_timeout_ms", 5_000, "ms", 10, 600_000, "How long a commit waits for its standbys."),
    Setting(
        "on_ack_timeout", Kind.CHOICE, "block", "",
        "When standbys are missing: block answers AckTimeout for each write, degrade goes on without them and raises an alarm.",
        choices=("block", "degrade"),
    ),
    _integer("heartbeat_ms", 500, "ms", 10, 60_000, "Time between heartbeats on a link."),
    _integer("mark_interval_s", 10, "s", 1, 86_400, "Time between state hash comparisons of busy databases."),
    _integer("replication_window_mb", 16, "MiB", 1, 1_024, "Log bytes under way to one standby at most."),
    _integer("seed_chunk_kb", 1_024, "KiB", 4, 16_384, "Size of one piece of a file while a standby is seeded."),
)  # fmt: skip

_LIMITS = (
    _integer("limits.connections_max", 1_000, "connections", 1, 100_000, "Client connections at once; more are refused by name."),
    _integer(
        "limits.connection_buffer_bytes", 4_194_304, "bytes", 4_096, 1_073_741_824,
        "Answers waiting on one connection; above it nothing more is read from that connection.",
    ),
    _integer(
        "limits.total_buffer_bytes", 268_435_456, "bytes", 1_048_576, 1_099_511_627_776,
        "Requests and answers waiting on all connections; above it nothing is read until they drain.",
    ),
    _integer("limits.in_flight_max", 256, "requests", 1, 65_536, "Requests under way on one connection; above it the rest waits."),
    _integer("limits.requests_max", 4_096, "requests", 1, 1_000_000, "Requests that wait for something, over all connections; more are refused by name."),
    _integer("limits.idle_timeout_s", 600, "s", 1, 86_400, "A connection without requests for so long is closed."),
    _integer("limits.handshake_timeout_s", 10, "s", 1, 600, "Time for a new connection or link to finish its handshake."),
    _integer("limits.slow_client_timeout_s", 30, "s", 1, 3_600, "A client that takes none of its answers for so long is cut."),
    _integer("limits.cursors_max", 1_000, "cursors", 1, 100_000, "Open cursors; more are refused by name."),
    _integer("limits.cursor_idle_s", 120, "s", 1, 86_400, "A cursor not asked for so long is closed."),
    _integer("limits.position_timeout_ms", 10_000, "ms", 1, 600_000, "How long a read waits for its min_position."),
    _integer("limits.login_failures_max", 5, "logins", 1, 1_000, "Failed logins of one user from one host in a window; then Overloaded."),
    _integer("limits.login_window_s", 60, "s", 1, 86_400, "Length of that window."),
    _integer("limits.links_max", 64, "links", 1, 1_024, "Links of peers at once."),
    _integer("limits.stop_timeout_s", 10, "s", 0, 600, "How long a stopping node lets requests under way finish."),
)  # fmt: skip

SETTINGS: tuple[Setting, ...] = _IDENTITY + _SECURITY + _ENGINE + _BACKUPS + _REPLICATION + _LIMITS

"""Secret files of a node: key files and the users file. Reads them, once, and refuses what others could read too.

Knows the permissions rule and which setting named the file; what stands in it is wire's (keys) and users.py's to say.
"""

from __future__ import annotations

import stat
from pathlib import Path

from storage import check_bucket_client, errors, is_bucket, read_backup_keys

from . import wire
from .config import NodeConfig
from .users import User, parse_users

SECRET_BYTES_MAX = 1_048_576


def read_secret(path: str, setting: str) -> bytes:
    """The content of a secret file. Raises ConfigError when it is missing, too long, or readable by everybody."""
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(Path(path).stat().st_mode)
            if mode & stat.S_IRWXO:
                raise errors.ConfigError(
                    f"{setting}: {path} has mode {mode:03o}, so every user of this machine may open it; chmod 600 {path}"
                    f" (in Kubernetes: defaultMode 0440 on the secret's volume)",
                    path=setting,
                )
            content = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise errors.ConfigError(f"{setting}: {path} cannot be read: {error.strerror}", path=setting) from error
    if len(content) > SECRET_BYTES_MAX:
        raise errors.ConfigError(f"{setting}: {path} is over {SECRET_BYTES_MAX} bytes; this is another file", path=setting)
    return content


def read_key_ring(path: str | None, setting: str) -> wire.KeyRing | None:
    """The keys of a key file; None when there is none."""
    if path is None:
        return None
    try:
        return wire.parse_keys(read_secret(path, setting).decode("ascii", "replace"))
    except wire.KeyFileError as error:
        raise errors.ConfigError(f"{setting}: {path}: {error.message}", path=setting, **error.fields) from error


def read_users(path: str | None) -> dict[str, User] | None:
    """The users of the users file; None when there is none."""
    return None if path is None else parse_users(read_secret(path, "users"), path)


class Secrets:
    """Everything secret that a node needs, read at start."""

    __slots__ = ("client", "cluster", "users")

    def __init__(
        self, client: wire.KeyRing | None, cluster: wire.KeyRing | None, users: dict[str, User] | None
    ) -> None:
        self.client = client
        self.cluster = cluster
        self.users = users

    @classmethod
    def read(cls, config: NodeConfig) -> Secrets:
        """Raises ConfigError, naming the setting. `twinlog config check` runs this too."""
        client = read_key_ring(config.client_keys, "client_keys")
        cluster = read_key_ring(config.cluster_key, "cluster_key")
        if client is not None and cluster is not None:
            both = {key.psk for key in client.keys} & {key.psk for key in cluster.keys}
            if both:
                raise errors.ConfigError(
                    "cluster_key: a key of the client port stands in it too; give the cluster a key of its own",
                    path="cluster_key",
                )
        if is_bucket(config.storage.archive):
            check_bucket_client()
        if config.backups.key_file:
            read_backup_keys(config.backups.key_file)
        return cls(client, cluster, read_users(config.users))

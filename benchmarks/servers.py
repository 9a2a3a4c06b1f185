"""Twinlog, Redis and PostgreSQL as servers of one benchmark: configuration, greeting, the right way to dial each.

Each stands in a directory of its own below the run's; a peer that is not installed raises Unavailable, which the runner
reports. The settings here are what the report's figures mean: defaults, but where a line says otherwise.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from functools import partial
from pathlib import Path

import twinlog
from node import wire
from ops.keyfiles import write_key_file

from .chosen import CHOSEN
from .generator import (
    Dial,
    LoadFailed,
    Unavailable,
    dial_plain,
    dial_postgres,
    dial_socket,
    dial_twinlog,
    greet_postgres,
)
from .processes import Server, find_program, free_port

DB, COLLECTION = "bench", "docs"
POSTGRES_USER = "postgres"  # it refuses to run as root


class TwinlogServer(Server):
    """One node that takes both plain and encrypted connections."""

    def __init__(self, directory: Path, **settings: object) -> None:
        directory.mkdir()
        self.address = ("127.0.0.1", free_port())
        self.key_file = directory.parent / f"{directory.name}.key"
        write_key_file(self.key_file)
        self.key = wire.parse_keys(self.key_file.read_text()).dial
        super().__init__("Twinlog", directory, self._command(directory, settings))

    def _command(self, directory: Path, settings: dict[str, object]) -> list[str]:
        chosen = {"allow_plain": "true", **settings}
        return [
            CHOSEN.get().python, "-m", "ops.main", "serve", "--data", str(directory), "--admin", "none", "--log-level", "warning",
            "--client", f"127.0.0.1:{self.address[1]}", "--client-keys", str(self.key_file),
            *(word for name, value in chosen.items() for word in ("--set", f"{name}={value}")),
        ]  # fmt: skip

    def start(self) -> None:  # type: ignore[override]
        super().start(lambda: dial_twinlog(self.address, self.key).sock.close())

    @property
    def plain(self) -> Dial:
        return partial(dial_twinlog, self.address, None)

    @property
    def secure(self) -> Dial:
        return partial(dial_twinlog, self.address, self.key)

    def url(self, *, secure: bool = True) -> str:
        base = f"twinlog://127.0.0.1:{self.address[1]}/"
        return f"{base}?key={self.key_file}" if secure else base

    def connect(self, **options: object) -> twinlog.Client:
        return twinlog.connect(self.url(), **options)

    def sealed_seq(self) -> int:
        """The newest checkpoint's, from its file's name; 0 without one."""
        files = (self.directory / DB / "checkpoints").glob("*.json")
        return max((int(file.stem) for file in files if file.stem.isdigit()), default=0)

    def visible_seq(self) -> int:
        """Of the newest commit that readers see."""
        with self.connect() as client:
            return client.status()["databases"][DB]["visible"][1]


class RedisServer(Server):
    """appendonly yes, no snapshots; plain and TLS (1.3, a throw-away certificate) at once. fsync: everysec or always."""

    def __init__(self, directory: Path, *, fsync: str) -> None:
        _check_chosen("redis")
        program = find_program("redis-server")
        if program is None:
            raise Unavailable("redis-server is missing (on Debian: apt-get install redis-server)")
        directory.mkdir()
        self.address = ("127.0.0.1", free_port())
        self.tls_address = ("127.0.0.1", free_port())
        certificate, key = _certificate(directory)
        super().__init__(
            "Redis",
            directory,
            [
                program, "--bind", "127.0.0.1", "--port", str(self.address[1]), "--dir", str(directory), "--save", "",
                "--appendonly", "yes", "--appendfsync", fsync, "--tls-port", str(self.tls_address[1]),
                "--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate),
                "--tls-auth-clients", "no", "--tls-ciphersuites", "TLS_AES_256_GCM_SHA384",
            ],
        )  # fmt: skip

    def start(self) -> None:  # type: ignore[override]
        super().start(self._ready)

    def _ready(self) -> None:
        with dial_socket(self.address) as sock:
            sock.sendall(b"PING\r\n")
            if not sock.recv(100).startswith(b"+PONG"):
                raise BlockingIOError("it is loading")

    def ask(self, *words: str) -> str:
        """One command, one short answer."""
        with dial_socket(self.address) as sock:
            sock.sendall(" ".join(words).encode() + b"\r\n")
            return sock.recv(65536).decode()

    @property
    def plain(self) -> Dial:
        return partial(dial_plain, self.address)

    @property
    def secure(self) -> Dial:
        return partial(dial_plain, self.tls_address)


def _check_chosen(peer: str) -> None:
    if peer not in CHOSEN.get().peers:
        raise Unavailable(f"{peer} was not asked for")


def _certificate(directory: Path) -> tuple[Path, Path]:
    openssl = find_program("openssl")
    if openssl is None:
        raise Unavailable("openssl is missing (on Debian: apt-get install openssl)")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
               "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class PostgresServer(Server):
    """Its defaults but 512 MB of shared buffers and 4 GB of WAL before a checkpoint; synchronous_commit by connection."""

    stop_signal = signal.SIGINT  # "fast": connections are cut, the end is orderly

    def __init__(self, directory: Path, *, copy_of: PostgresServer | None = None) -> None:
        _check_chosen("postgresql")
        program, initdb = find_program("postgres"), find_program("initdb")
        if program is None or initdb is None:
            raise Unavailable("PostgreSQL is missing (on Debian: apt-get install postgresql)")
        self.address = ("127.0.0.1", free_port())
        user = POSTGRES_USER if os.geteuid() == 0 else None
        directory.mkdir(mode=0o700)
        if user is not None:
            owner = _postgres_account()
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        if copy_of is None:
            make = [initdb, "-D", str(directory), "-U", "postgres", "--auth=trust", "--no-locale", "-E", "UTF8", "--no-sync"]
        else:
            base_backup = find_program("pg_basebackup")
            assert base_backup is not None, "it comes with the server"
            make = [base_backup, "-D", str(directory), "-h", "127.0.0.1", "-p", str(copy_of.address[1]), "-U", "postgres",
                    "-R", "-X", "stream", "-c", "fast"]  # fmt: skip
        subprocess.run(make, check=True, capture_output=True, user=user, group=user, extra_groups=[] if user else None)
        chosen = {"listen_addresses": "127.0.0.1", "port": self.address[1], "unix_socket_directories": "",
                  "shared_buffers": "512MB", "max_wal_size": "4GB", "wal_keep_size": "8GB"}  # fmt: skip
        words = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
        super().__init__("PostgreSQL", directory, [program, "-D", str(directory), *words], user=user)

    def start(self) -> None:  # type: ignore[override]
        super().start(self._ready)

    def _ready(self) -> None:
        try:
            greet_postgres(self.address).close()
        except LoadFailed as error:
            raise BlockingIOError(str(error)) from error

    def account(self) -> dict[str, object]:
        """What subprocess.run takes for its tools, which refuse to run as root, too."""
        return {} if self._user is None else {"user": self._user, "group": self._user, "extra_groups": []}

    def query(self, text: str) -> str:
        """One value by psql, which comes with the server's packages."""
        command = [find_program("psql") or "psql", "-h", "127.0.0.1", "-p", str(self.address[1]), "-U", "postgres", "-XAtqc", text]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BlockingIOError(done.stderr.strip())
        return done.stdout.strip()

    def make_table(self) -> None:
        self.query("drop table if exists docs")
        self.query("create table docs (id bigint primary key, doc jsonb not null)")

    def dial(self, *, synchronous_commit: bool) -> Dial:
        options = "-c synchronous_commit=" + ("on" if synchronous_commit else "off")
        return partial(dial_postgres, self.address, options=options)


def _postgres_account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(POSTGRES_USER)
    except KeyError as error:
        raise Unavailable(f"PostgreSQL refuses to run as root and there is no user {POSTGRES_USER}") from error

"""Users of the client port: their roles, their password hashes, and logging in without being guessed at.

The users file is YAML, a mapping of names:

    alice: {role: admin, password: "scrypt:16384:8:1:<salt, hex>:<hash, hex>"}

`password_text` makes such a text. Without a users file whoever may connect (holds a key, or is on loopback) is admin;
with one, a connection may do nothing but say hello, ping and log in until it has. Hashes are worked out behind the disk
seam's thread runner, a few at a time, and failures are counted by user and host.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import trio
import yaml

from storage import errors

from .section import Section
from .settings import Kind, Setting

SCRYPT_N = 16_384  # with r 8: 16 MiB of memory and about 50 ms a guess
SCRYPT_N_MAX = 1_048_576
SCRYPT_R = 8
SCRYPT_P = 1
SALT_BYTES = 16
HASH_BYTES = 32
HASHES_AT_ONCE_MAX = 2
HASHES_WAITING_MAX = 64
FAILURES_REMEMBERED_MAX = 10_000


class Role(IntEnum):
    """What a connection may do; each role includes the ones before it. NONE: nobody has logged in yet."""

    NONE = 0
    READ = 1
    READWRITE = 2
    ADMIN = 3


ROLE_NAMES = {"read": Role.READ, "readwrite": Role.READWRITE, "admin": Role.ADMIN}

_TABLE = (
    Setting("*.role", Kind.CHOICE, None, "", "What the user may do.", choices=tuple(ROLE_NAMES)),
    Setting("*.password", Kind.TEXT, None, "", "The password's hash, as password_text makes it."),
)


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """scrypt's parameters, salt and result."""

    n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Raises ValueError for anything but scrypt:n:r:p:salt:hash with sane numbers."""
        name, n, r, p, salt, digest = text.split(":")
        parsed = cls(int(n), int(r), int(p), bytes.fromhex(salt), bytes.fromhex(digest))
        sane = 2 <= parsed.n <= SCRYPT_N_MAX and parsed.n & (parsed.n - 1) == 0 and 1 <= parsed.r <= 32 and 1 <= parsed.p <= 16
        if name != "scrypt" or not sane or len(parsed.salt) < 8 or len(parsed.hash) != HASH_BYTES:
            raise ValueError("not a scrypt hash with sane numbers")
        return parsed

    def matches(self, password: str) -> bool:
        """Takes tens of milliseconds and 128 * n * r bytes of memory: never on the event loop."""
        return hmac.compare_digest(_scrypt(password, self.salt, self.n, self.r, self.p), self.hash)


def password_text(password: str, salt: bytes) -> str:
    """What the users file holds for a password; salt: SALT_BYTES random bytes."""
    digest = _scrypt(password, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P)
    return f"scrypt:{SCRYPT_N}:{SCRYPT_R}:{SCRYPT_P}:{salt.hex()}:{digest.hex()}"


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"), salt=salt, n=n, r=r, p=p, dklen=HASH_BYTES, maxmem=256 * n * r + 2**20
    )


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: Role
    password: PasswordHash


def parse_users(text: bytes, where: str) -> dict[str, User]:
    """The users file's content; `where` names it in errors. Raises ConfigError."""
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"users: {where} is not valid YAML: {error}", path="users") from error
    users = {}
    for name, entry in Section(content, _TABLE, path=f"users ({where})", table_path="").each():
        role = ROLE_NAMES[entry.required("role", "what the user may do")]
        given = entry.required("password", "the hash of the user's password")
        try:
            password = PasswordHash.parse(given)
        except ValueError as error:
            raise entry.error(
                "password", "is not a hash that `twinlog user` makes; a password itself never stands in this file"
            ) from error
        entry.finish()
        users[name] = User(name, role, password)
    if not users:
        raise errors.ConfigError(f"users: {where} names no user; nobody could log in", path="users")
    return users


class Logins:
    """Checks passwords: few at a time, and not without end for one user from one host.

    `run` runs something that may block without holding the loop.
    """

    def __init__(
        self, users: Mapping[str, User] | None, run: Callable[..., Any], *, failures_max: int, window_s: float
    ) -> None:
        self._users = users
        self._run = run
        self._failures_max = failures_max
        self._window_s = window_s
        self._failures: dict[tuple[str, str], tuple[float, int]] = {}
        self._limiter = trio.CapacityLimiter(HASHES_AT_ONCE_MAX)

    @property
    def first_role(self) -> Role:
        """The role of a connection that has not logged in."""
        return Role.ADMIN if self._users is None else Role.NONE

    @property
    def waiting(self) -> int:
        """Logins whose password is being checked or waits for that."""
        checks = self._limiter.statistics()
        return checks.borrowed_tokens + checks.tasks_waiting

    async def log_in(self, name: str, password: str, host: str) -> User:
        """Raises AuthenticationFailed, or Overloaded after too many failures."""
        if self._users is None:
            raise errors.AuthenticationFailed(
                "this node has no users file (setting users); connect without a user, or give the node one"
            )
        self._check_rate(name, host)
        if self._limiter.statistics().tasks_waiting >= HASHES_WAITING_MAX:
            raise errors.Overloaded(
                f"{HASHES_WAITING_MAX} logins wait already; try again soon",
                bound="logins_waiting", limit=HASHES_WAITING_MAX, retry_after_ms=1_000,
            )  # fmt: skip
        user = self._users.get(name)
        # An unknown user costs the same time as a known one, so that names cannot be told by the clock.
        held = user.password if user else next(iter(self._users.values())).password
        self._count_failure(name, host)  # taken back on success, so that guesses side by side count too
        async with self._limiter:
            matches = await self._run(held.matches, password)
        if user is None or not matches:
            raise errors.AuthenticationFailed(f"user {name!r}: wrong name or password", user=name)
        self._failures.pop((name, host), None)
        return user

    def _check_rate(self, name: str, host: str) -> None:
        since, count = self._failures.get((name, host), (0.0, 0))
        left_s = since + self._window_s - trio.current_time()
        if count >= self._failures_max and left_s > 0:
            raise errors.Overloaded(
                f"user {name!r} failed to log in {count} times from {host}; try again in {left_s:.0f} s",
                bound="login_failures_max", limit=self._failures_max, retry_after_ms=int(left_s * 1000) + 1,
            )  # fmt: skip

    def _count_failure(self, name: str, host: str) -> None:
        now = trio.current_time()
        since, count = self._failures.get((name, host), (now, 0))
        if since + self._window_s <= now:
            since, count = now, 0
        if len(self._failures) >= FAILURES_REMEMBERED_MAX and (name, host) not in self._failures:
            self._failures.pop(next(iter(self._failures)))
        self._failures[name, host] = (since, count + 1)

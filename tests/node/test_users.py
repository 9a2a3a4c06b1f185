"""The users file and its password hashes."""

from __future__ import annotations

import pytest

from node.users import PasswordHash, Role, parse_users, password_text
from storage import errors

HASH = password_text("right", b"sixteen bytes ok")


def test_a_password_matches_its_own_hash_and_no_other():
    held = PasswordHash.parse(HASH)
    assert held.matches("right")
    assert not held.matches("wrong") and not held.matches("")
    assert password_text("right", b"another salt, 16") != HASH


def test_users_and_roles_are_read():
    users = parse_users(f"alice: {{role: admin, password: '{HASH}'}}\nbob: {{role: read, password: '{HASH}'}}\n".encode(), "u")
    assert {name: user.role for name, user in users.items()} == {"alice": Role.ADMIN, "bob": Role.READ}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no user"),
        ("alice", "must be a mapping"),
        ("alice: {role: admin}", "must be set"),
        (f"alice: {{role: root, password: '{HASH}'}}", "read, readwrite, admin"),
        ("alice: {role: admin, password: secret}", "never stands in this file"),
        ("alice: {role: admin, password: 'scrypt:3:8:1:00:00'}", "is not a hash"),
        (f"alice: {{role: admin, password: '{HASH}', admin: true}}", "no such setting"),
        ("alice: [", "not valid YAML"),
    ],
)
def test_a_wrong_users_file_is_refused_without_showing_passwords(text, says):
    with pytest.raises(errors.ConfigError) as refused:
        parse_users(text.encode(), "users.yaml")
    assert says in refused.value.message and "users.yaml" in refused.value.message
    assert "secret" not in refused.value.message

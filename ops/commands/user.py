"""`twinlog user add FILE NAME`: users of the client port. Works offline on the users file; nodes read it at start.

A password comes from a prompt or a file and is written only as its scrypt hash.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import yaml

from ops.exit_codes import ExitCode
from ops.refusal import Refusal

ROLES = ("read", "readwrite", "admin")
PASSWORD_CHARS_MIN = 8


@click.group()
def user() -> None:
    """Users of a node: the file that the setting `users` names."""


@user.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--password-file", type=click.Path(dir_okay=False, path_type=Path), help="First line is the password.")
@click.option("--replace", is_flag=True, help="Change a user who exists.")
def add(file: Path, name: str, role: str, password_file: Path | None, replace: bool) -> None:  # noqa: FBT001
    """Add NAME to the users FILE, made if it is not there. Copy the file to every node and restart them."""
    from node.users import SALT_BYTES, parse_users, password_text  # late: --help must not pay for the node
    from storage import ConfigError

    users = read_users(file)
    if name in users and not replace:
        raise Refusal(f"{file} has a user {name!r}; --replace changes it", ExitCode.FAILED)
    users[name] = {"role": role, "password": password_text(read_password(password_file), os.urandom(SALT_BYTES))}
    text = yaml.safe_dump(users, sort_keys=True, width=1000)
    try:
        parse_users(text.encode(), str(file))
    except ConfigError as error:
        raise Refusal(error.message, ExitCode.CONFIG) from error
    write_beside(file, text)
    click.echo(f"{file}: {name} has the role {role}")


@user.command("list")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def list_(file: Path) -> None:
    """Names and roles in a users FILE."""
    for name, entry in sorted(read_users(file).items()):
        click.echo(f"{name}  {entry.get('role')}")


def read_users(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_bytes()) if file.exists() else {}
    except yaml.YAMLError as error:
        raise Refusal(f"{file} is not valid YAML: {error}", ExitCode.CONFIG) from error
    if content is not None and not isinstance(content, dict):
        raise Refusal(f"{file} must be a mapping of user names", ExitCode.CONFIG)
    return content or {}


def read_password(password_file: Path | None) -> str:
    if password_file is None:
        password = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        lines = password_file.read_text(encoding="utf-8").splitlines()
        password = lines[0] if lines else ""
    if len(password) < PASSWORD_CHARS_MIN:
        raise Refusal(f"the password has {len(password)} characters; {PASSWORD_CHARS_MIN} are the least", ExitCode.USAGE)
    return password


def write_beside(file: Path, text: str) -> None:
    """The whole file or the old one, readable by its owner only."""
    fresh = file.with_name(file.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(descriptor)
    fresh.replace(file)

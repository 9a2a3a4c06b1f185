"""`twinlog config check FILE`: the same checks a starting node makes, without starting it."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from ops.exit_codes import ExitCode
from ops.refusal import Refusal


@click.group()
def config() -> None:
    """Look at a configuration file."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--node", default=None, help="Check as this node; default: as each node of the file.")
def check(file: Path, node: str | None) -> None:
    """Check FILE as `twinlog serve` would: settings, limits, relations, key and users files."""
    names = [node] if node else nodes_of(file)
    for name in names:
        check_as(file, name)
        click.echo(f"{file}: good" + (f" for node {name}" if name else ""))


def nodes_of(file: Path) -> list[str | None]:
    """The file's own `node`, else every node it lists; a file that cannot be read is left to the real check."""
    try:
        content = yaml.safe_load(file.read_bytes())
        if isinstance(content, dict) and "node" not in content and isinstance(content.get("nodes"), dict):
            return [str(name) for name in content["nodes"]] or [None]
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        pass
    return [None]


def check_as(file: Path, node: str | None) -> None:
    from node.config import load  # late: --help must not pay for the node
    from node.keyring import Secrets
    from storage import ConfigError

    overrides = {"node": node, "data": None}
    try:
        Secrets.read(load(str(file), with_data(file, overrides)))
    except ConfigError as error:
        as_node = f" (as node {node})" if node else ""
        raise Refusal(f"{file}{as_node}: {error.message}", ExitCode.CONFIG) from error


def with_data(file: Path, overrides: dict[str, str | None]) -> dict[str, str | None]:
    """`data` is mostly given on the command line of each node, so its absence from the file is no fault of the file."""
    try:
        content = yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return overrides
    if isinstance(content, dict) and "data" not in content:
        return {**overrides, "data": "data"}
    return overrides

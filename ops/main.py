"""The `twinlog` command: gathers the verbs. Knows their names and nothing of what they do.

A verb's module is imported when it is asked for: a node starts, and a script's `twinlog get` answers, without the others'.
"""

from __future__ import annotations

import logging
from importlib import import_module

import click

# Each the name of a command and of its module in ops.commands, in which it has the module's own name.
VERBS = {
    name: name if name != "import" else "import_"
    for name in (
        "up", "down", "status", "insert", "get", "find", "import", "export", "backup", "switchover", "promote", "kubernetes",
        "cluster", "compact", "drill", "serve", "config", "keygen", "user", "check", "scrub", "salvage", "hold", "kv",
    )
}  # fmt: skip
SHARED = {"cluster": ("status", "switchover")}  # the same commands under two names


class OnDemand(click.Group):
    """Lists verbs in the order above: what one needs first comes first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = VERBS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(f".commands.{module}", __package__), module)
        for name in SHARED.get(cmd_name, ()):
            shared = self.get_command(ctx, name)
            assert isinstance(command, click.Group) and shared is not None, f"{cmd_name} is a group, {name} a verb"
            command.add_command(shared)
        return command


def version() -> str:
    """The installed version; a checkout that was never installed says so."""
    from importlib import metadata

    try:
        return metadata.version("twinlog")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def show_version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:  # noqa: FBT001
    if asked and not ctx.resilient_parsing:
        click.echo(f"twinlog {version()}")
        ctx.exit()


@click.group(cls=OnDemand, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=show_version, help="Show the version and exit.")
@click.option("-v", "--verbose", is_flag=True, help="Show the client's log lines: lost and refused connections.")
def main(verbose: bool) -> None:  # noqa: FBT001
    """Twinlog: a replicated document database, run as a primary and warm standbys.

    A cluster is named by --url, by TWINLOG_URL, or by being the local pair of this directory (`twinlog up`).
    """
    client_log = logging.getLogger("twinlog.client")
    client_log.addHandler(logging.StreamHandler() if verbose else logging.NullHandler())


if __name__ == "__main__":
    main(prog_name="twinlog")

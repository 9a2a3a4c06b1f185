"""The `twinlog` command: gathers the verbs. Knows their names and nothing of what they do."""

from __future__ import annotations

import logging
from importlib import metadata

import click

from .commands import (
    backup,
    check,
    cluster,
    compact,
    config,
    down,
    drill,
    export,
    find,
    get,
    hold,
    import_,
    insert,
    keygen,
    kubernetes,
    kv,
    promote,
    salvage,
    scrub,
    serve,
    status,
    switchover,
    up,
    user,
)

VERBS = (
    up.up,
    down.down,
    status.status,
    insert.insert,
    get.get,
    find.find,
    import_.import_,
    export.export,
    backup.backup,
    switchover.switchover,
    promote.promote,
    kubernetes.kubernetes,
    cluster.cluster,
    compact.compact,
    drill.drill,
    serve.serve,
    config.config,
    keygen.keygen,
    user.user,
    check.check,
    scrub.scrub,
    salvage.salvage,
    hold.hold,
    kv.kv,
)


class InOrder(click.Group):
    """Lists verbs in the order above: what one needs first comes first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def version() -> str:
    """The installed version; a checkout that was never installed says so."""
    try:
        return metadata.version("twinlog")
    except metadata.PackageNotFoundError:
        return "(not installed)"


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), message="twinlog %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Show the client's log lines: lost and refused connections.")
def main(verbose: bool) -> None:  # noqa: FBT001
    """Twinlog: a replicated document database, run as a primary and warm standbys.

    A cluster is named by --url, by TWINLOG_URL, or by being the local pair of this directory (`twinlog up`).
    """
    client_log = logging.getLogger("twinlog.client")
    client_log.addHandler(logging.StreamHandler() if verbose else logging.NullHandler())


for verb in VERBS:
    main.add_command(verb)
for shared in (status.status, switchover.switchover):  # the same commands under two names
    cluster.cluster.add_command(shared)


if __name__ == "__main__":
    main(prog_name="twinlog")

"""`twinlog cluster VERB`: everything that concerns who leads, and whether the copies are equal. Gathers ops/cluster; knows names only."""

from __future__ import annotations

import click

from ops.cluster import check, failover, fence, history, pause, rejoin, reseed, resume, unfence, verify

VERBS = (
    check.check,
    failover.failover,
    fence.fence,
    unfence.unfence,
    rejoin.rejoin,
    reseed.reseed,
    pause.pause,
    resume.resume,
    verify.verify,
    history.history,
)


@click.group()
def cluster() -> None:
    """Who leads, who could, and whether the copies are equal: commands for the operator of a cluster."""


for verb in VERBS:
    cluster.add_command(verb)

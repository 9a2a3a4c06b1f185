"""`twinlog kubernetes VERB`: failover, switchover and the primary Service, from inside the cluster (`kubectl exec twinlog-0 -- twinlog kubernetes ...`).

Knows the verbs' options and what they print; the steps and their order are ops.kubernetes.moves'.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click
import trio

from ops.exit_codes import ExitCode
from ops.refusal import Refusal
from ops.target import Target, resolve, target_options

if TYPE_CHECKING:
    from ops.kubernetes.moves import Surroundings

ROUND_S = 120.0  # no round of `sync --every` takes longer
VERB_S = 300.0


@click.group()
def kubernetes() -> None:
    """Who stands behind the Service twinlog-primary, and how that changes. Runs in any pod of the cluster.

    Never two pods stand behind it: the old one leaves, the office changes, the new one enters.
    """


@kubernetes.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def where(url: str | None, key_file: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Where the Service points to, who is really behind it, and what each node says. Exit code 0: the primary is behind it, 1: it is not."""
    found = _run(resolve(url, key_file), _where)
    if as_json:
        click.echo(json.dumps(found))
    else:
        moving = f", a move to {found['moving_to']} is under way" if found["moving_to"] else ""
        click.echo(f"twinlog-primary points to {found['points_to'] or 'nobody'} (epoch {found['epoch']}){moving}")
        click.echo(f"behind it: {', '.join(found['behind']) or 'nobody'}")
        for node in found["nodes"]:
            click.echo(f"{node['pod']}: {node['problem'] or '{} of epoch {}'.format(node['role'], node['epoch'])}")
    primaries = [node["pod"] for node in found["nodes"] if node["role"] == "primary"]
    if found["behind"] != primaries:
        raise Refusal("the primary is not what stands behind the Service; `twinlog kubernetes sync` makes it so")


@kubernetes.command()
@target_options
@click.option("--every", type=click.FloatRange(0.5, 3600), default=None, metavar="SECONDS", help="Go on, looking so often; otherwise once.")
@click.option("--anew", is_flag=True, help="The cluster was made anew, with empty volumes: its epochs begin again.")
def sync(url: str | None, key_file: str | None, every: float | None, anew: bool) -> None:  # noqa: FBT001
    """Point the Service to whichever node is primary; promotes nobody."""
    from ops.kubernetes.moves import sync as do  # late: --help must not pay for it

    target = resolve(url, key_file)
    if every is None:
        click.echo(_run(target, lambda around: do(around, anew=anew)))
    else:
        _run(target, lambda around: _go_on(around, do, every), within_s=float("inf"))


automatic_option = click.option("--automatic", is_flag=True, help="A program asks, not a person: refused while the cluster is paused.")


@kubernetes.command()
@target_options
@automatic_option
@click.option("--to", default=None, metavar="POD", help="Which standby; default: the one with the most commits.")
@click.option("--force", is_flag=True, help="Even if commits are known to be missing there: they are lost.")
@click.option("--even-if-ready", is_flag=True, help="Even if Kubernetes says that a node which does not answer here is ready.")
@click.option("--fence", is_flag=True, help="Even if the primary answers: it is fenced first, and stays so until `twinlog cluster unfence`.")
def failover(url: str | None, key_file: str | None, to: str | None, automatic: bool, **chosen: bool) -> None:  # noqa: FBT001
    """Promote a standby in place of a primary that does not answer, and point the Service to it.

    Safe to run again, whatever the first run came to. Exit code 0: the Service points to a primary, 1: refused, 3: something does not answer.
    """
    from ops.kubernetes.moves import failover as do  # late: --help must not pay for it

    click.echo(_run(resolve(url, key_file), lambda around: do(around, to=to, **chosen), automatic=automatic))


@kubernetes.command()
@target_options
@automatic_option
@click.option("--to", default=None, metavar="POD", help="Which standby; default: the one that is least behind.")
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(0.001, 600), metavar="SECONDS", help="How long it may take to catch up.")
def switchover(url: str | None, key_file: str | None, to: str | None, timeout: float, automatic: bool) -> None:  # noqa: FBT001
    """Hand over from the primary to a standby, and point the Service to it. Nothing is lost, or nothing changes."""
    from ops.kubernetes.moves import switchover as do  # late: --help must not pay for it

    click.echo(_run(resolve(url, key_file), lambda around: do(around, to=to, timeout_s=timeout), automatic=automatic))


@kubernetes.command("hand-over")
@target_options
@click.option("--node", envvar="TWINLOG_NODE", required=True, help="The pod that is about to stop (TWINLOG_NODE).")
@click.option("--within", default=25.0, show_default=True, type=click.FloatRange(1, 600), metavar="SECONDS", help="Given up after so long.")
def hand_over(url: str | None, key_file: str | None, node: str, within: float) -> None:
    """For preStop: switch over if this pod's node is the primary and a standby can take over; otherwise say why not.

    Exit code 0: handed over, or nothing to hand over; 1: it stays the primary, and is stopped as such; 3: the time was over.
    """
    from ops.kubernetes.moves import hand_over as do  # late: --help must not pay for it

    click.echo(_run(resolve(url, key_file), lambda around: do(around, node, timeout_s=within / 2), automatic=True, within_s=within))


def _run(target: Target, verb: Callable[[Surroundings], Awaitable], *, automatic: bool = False, within_s: float = VERB_S):
    """The verb in a trio run of its own, with the real API and the real nodes around it."""

    async def run() -> object:
        from ops.kubernetes.api import default_access, open_api  # late: --help must not pay for it
        from ops.kubernetes.moves import Surroundings
        from ops.kubernetes.nodes import Nodes
        from storage import wall_clock_us

        async with open_api(default_access()) as api:
            with trio.move_on_after(within_s):
                return await verb(Surroundings(api, Nodes(target), wall_clock_us, click.echo, automatic))
        raise Refusal(f"given up after {within_s:g} s; `twinlog kubernetes where` says how things are, `sync` puts the Service right", ExitCode.UNREACHABLE)

    return trio.run(run)


async def _where(around: Surroundings) -> dict:
    from ops.kubernetes.verdicts import pod_of

    standing = await around.api.standing()
    return {
        "points_to": standing.pod, "epoch": standing.epoch, "moving_to": standing.moving_to, "behind": sorted(await around.api.behind_service()),
        "nodes": [{"pod": pod_of(view.host), "role": view.role, "epoch": view.epoch, "problem": view.problem} for view in await around.nodes.ask()],
    }  # fmt: skip


async def _go_on(around: Surroundings, sync_once: Callable[[Surroundings], Awaitable[str]], every: float) -> None:
    """Rounds until SIGTERM, which a container's first process gets only if it asks for it. Says what is new, once."""
    async with trio.open_nursery() as nursery:

        async def rounds() -> None:
            said = ""
            while True:
                line = f"the round took over {ROUND_S:g} s"
                with trio.move_on_after(ROUND_S):
                    try:
                        line = await sync_once(around)
                    except Refusal as error:
                        line = error.message
                if line != said:
                    around.say(line)
                    said = line
                await trio.sleep(every)

        nursery.start_soon(rounds)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break

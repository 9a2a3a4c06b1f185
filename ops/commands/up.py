"""`twinlog up [DIR]`: a primary and a standby, or more of them, on this machine. Done twice, it changes nothing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from ops.pair import STANDBYS_MAX, LocalPair, opened
from ops.status import NodeView, ask_all
from ops.target import PAIR_DIRECTORY, Target


@click.command()
@click.argument("directory", default=PAIR_DIRECTORY, type=click.Path(file_okay=False, path_type=Path))
@click.option("--standbys", type=click.IntRange(1, STANDBYS_MAX), help="How many standbys; 1 unless told.")
@click.option("--delayed", type=click.IntRange(1), metavar="SECONDS", help="And one standby more, which stays so far behind (delay_s).")
@click.option("--compaction/--no-compaction", default=None, help="Rewrite shard files by itself when enough of them is stale.")
@click.option("--compact-stale-ratio", type=float, metavar="RATIO", help="How large a part must be stale, as 0.5.")
@click.option("--compact-min-size", type=int, metavar="MIB", help="Shards of smaller files are left alone.")
def up(directory: Path, standbys: int | None, delayed: int | None, **settings: object) -> None:
    """Start a primary and a standby (or more) below DIRECTORY (default .local-pair) and wait until all are well.

    Settings go into the configuration when it is made; later they are changed there.
    """
    with opened(directory) as pair:
        pair.prepare({name: value for name, value in settings.items() if value is not None}, standbys=standbys, delay_s=delayed)
        started = pair.start_missing()
        for name in started:
            click.echo(f"started node {name} (pid {pair.running[name].pid}, log {pair.log_file(name)})")
        if not started:
            click.echo(f"all {len(pair.names)} nodes are running already" if len(pair.names) > 2 else "both nodes are running already")
        pair.wait_ready(lambda: what_is_missing(pair))
        click.echo(how_to_use(pair, directory))


def what_is_missing(pair: LocalPair) -> str | None:
    """None when one node takes writes and every other follows it. A fenced one is not waited for: only an operator ends that."""
    views = ask_all(Target(pair.url(), None, str(pair.state_file)), mark=False)
    for view in views:
        if not view.reachable:
            return f"node at {view.host} does not answer yet ({view.problem})"
    fenced = [view.node for view in views if view.role == "fenced"]
    primaries = [view for view in views if view.role == "primary"]
    if fenced and not primaries:
        click.echo(f"node {', '.join(fenced)} is fenced and nobody leads: `twinlog cluster unfence`, or `failover`")
        return None
    if len(primaries) != 1:
        return f"{len(primaries)} nodes say they are primary"
    return standbys_missing(primaries[0], len(views) - 1 - len(fenced))


def standbys_missing(primary: NodeView, expected: int) -> str | None:
    if not primary.writable:
        return f"primary {primary.node} does not take writes yet"
    following = [standby for standby in primary.standbys if standby.connected and (standby.streaming or not primary.databases)]
    if len(following) < expected:
        return f"{len(following)} of {expected} standbys follow {primary.node}"
    return None


def command_name() -> str:
    """`twinlog` as it can be typed here: on the PATH, or inside the virtual environment that runs this."""
    if shutil.which("twinlog"):
        return "twinlog"
    beside = Path(sys.executable).parent / "twinlog"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


def how_to_use(pair: LocalPair, directory: Path) -> str:
    default = directory == Path(PAIR_DIRECTORY)
    command = command_name()
    ending = f"make down   (or: {command} down)" if default else f"{command} down {directory}"
    url = "" if default else f" --url '{pair.url()}'"
    return "\n".join(
        (
            "",
            f"  url      {pair.url()}",
            f"  import   {command} import FILE.json{url}",
            f"  status   {command} status{url}",
            f"  python   twinlog.connect(\"{pair.url()}\")[\"test\"][\"things\"].insert_one({{\"hello\": \"world\"}})",
            f"  stop     {ending}",
        )
    )

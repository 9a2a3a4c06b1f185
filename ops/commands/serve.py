"""`twinlog serve`: one node in the foreground, until SIGTERM or Ctrl-C.

Knows which flag lays over which setting; the rules of the settings are node.config's, so a flag and the file are
held to the same ones. Flags come from the environment too, for containers.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import click
import trio
from click.core import ParameterSource

from ops.exit_codes import ExitCode
from ops.refusal import Refusal

if TYPE_CHECKING:
    from storage import Seams

SWITCH_S = 0.0002  # Python's own: 0.005, which the loop would wait each time that it wakes while queries run in threads
GC_ALLOCATIONS, GC_YOUNG_ROUNDS, GC_MIDDLE_ROUNDS = 20_000, 20, 100  # Python's own: 700, 10, 10
IN_MEMORY = "memory"  # stands for the directory that a node without a disk does not have


@click.command()
@click.option("--config", "config_file", envvar="TWINLOG_CONFIG", type=click.Path(), help="cluster.yaml (TWINLOG_CONFIG).")
@click.option("--node", envvar="TWINLOG_NODE", help="Which of the file's nodes this is (TWINLOG_NODE).")
@click.option("--data", envvar="TWINLOG_DATA", type=click.Path(), help="Directory of this node's files (TWINLOG_DATA).")
@click.option("--memory", is_flag=True, help="Keep everything in memory: gone when the node stops.")
@click.option("--sync-mode", help="async or sync: when a write is acknowledged.")
@click.option("--shards", help="Shards of databases created from now on.")
@click.option("--disable-crc", is_flag=True, default=None, help="No checksum over record bodies of new databases.")
@click.option("--cache-mb", help="Hot cache of documents.")
@click.option("--compaction/--no-compaction", default=None, help="Rewrite shard files by itself when enough of them is stale.")
@click.option("--compact-stale-ratio", metavar="RATIO", help="How large a part must be stale, as 0.5.")
@click.option("--compact-min-size", metavar="MIB", help="Shards of smaller files are left alone.")
@click.option("--client", metavar="HOST:PORT", help="Where to listen for clients.")
@click.option("--cluster", metavar="HOST:PORT", help="Where to listen for the other nodes.")
@click.option("--admin", metavar="HOST:PORT", help="Where to listen for admin HTTP, or none.")
@click.option("--client-keys", envvar="TWINLOG_CLIENT_KEYS_FILE", type=click.Path(), help="Key file for clients (TWINLOG_CLIENT_KEYS_FILE).")
@click.option("--cluster-key", envvar="TWINLOG_CLUSTER_KEY_FILE", type=click.Path(), help="Key file between nodes (TWINLOG_CLUSTER_KEY_FILE).")
@click.option("--users", envvar="TWINLOG_USERS_FILE", type=click.Path(), help="Users file (TWINLOG_USERS_FILE).")
@click.option("--acks", help="Standbys that must confirm a write.")
@click.option("--delay-s", metavar="SECONDS", help="As a standby, show the primary's state of so long ago; of the node that --node names.")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Any setting, such as limits.cursors_max=50.")
@click.option("--adopt", is_flag=True, help="DATA is a copy of this node's directory and takes its place.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True)
def serve(
    config_file: str | None, settings: tuple[str, ...], log_level: str,
    memory: bool, adopt: bool,  # noqa: FBT001
    **flags: object,
) -> None:
    """Run one node. Without --config it stands alone on 127.0.0.1:6900.

    Flags override the file; `twinlog config check` runs the same checks without starting anything.
    """
    logging.basicConfig(
        stream=sys.stderr, level=log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    overrides = overrides_from(flags, settings)
    if memory:
        if click.get_current_context().get_parameter_source("data") is ParameterSource.COMMANDLINE:
            raise Refusal("--memory and --data exclude each other", ExitCode.USAGE)
        overrides["data"] = IN_MEMORY
    run(config_file, overrides, memory=memory, adopt=adopt)


def overrides_from(flags: dict[str, object], settings: tuple[str, ...]) -> dict[str, object]:
    """Setting path to value, from the flags that were given and from --set."""
    listening = {"client", "cluster", "admin"}
    delay_s = flags.pop("delay_s", None)
    if delay_s is not None and not flags.get("node"):
        raise Refusal("--delay-s is a setting of one node: say which by --node", ExitCode.USAGE)
    overrides = {
        f"listen.{name}" if name in listening else name: value for name, value in flags.items() if value is not None
    }
    if delay_s is not None:
        overrides[f"nodes.{flags['node']}.delay_s"] = delay_s
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise Refusal(f"--set {setting!r}: write PATH=VALUE, as in acks=1", ExitCode.USAGE)
        overrides[path] = value
    return overrides


def run(config_file: str | None, overrides: dict[str, object], *, memory: bool, adopt: bool) -> None:
    """Reads the configuration and serves until told to stop; a refusal to start becomes an exit code."""
    from node.config import load  # late: --help must not pay for the node
    from node.server import serve as serve_node
    from storage import ConfigError, TwinlogError

    try:
        config = load(config_file, overrides)
    except ConfigError as error:
        raise Refusal(f"configuration: {error.message}", ExitCode.CONFIG) from error
    calm_collector()
    sys.setswitchinterval(SWITCH_S)
    take_descriptors()
    try:
        trio.run(partial(serve_node, config, seams=memory_seams() if memory else None, adopt=adopt))
    except* ConfigError as group:
        raise Refusal(f"configuration: {first_of(group)}", ExitCode.CONFIG) from group
    except* (TwinlogError, OSError) as group:
        raise Refusal(str(first_of(group))) from group


def take_descriptors() -> None:
    """As many as the system lets this process have: the usual limit of 1,024 is for programs that use select()."""
    _, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))


def calm_collector() -> None:
    """Full collections walk every live object, tens of milliseconds with full memtables, which are no garbage. What is here
    now is never walked again, and the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, GC_YOUNG_ROUNDS, GC_MIDDLE_ROUNDS)


def memory_seams() -> Seams:
    """The engine's surroundings without a disk: nothing outlives the process."""
    from storage import MemoryDisk, Seams, WorkHere, wall_clock_us

    disk = MemoryDisk()
    return Seams(disk, wall_clock_us, os.urandom, WorkHere(disk))


def first_of(group: BaseExceptionGroup) -> BaseException:
    """The first plain error inside a group: for one cause, the group is only wrapping."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found

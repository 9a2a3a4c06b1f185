"""`twinlog drill run|list|history`: failover drills that count what was lost and measure how long nobody was served.

Knows options, and which target goes by which name; what is done is ops.drills' business.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ops.drills.limits import TARGET_NAMES, BadLimits, Limit, missed, read_limits
from ops.drills.scenarios import SCENARIOS, OnTimeout, Scenario
from ops.exit_codes import ExitCode
from ops.refusal import Refusal, confirm, finish, refusals
from ops.tables import NOTHING, print_table

if TYPE_CHECKING:
    from ops.drills.targets.protocol import Settings, Target

T = TypeVar("T")

OUT_DIRECTORY = ".drills"
SHIPPED_LIMITS = Path(__file__).resolve().parent.parent / "drills" / "targets.yaml"


@click.group()
def drill() -> None:
    """Break a cluster on purpose, under load, and see what is lost and for how long nobody is served."""


@drill.command()
@click.argument("scenario", type=click.Choice(list(SCENARIOS)))
@click.option("--target", "target_name", type=click.Choice(TARGET_NAMES), default="local", show_default=True,
              help="local: two processes made for it. compose: containers made for it. kubernetes: the pods that kubectl reaches.")
@click.option("--json", "as_json", is_flag=True, help="The report on stdout.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=OUT_DIRECTORY, show_default=True, help="Where reports are kept.")
@click.option("--targets", "limits_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Limits; default: the shipped ones.")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=5.0, show_default=True, help="Length of each steady phase.")
@click.option("--acks", type=click.IntRange(0, 1), help="Standbys that must confirm a write; default: as the scenario says.")
@click.option("--on-ack-timeout", type=click.Choice([one.value for one in OnTimeout]), help="Default: as the scenario says.")
@click.option("--client-timeout", type=click.FloatRange(0.1, 60), default=2.0, show_default=True, metavar="SECONDS",
              help="timeout_s of the drill's clients: how long they wait for a node that says nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before a cluster is broken that was not made for the drill.")
def run(
    scenario: str, target_name: str, as_json: bool, out: Path, limits_file: Path | None, seconds: float, acks: int | None,  # noqa: FBT001
    on_ack_timeout: str | None, client_timeout: float, yes: bool,  # noqa: FBT001
) -> None:
    """Carry out SCENARIO (see `drill list`): exit code 0 within its limits, 10 a limit missed or a step that did not come to pass,
    4 the copies differ at the end, 11 not possible here, 3 the cluster did not become well."""
    from ops.drills.targets.protocol import Settings  # late: --help must not pay for the client
    from ops.drills.writers import Load

    chosen = SCENARIOS[scenario]
    settings = Settings(chosen.acks if acks is None else acks, OnTimeout(on_ack_timeout) if on_ack_timeout else chosen.on_timeout)
    if chosen.needs_acks and settings.acks == 0:
        raise Refusal(f"{scenario} shows what happens to writes that wait for a standby: it needs --acks 1", ExitCode.USAGE)
    file = limits_file or SHIPPED_LIMITS
    limits_of = partial(read_limits, file.read_text(), str(file), scenario=scenario, target=target_name)
    try:
        limits_of(acks=settings.acks)  # what is wrong with the file is said before anything is broken
    except BadLimits as error:
        raise Refusal(str(error), ExitCode.CONFIG) from error
    target = make_target(target_name, chosen, settings)
    if target_name == "kubernetes":
        check_existing(scenario, acks, on_ack_timeout, yes=yes)
    with refusals():
        plain = carry_out(chosen, target, Load(timeout_s=client_timeout), seconds, limits_of, out)
    show(plain, as_json=as_json)
    finish(ExitCode(plain["exit_code"]))


@drill.command("list")
@click.option("--json", "as_json", is_flag=True)
def list_(as_json: bool) -> None:  # noqa: FBT001
    """The scenarios, and what each does."""
    if as_json:
        click.echo(json.dumps([{"name": one.name, "title": one.title, "acks": one.acks, "on_ack_timeout": one.on_timeout.value,
                                "faults": sorted(fault.value for fault in one.faults())} for one in SCENARIOS.values()], indent=2))
        return
    print_table("scenarios", ("name", "acks>", "on ack timeout", "what happens"),
                [(one.name, str(one.acks), one.on_timeout.value, one.title) for one in SCENARIOS.values()])


@drill.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=OUT_DIRECTORY, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def history(out: Path, as_json: bool) -> None:  # noqa: FBT001
    """Drills kept in a directory, oldest first. In brackets: times the median of the ten before of the same scenario, target and settings."""
    from ops.drills.history import TREND_MEASURES, read_history

    runs, unreadable = read_history(out)
    if as_json:
        click.echo(json.dumps([one.as_plain() for one in runs], indent=2))
    elif not runs:
        click.echo(f"no drill is kept in {out}")
    else:
        rows = []
        for one in runs:
            plain = one.plain
            values = [value_and_trend(plain["measures"].get(name), one.trend.get(name)) for name in TREND_MEASURES]
            rows.append((plain["began"][:19], plain["scenario"], plain["target"], str(plain["settings"]["acks"]),
                         "passed" if plain["passed"] else f"FAILED ({plain['exit_code']})", *values))
        print_table("drills", ("began (UTC)", "scenario", "target", "acks>", "outcome", *(f"{name}>" for name in TREND_MEASURES)), rows)
    for problem in unreadable:
        click.echo(f"! {problem}", err=True)
    finish(ExitCode.PARTIAL if unreadable else ExitCode.OK)


def carry_out(scenario: Scenario, target: Target, load: Any, seconds: float, limits_of: Callable[..., tuple[Limit, ...]], out: Path) -> dict[str, Any]:
    """The drill, judged and kept; its report."""
    import trio

    from ops.drills import report
    from ops.drills.conductor import Conductor, NotReady, Plan
    from ops.drills.targets.protocol import NotHere
    from ops.drills.verdict import judge

    async def conduct() -> tuple[Any, Any, Path]:
        async with target:
            if scenario.needs_acks and target.settings.acks == 0:
                raise NotHere(f"{scenario.name} shows what happens to writes that wait for a standby, and this cluster's acks are 0")
            if scenario.needs_acks and target.settings.on_timeout is not scenario.on_timeout:
                has = target.settings.on_timeout.value
                raise NotHere(f"{scenario.name} shows what on_ack_timeout {scenario.on_timeout.value} does, and this cluster has {has}")
            run = report.Run(
                scenario.name, scenario.title, target.name, datetime.now(UTC).isoformat(timespec="seconds"), target.settings.acks,
                target.settings.on_timeout.value, seconds, {"writers": load.writers, "pace_s": load.pace_s, **load.options()},
                {"cores": os.cpu_count(), "load": [round(one, 1) for one in os.getloadavg()]},
            )  # fmt: skip
            directory = report.make_directory(out, run)
            try:
                facts = await Conductor(Plan(scenario, seconds, load), target, lambda line: click.echo(line, err=True)).run()
            finally:
                with trio.CancelScope(shield=True):
                    await target.keep_logs(directory)
            return run, facts, directory

    try:
        run, facts, directory = alone(conduct)
    except NotHere as error:
        raise Refusal(str(error), ExitCode.NOT_HERE) from error
    except NotReady as error:
        raise Refusal(str(error), ExitCode.UNREACHABLE) from error
    verdict = judge(facts)
    limits = limits_of(acks=run.acks)
    plain = report.as_plain(run, facts, verdict, limits, missed(limits, verdict.measures()))
    report.write_files(directory, plain, facts)
    click.echo(f"report: {directory / report.MARKDOWN_FILE}", err=True)
    return plain


def alone(work: Callable[[], Awaitable[T]]) -> T:
    """trio.run; one error out of however many nurseries comes out as itself."""
    import trio

    try:
        return trio.run(work)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from group


def make_target(name: str, scenario: Scenario, settings: Settings) -> Target:
    from ops.drills.scenarios import Act

    if name == "local":
        from ops.drills.targets.local import LocalTarget

        return LocalTarget(settings, needs_disk=Act.FILL in scenario.faults())
    if name == "compose":
        from ops.drills.targets.compose import ComposeTarget

        return ComposeTarget(settings, scenario.faults())
    from ops.drills.targets.kubernetes import KubernetesTarget

    return KubernetesTarget(settings, scenario.faults())


def show(plain: dict[str, Any], *, as_json: bool) -> None:
    from ops.drills.report import print_report

    if as_json:
        click.echo(json.dumps(plain, indent=2))
    else:
        print_report(plain)
    for problem in (*plain["problems"], *plain["missed"]):
        click.echo(f"! {problem}", err=True)


def value_and_trend(value: float | None, trend: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:g}" + ("" if trend is None else f" (x{trend:.2f})")


def check_existing(scenario: str, acks: int | None, on_ack_timeout: str | None, *, yes: bool) -> None:
    """For a cluster that was not made for the drill. Asks on the terminal; without one, --yes is the only way."""
    if acks is not None or on_ack_timeout is not None:
        raise Refusal("--acks and --on-ack-timeout are of clusters made for the drill; this one has its own settings", ExitCode.USAGE)
    if not yes:
        confirm(f"{scenario} on the pods that kubectl reaches now: they are broken on purpose, and their clients' writes stop. Go on?")

"""The runner: `python -m benchmarks [NAMES...] [--short] [--out DIR]`. Runs cases, writes report.md and report.json."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from . import generator, machine
from .cases import CASES
from .contest import Run, say
from .generator import LoadFailed, Unavailable
from .processes import ServerFailed
from .report import CaseReport, Report, markdown, plain

SHORT_ROUNDS, SHORT_SECONDS = 3, 1.0
LONG_ROUNDS, LONG_SECONDS = 7, 5.0
EXIT_TERMINATED = 128 + signal.SIGTERM


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Twinlog beside its peers, in the same run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"cases: {', '.join(CASES)}; without any: all")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes a case; for a first look")
    parser.add_argument("--out", type=Path, help="directory for report.md and report.json; without it Markdown is printed")
    parser.add_argument("--rounds", type=int, help=f"turns of each contender ({LONG_ROUNDS}; short: {SHORT_ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"length of one turn ({LONG_SECONDS:g}; short: {SHORT_SECONDS:g})")
    parser.add_argument("--workplace", type=Path, help="where the servers' temporary directories go: the disk to measure")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in CASES]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    return chosen


def main() -> int:
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # so that the servers are stopped on the way out
    run = Run(
        short=chosen.short,
        rounds=chosen.rounds or (SHORT_ROUNDS if chosen.short else LONG_ROUNDS),
        seconds=chosen.seconds or (SHORT_SECONDS if chosen.short else LONG_SECONDS),
        workplace=chosen.workplace,
    )
    try:
        generator.build()
    except Unavailable as error:
        say(f"the load generator cannot be built: {error}")
        return 1
    report = Report(
        machine.describe(chosen.workplace or Path(tempfile.gettempdir())), " ".join(["python -m benchmarks", *sys.argv[1:]])
    )
    for name in chosen.names or CASES:
        say(f"{name}:")
        case = CaseReport(name, CASES[name].WHAT)
        report.cases.append(case)
        try:
            CASES[name].measure(run, case)
        except (LoadFailed, ServerFailed, Unavailable) as error:
            case.notes.append(f"broken off: {error}")
            say(f"  broken off: {error}")
    report.machine["load average at the end"] = " ".join(f"{load:.2f}" for load in os.getloadavg())
    if chosen.out is None:
        print(markdown(report))
    else:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "report.md").write_text(markdown(report))
        (chosen.out / "report.json").write_text(json.dumps(plain(report), indent=1) + "\n")
        say(f"written: {chosen.out / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

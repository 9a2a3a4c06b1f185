"""The runner: `python -m benchmarks [NAMES...] [--long] [--out DIR]`. Runs cases, writes report.md and report.json."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import generator, machine
from .cases import CASES
from .chosen import CHOSEN, PEERS, Chosen
from .contest import Run, say
from .generator import LoadFailed, Unavailable
from .processes import ServerFailed
from .report import CaseReport, Report, markdown, plain

SHORT_ROUNDS, SHORT_SECONDS = 2, 0.5
LONG_ROUNDS, LONG_SECONDS = 7, 5.0
EXIT_TERMINATED = 128 + signal.SIGTERM


def amount(text: str) -> int:
    """2GB, 200MB, 5000: decimal units."""
    digits, unit = text.upper().removesuffix("B"), 1
    for letter, size in (("K", 10**3), ("M", 10**6), ("G", 10**9)):
        if digits.endswith(letter):
            digits, unit = digits.removesuffix(letter), size
    return int(float(digits) * unit)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Twinlog beside its peers, in the same run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"cases: {', '.join(CASES)}; without any: all")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="seconds a case, five minutes in all; what happens without --long")
    length.add_argument("--long", action="store_true", help="minutes a case, hours in all; for figures that are kept")
    parser.add_argument("--out", type=Path, help="directory for report.md and report.json; without it Markdown is printed")
    parser.add_argument("--rounds", type=int, help=f"turns of each contender ({LONG_ROUNDS}; short: {SHORT_ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"length of one turn ({LONG_SECONDS:g}; short: {SHORT_SECONDS:g})")
    parser.add_argument("--workplace", type=Path, help="where the servers' temporary directories go: the disk to measure")
    parser.add_argument("--documents", type=int, help="of volume, open, catchup and chat, instead of their own")
    parser.add_argument("--bytes", type=amount, help="of compaction, rejoin and backup, instead of its own: 200MB, 2GB")
    parser.add_argument("--clients", type=int, help="of slow: connections that read nothing")
    parser.add_argument("--cold", action="store_true", help="open and chat: also with the page cache dropped, for which it must be root")
    peers = parser.add_mutually_exclusive_group()
    peers.add_argument("--peers", help=f"a comma between them; without it: {','.join(PEERS)}")
    peers.add_argument("--no-peers", action="store_const", const="", dest="peers", help="Twinlog alone")
    parser.add_argument("--python", default=sys.executable, help="interpreter of Twinlog's server, with its dependencies installed")
    parser.add_argument("--pure", action="store_true", help="the native kernel is left alone")
    parser.add_argument("--profile", type=Path, help="directory for a flame graph of Twinlog's server, one a measure, by py-spy")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in CASES]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    chosen.peers = PEERS if chosen.peers is None else tuple(name for name in chosen.peers.split(",") if name)
    if strange := set(chosen.peers) - set(PEERS):
        parser.error(f"no peer {min(strange)!r}; there are {', '.join(PEERS)}")
    if chosen.cold and os.geteuid() != 0:
        parser.error("--cold drops the page cache, which only root may")
    return chosen


def main() -> int:
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # so that the servers are stopped on the way out
    CHOSEN.set(Chosen(chosen.peers, chosen.python, chosen.pure, chosen.profile))
    run = Run(
        short=not chosen.long,
        rounds=chosen.rounds or (LONG_ROUNDS if chosen.long else SHORT_ROUNDS),
        seconds=chosen.seconds or (LONG_SECONDS if chosen.long else SHORT_SECONDS),
        workplace=chosen.workplace,
        documents=chosen.documents,
        bytes=chosen.bytes,
        clients=chosen.clients,
        cold=chosen.cold,
    )
    try:
        generator.build()
        described = machine.describe(chosen.workplace or Path(tempfile.gettempdir()))
    except (Unavailable, ServerFailed) as error:
        say(f"nothing can be measured: {error}")
        return 1
    report = Report(described, " ".join(["python -m benchmarks", *sys.argv[1:]]))
    began = time.monotonic()
    for name in chosen.names or CASES:
        say(f"{name} (after {time.monotonic() - began:.0f} s):")
        case = CaseReport(name, CASES[name].WHAT)
        report.cases.append(case)
        try:
            CASES[name].measure(run, case)
        except (LoadFailed, ServerFailed, Unavailable) as error:
            case.notes.append(f"broken off: {error}")
            say(f"  broken off: {error}")
    report.machine["took"] = f"{time.monotonic() - began:.0f} s"
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

"""What the command line chose for every server of a run: who takes part, Twinlog's interpreter and kernel, a profiler.

Handed on in a context variable, so that a case names only what it is about. Knows no case and starts nothing.
"""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

KERNEL_SETTING = "TWINLOG_KERNEL"
PEERS = ("redis", "postgresql")


@dataclass(frozen=True)
class Chosen:
    """profile: directory for one flame graph of Twinlog's server a measure."""

    peers: tuple[str, ...] = PEERS
    python: str = sys.executable
    pure: bool = False
    profile: Path | None = None

    def environment(self) -> dict[str, str]:
        """Of a server, and of a client library that is measured."""
        checkout = Path(__file__).resolve().parent.parent
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(checkout / ".venv" / "bytecode")}  # as an installed package is
        return {**os.environ, "PYTHONPATH": str(checkout), **compiled, **({KERNEL_SETTING: "off"} if self.pure else {})}


CHOSEN: ContextVar[Chosen] = ContextVar("CHOSEN", default=Chosen())  # noqa: B039

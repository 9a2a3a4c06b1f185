"""One command of another program, run to its end within a time limit."""

from __future__ import annotations

from collections.abc import Mapping

import trio

COMMAND_SECONDS_MAX = 120.0


async def run(command: tuple[str, ...], *, limit_s: float = COMMAND_SECONDS_MAX, environment: Mapping[str, str] | None = None) -> str:
    """What the command prints. Raises OSError with its errors when it fails or takes too long."""
    try:
        with trio.fail_after(limit_s):
            done = await trio.run_process(list(command), capture_stdout=True, capture_stderr=True, check=False, env=environment)
    except trio.TooSlowError as error:
        raise OSError(f"{' '.join(command)}: not done within {limit_s:.0f} s") from error
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")

"""The one way a verb gives up: a message for people and an exit code for scripts.

Knows how the client's and the engine's errors map to exit codes; knows nothing of any verb.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from .exit_codes import ExitCode


class Refusal(click.ClickException):
    """Ends the command with this message on stderr and this exit code."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)

    def show(self, file: object = None) -> None:
        click.echo(f"twinlog: {self.message}", err=True)


@contextmanager
def refusals() -> Iterator[None]:
    """Turns the errors of the client and of the engine into a Refusal; a bug keeps its traceback."""
    from storage import ConfigError, TwinlogError  # late: --help must not pay for it
    from twinlog import errors as client_errors

    try:
        yield
    except client_errors.ConnectionFailure as error:
        raise Refusal(str(error), ExitCode.UNREACHABLE) from error
    except client_errors.TwinlogError as error:
        raise Refusal(str(error)) from error
    except ConfigError as error:
        raise Refusal(str(error), ExitCode.CONFIG) from error
    except TwinlogError as error:
        raise Refusal(f"{error.name}: {error.message}") from error
    except OSError as error:
        raise Refusal(str(error)) from error


def finish(code: ExitCode) -> None:
    """Ends the process with the code, unless all is well: then the verb simply returns."""
    if code is not ExitCode.OK:
        sys.exit(int(code))


def confirm(question: str) -> None:
    """Asks on the terminal; without one, --yes is the only way."""
    try:
        agreed = click.confirm(question, default=False, err=True)
    except click.Abort as error:
        raise Refusal("nobody to ask here: add --yes", ExitCode.DECLINED) from error
    if not agreed:
        raise Refusal("nothing was changed", ExitCode.DECLINED)

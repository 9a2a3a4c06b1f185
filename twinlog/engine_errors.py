"""What the engine's own code refuses in this process, as the client's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import TwinlogError as EngineError

from .values import from_engine


@contextmanager
def engine_errors_here() -> Iterator[None]:
    """Meanwhile what the engine's code refuses in this process is raised as the client's own error."""
    try:
        yield
    except EngineError as error:
        raise from_engine(error) from error

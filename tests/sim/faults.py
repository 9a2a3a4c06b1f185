"""How an exception that ended a living process is told: its innermost cause and where it came from."""

from __future__ import annotations


def innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def shown(error: BaseException) -> str:
    """An exception with the place it came from."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno}" if place is not None else "?"
    return f"{type(error).__name__} at {where}: {error}"

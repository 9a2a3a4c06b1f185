"""Decoding beside the loop: arguments of requests that are so large that reading them would hold it (INV-9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

DECODED_HERE_BYTES_MAX = 32 * 2**10  # about 1 ms


async def decoded(engine: Any, read: Callable[..., T], *arguments: Any) -> T:
    """read(*arguments), at once when those are small. arguments: Raw values, or lists of them."""
    if _size(arguments) <= DECODED_HERE_BYTES_MAX:
        return read(*arguments)
    return await engine.seams.disk.run(read, *arguments)


def _size(argument: Any) -> int:
    return sum(map(_size, argument)) if isinstance(argument, (list, tuple)) else len(argument)

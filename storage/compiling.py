"""Compiling away from the loop: what takes longer than a slice (INV-9) is compiled in the disk's thread, beside the loop.

A condition takes some 7 µs to compile, a hop to a thread and back 60 µs; so a few hundred are compiled in place, and the 10,000 branches that
somebody may send are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .database import Database
from .query.weight import CONSTANT_LOOPS, is_heavier

T = TypeVar("T")

COMPILED_HERE_MAX = 200  # values and keys: 2 ms


async def compiled(db: Database, compile_it: Callable[..., T], *specs: Any) -> T:
    """compile_it(*specs), at once when the specs are small: constants are computed by the compiler."""
    if not is_heavier(COMPILED_HERE_MAX, *specs, heavy=CONSTANT_LOOPS):
        return compile_it(*specs)
    async with db.indexing.turns:
        return await db.seams.disk.run(compile_it, *specs)

"""What decoded documents weigh, and the bound on what one query may hold of them. Pure.

Sizes are estimates of the memory that Python takes for a value: within a third or so, and quick. A stage that must hold documents ($group, $sort,
...) adds what it holds and takes off what it lets go.
"""

from __future__ import annotations

from typing import Any

from ..errors import QueryTooLarge

HELD_BYTES_MAX = 100 * 2**20


def size_of(value: Any) -> int:
    """Bytes, about."""
    kind = type(value)
    if kind is str:
        return 50 + len(value)
    if kind is dict:
        return 64 + sum([100 + size_of(child) for child in value.values()])
    if kind is list:
        return 56 + sum([8 + size_of(child) for child in value])
    if kind is bytes:
        return 33 + len(value)
    return 32


class Held:
    """What one stage holds. Invariant: bytes <= HELD_BYTES_MAX."""

    __slots__ = ("bytes", "stage")

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.bytes = 0

    def add(self, size: int) -> None:
        """Raises QueryTooLarge."""
        self.bytes += size
        if self.bytes > HELD_BYTES_MAX:
            raise QueryTooLarge(
                f"{self.stage} would hold more than {HELD_BYTES_MAX} bytes; narrow it with $match, $project or $limit before it",
                limit=HELD_BYTES_MAX,
            )

    def add_documents(self, documents: list[dict]) -> None:
        """Raises QueryTooLarge."""
        self.add(sum(map(size_of, documents)))

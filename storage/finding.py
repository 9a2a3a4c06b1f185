"""One thing that is not as it was written, told so that a person can act on it. Pure.

Findings are yielded by the checker and collected by everything that goes on in spite of damage it could repair from
the logs (INV-5, INV-7): a checkpoint passed over, an index segment rebuilt.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """What a finding costs."""

    NOTE = "note"  # nothing is lost; worth knowing
    WARNING = "warning"  # repaired from the logs, or will be; content is whole
    ERROR = "error"  # content is damaged or missing


@dataclass(frozen=True, slots=True)
class Finding:
    """`file` is relative to the disk's root; `offset` is -1 where the whole file is meant."""

    severity: Severity
    file: str
    offset: int
    what: str
    next_step: str

    def __str__(self) -> str:
        place = self.file if self.offset < 0 else f"{self.file} at offset {self.offset}"
        return f"{self.severity.value}: {place}: {self.what}; {self.next_step}"

"""`_proofs.json`: when each backup of a shelf was last held against what it should be, and what came of it. Blocking.

    {"format": 1, "proofs": {"backup_20260415_120000": {"at": RFC 3339, "level": "content", "state_hash": hex, "findings": 0, "first": ""}}}

It stands beside the backups, since nothing is added to a finished one. Losing it loses no backup: they count as never verified. Bounded
by the backups that are there: rows of others go when it is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from ..disk import Disk
from ..errors import ENOKEY, DamagedRecord

FILE = "_proofs.json"
FORMAT = 1
FIRST_CHARS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """state_hash: what the documents came to, which is what the manifest says; "" where it was not worked out, or something is wrong.
    first: the first finding."""

    at: str
    level: str
    state_hash: str
    findings: int
    first: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the backup was proven to be restorable: its documents were read and came to the manifest's state hash."""
        return self.findings == 0 and self.level == "content"


def read_proofs(disk: Disk, directory: str) -> dict[str, Proof]:
    """By backup. A file that cannot be read is one that is not there."""
    try:
        rows = json.loads(disk.read_file(f"{directory}/{FILE}"))["proofs"]
        return {
            str(name): Proof(
                at=str(row["at"]), level=str(row["level"]), state_hash=str(row["state_hash"]), findings=int(row["findings"]), first=str(row["first"])
            )
            for name, row in rows.items()
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, DamagedRecord):
        return {}
    except OSError as error:
        if error.errno == ENOKEY:
            return {}
        raise


def note_proof(disk: Disk, directory: str, name: str, proof: Proof, there: Iterable[str]) -> None:
    """Keep it, and let go of rows of backups that are not there any more."""
    proofs = {**read_proofs(disk, directory), name: proof}
    known = {*there, name}
    value = {"format": FORMAT, "proofs": {one: asdict(row) for one, row in sorted(proofs.items()) if one in known}}
    disk.replace_file(f"{directory}/{FILE}", json.dumps(value, indent=1).encode() + b"\n")

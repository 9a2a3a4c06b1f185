"""database.json: what is fixed when a database is created (UUID, shard count, record checksums). Its presence is what makes
a directory a database; a directory without it is a creation that never finished."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .disk import Disk
from .errors import BadRequest, DamagedRecord, NewerFormat

FORMAT = 1
FILE = "database.json"
SHARDS_MAX = 1_024


@dataclass(frozen=True, slots=True)
class Identity:
    """Fixed for the life of a database; the same on every node."""

    uuid: bytes
    shards: int
    crc: bool

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= SHARDS_MAX:
            raise BadRequest(f"shards: {self.shards} is not from 1 to {SHARDS_MAX}")

    def as_dict(self) -> dict[str, object]:
        return {"format": FORMAT, "uuid": self.uuid.hex(), "shards": self.shards, "crc": self.crc}

    @classmethod
    def from_dict(cls, values: dict, where: str) -> Identity:
        if values.get("format", 0) > FORMAT:
            raise NewerFormat(
                f"{where}: format {values['format']}, this Twinlog reads up to {FORMAT}; open it with a newer Twinlog"
            )
        return cls(bytes.fromhex(values["uuid"]), int(values["shards"]), bool(values["crc"]))


def read(disk: Disk, directory: str) -> Identity:
    path = f"{directory}/{FILE}"
    try:
        return Identity.from_dict(json.loads(disk.read_file(path)), path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedRecord(
            f"{path} cannot be read ({error}); put back the copy of the peer's directory or of a backup", file=path
        ) from error


def write(disk: Disk, directory: str, identity: Identity) -> None:
    disk.replace_file(f"{directory}/{FILE}", json.dumps(identity.as_dict()).encode())

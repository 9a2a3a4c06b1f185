"""The field index's manifest: which segments of which collections there are at one checkpoint. Pure.

`fields.<seq, 20 digits>.json` in the database's directory, one line of canonical JSON, replaced as a whole:

    checksum     hex BLAKE2b-256 of the same JSON without this field
    format       1
    database     the database's UUID in hex
    seq          the checkpoint it belongs to: rows after it are in the memtables
    logs         logs_digest() of that checkpoint's shard logs (shard/checkpoint.py): a seal that was cut off and done again writes others
    collections  {id: {"fields": {path: 1 values, 2 words, 3 both}, "whole": bool, "segments": [segment, ...]}}
    segment      {"number", "extras": [number, ...], "first", "last", "rows", "live": number or null, "dead": n, "table": number, may be
                 left out}, oldest first

A segment's files carry its number (files.py), but for the row table once compaction has made a newer one, which has a number of its own: `table`;
extras are the files of fields that were indexed later; `live` numbers the bitmap of
the rows that are not superseded at `seq`, null while all are live. `whole` says that the segments hold every row up to seq: until then they
are not used. INV-5: all of it can be made again from the shard logs, so a manifest that is damaged, or of another seq or database, is no error:
it counts as none, and the index is built anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import DamagedRecord

FORMAT = 1
FIELDS_MAX = 64  # of one collection (INV-8)


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One segment's files, and how many of its rows are dead at the state's seq."""

    number: int
    first: int
    last: int  # holds rows of commits first < seq <= last
    rows: int
    extras: tuple[int, ...] = ()
    live: int | None = None
    dead: int = 0
    table: int | None = None  # None: number

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of all its files."""
        return (self.number, *self.extras, *(number for number in (self.live, self.table) if number is not None))


@dataclass(frozen=True, slots=True)
class CollectionFields:
    """The index of one collection. Invariant: segments cover disjoint, ascending ranges of seqs."""

    fields: Mapping[str, int]
    segments: tuple[SegmentEntry, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class FieldState:
    """The field index of a database at the checkpoint `seq`."""

    uuid: str
    seq: int
    logs: str = ""
    collections: Mapping[int, CollectionFields] = field(default_factory=dict)  # it is pickled for the worker

    def at(self, seq: int) -> FieldState:
        return replace(self, seq=seq)

    def with_collection(self, number: int, entry: CollectionFields) -> FieldState:
        return replace(self, collections={**self.collections, number: entry})

    def numbers(self) -> set[int]:
        """Of every file it names."""
        return {number for segment in self._segments() for number in segment.numbers}

    def tables_replaced(self) -> set[int]:
        """Numbers whose row table is not needed, only the files of fields."""
        return {segment.number for segment in self._segments() if segment.table is not None}

    def _segments(self) -> Iterator[SegmentEntry]:
        for collection in self.collections.values():
            yield from collection.segments


def manifest_name(seq: int) -> str:
    """Of the state that belongs to the checkpoint at seq."""
    return f"fields.{seq:020d}.json"


def encode(state: FieldState) -> bytes:
    """The manifest's bytes."""
    fields: dict[str, Any] = {
        "format": FORMAT,
        "database": state.uuid,
        "seq": state.seq,
        "logs": state.logs,
        "collections": {
            str(number): {
                "fields": dict(entry.fields),
                "whole": entry.whole,
                "segments": [
                    {
                        "number": s.number,
                        "extras": list(s.extras),
                        "first": s.first,
                        "last": s.last,
                        "rows": s.rows,
                        "live": s.live,
                        "dead": s.dead,
                        **({} if s.table is None else {"table": s.table}),
                    }
                    for s in entry.segments
                ],
            }
            for number, entry in state.collections.items()
        },
    }
    return _canonical({**fields, "checksum": _checksum(fields)})


def parse(data: bytes) -> FieldState:
    """The state of a manifest's bytes. Raises DamagedRecord for anything else, a newer format included: it will be built anew."""
    try:
        fields = json.loads(data)
        if fields.pop("checksum") != _checksum(fields) or fields["format"] != FORMAT:
            raise DamagedRecord("the field index's manifest does not validate", file="fields.json", offset=0)
        collections = {
            int(number): CollectionFields(
                dict(entry["fields"]),
                tuple(SegmentEntry(**{**s, "extras": tuple(s["extras"])}) for s in entry["segments"]),
                entry["whole"],
            )
            for number, entry in fields["collections"].items()
        }
        return FieldState(fields["database"], fields["seq"], fields["logs"], collections)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedRecord(f"the field index's manifest is not one ({error})", file="fields.json", offset=0) from error


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.blake2b(_canonical(fields), digest_size=32).hexdigest()

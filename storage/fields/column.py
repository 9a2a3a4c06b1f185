"""Column: one field of one segment, ready to be asked. Pure; numpy arrays, in memory or mapped, never changed.

    dictionary   every distinct entry has a code 0..codes-1, in the order of values.Kind and then of values; a kind that keeps no
                 values takes one code
    code_of      row -> code, for rows with one plain entry; MANY (= codes) for the others
    postings     code -> ascending rows: posting_rows[starts[c]:starts[c + 1]]. A place is an index into posting_rows

An entry is what a path shows a filter's test (query/paths.py). A row is among `many` when it does not have exactly one entry, or
when the path led through an array: then its value as a whole is no entry, whatever the number of entries. Such a row
stands once under each of its distinct entries. Equal numbers are one entry whatever their type.

What can be left out is: code_of is None when code == row (values unique and ascending, such as times); starts is None with
it; posting_rows is None when is_ascending, since row i then stands at place i.

Costs: 4 bytes an entry for postings, 1, 2 or 4 a row for code_of, the values once each. Knows no file, no document, no
deletion: which rows are live is the reader's business.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from bson import MaxKey, MinKey, ObjectId

from ..query.paths import MISSING
from ..values.extensions import milliseconds, moment
from .values import KINDS, SINGLE, TYPED, Kind, kind_of, number_between
from .zones import Zones, zones_of

OBJECT_ID_BYTES = 12
UUID_BYTES = 16
_VALUE_OF_SINGLE = {
    Kind.MIN_KEY: MinKey(),
    Kind.MISSING: MISSING,
    Kind.NULL: None,
    Kind.NAN: float("nan"),
    Kind.MAX_KEY: MaxKey(),
}


_KIND_OF = tuple(Kind)


SPARSE = 4  # strings are copied with what lies between them up to so many times their bytes


class Strings:
    """Byte strings, ascending and distinct: string i is blob[offsets[i]:offsets[i + 1]]."""

    __slots__ = ("blob", "offsets")

    def __init__(self, offsets: np.ndarray, blob: bytes | memoryview) -> None:
        """offsets: u32 or u64, one more than there are strings."""
        self.offsets = offsets
        self.blob = memoryview(blob)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def bytes_at(self, i: int) -> bytes:
        return bytes(self.blob[int(self.offsets[i]) : int(self.offsets[i + 1])])

    def get(self, i: int) -> str:
        return str(self.blob[int(self.offsets[i]) : int(self.offsets[i + 1])], "utf-8")

    def bytes_of(self, at: np.ndarray) -> list[bytes]:
        """Those strings, each bytes_at; of many at once."""
        blob, begins, ends = self._around(at)
        return [blob[begin:end] for begin, end in zip(begins, ends)]

    def texts_of(self, at: np.ndarray) -> list[str]:
        """Those strings, each get; of many at once."""
        blob, begins, ends = self._around(at)
        if not blob.isascii():
            return [blob[begin:end].decode("utf-8") for begin, end in zip(begins, ends)]
        text = blob.decode("ascii")
        return [text[begin:end] for begin, end in zip(begins, ends)]

    def _around(self, at: np.ndarray) -> tuple[bytes, list[int], list[int]]:
        """(bytes in which they lie, where each begins and ends there): as they stand when they fill most of it, else put together."""
        if not len(at):
            return b"", [], []
        begins, ends = self.offsets[at].astype(np.int64), self.offsets[at.astype(np.int64) + 1].astype(np.int64)
        low, high, wanted = int(begins.min()), int(ends.max()), int((ends - begins).sum())
        if high - low <= SPARSE * wanted:
            return bytes(self.blob[low:high]), (begins - low).tolist(), (ends - low).tolist()
        joined = b"".join([self.blob[begin:end] for begin, end in zip(begins.tolist(), ends.tolist())])
        sizes = np.cumsum(ends - begins)
        return joined, (sizes - (ends - begins)).tolist(), sizes.tolist()

    def find(self, wanted: bytes) -> tuple[int, bool]:
        """(index of the first string that is not less, whether it is equal)."""
        at = bisect_left(range(len(self)), wanted, key=self.bytes_at)
        return at, at < len(self) and self.bytes_at(at) == wanted

    def with_prefix(self, prefix: bytes) -> tuple[int, int]:
        """The strings that begin with prefix: indexes lo..hi-1."""
        lo, _ = self.find(prefix)
        size = len(prefix)
        hi = bisect_left(range(len(self)), True, lo, key=lambda i: self.bytes_at(i)[:size] > prefix)
        return lo, hi


NO_STRINGS = Strings(np.zeros(1, np.uint32), b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionary:
    """The distinct entries of a column, by code."""

    kind_at: np.ndarray  # u32, KINDS + 1: codes kind_at[k]..kind_at[k + 1] - 1 are of kind k
    numbers: np.ndarray  # f64: d of values.py
    remainders: np.ndarray | None  # u16: r; None when all are 0
    doubles: np.ndarray | None  # bool: the first row with that number had it as a double; None when none had
    varied: np.ndarray | None  # bool: rows differ in how they write it (1 and 1.0), or one wrote -0.0; None when none
    strings: Strings
    object_ids: np.ndarray  # S12
    uuids: np.ndarray  # S16
    dates: np.ndarray  # i64
    bools: np.ndarray  # u8

    @property
    def codes(self) -> int:
        return int(self.kind_at[KINDS])


class Column:
    """The values of one field in one segment."""

    __slots__ = (
        "bools", "code_of", "codes", "dates", "dictionary", "doubles", "entries", "is_ascending", "kind_at", "kinds_at",
        "many", "names", "numbers", "object_ids", "posting_rows", "remainders", "rows", "starts", "strings", "uuids", "varied", "_zones",
    )  # fmt: skip

    def __init__(
        self,
        rows: int,
        dictionary: Dictionary,
        code_of: np.ndarray | None,
        many: np.ndarray,
        starts: np.ndarray | None,
        posting_rows: np.ndarray | None,
        *,
        is_ascending: bool,
    ) -> None:
        self.rows = rows
        self.dictionary = dictionary
        self.codes = dictionary.codes
        self.kind_at = dictionary.kind_at
        self.kinds_at = dictionary.kind_at.tolist()  # the same as plain ints: kind questions are asked for every part of a query
        self.numbers = dictionary.numbers
        self.remainders = dictionary.remainders
        self.doubles = dictionary.doubles
        self.varied = dictionary.varied
        self.strings = dictionary.strings
        self.object_ids = dictionary.object_ids
        self.uuids = dictionary.uuids
        self.dates = dictionary.dates
        self.bools = dictionary.bools
        self.code_of = code_of
        self.many = many
        self.starts = starts
        self.posting_rows = posting_rows
        self.is_ascending = is_ascending
        self.entries = rows if posting_rows is None else len(posting_rows)
        self.names: dict[str, np.ndarray] = {}  # what groupings call its codes: storage/plan/identities.py
        self._zones: list[Zones | None] = []

    @property
    def is_hollow(self) -> bool:
        """Whether it keeps no strings although there are some: all have one code, as a kind that is not TYPED."""
        lo, hi = self.kind_range(Kind.STRING)
        return hi > lo and not len(self.strings)

    # Rows and codes.

    @property
    def zones(self) -> Zones | None:
        """Where codes lie, if they lie together; made when it is first asked for."""
        if not self._zones:
            self._zones.append(zones_of(self))
        return self._zones[0]

    def codes_of(self, rows: np.ndarray) -> np.ndarray:
        """The code of each of these rows; `codes` for one of `many`."""
        return rows if self.code_of is None else self.code_of[rows]

    def place_of(self, code: int) -> int:
        """Where the rows of a code begin in the postings; for code == codes where all end."""
        return code if self.starts is None else int(self.starts[code])

    def posting_count(self, lo: int, hi: int) -> int:
        """How many rows postings(lo, hi) gives."""
        return self.place_of(hi) - self.place_of(lo) if hi > lo else 0

    def postings(self, lo: int, hi: int) -> np.ndarray:
        """Rows with an entry among codes lo..hi-1, by code and then row. Ascending and distinct when hi - lo <= 1 or
        is_ascending; else a row of `many` may come several times."""
        return self.ordered(self.place_of(lo), self.place_of(max(lo, hi)))

    def ordered(self, lo_place: int, hi_place: int) -> np.ndarray:
        """Rows at these places of the postings, which stand in the order of values."""
        if self.posting_rows is None:
            return np.arange(lo_place, hi_place, dtype=np.uint32)
        return self.posting_rows[lo_place:hi_place]

    # Codes and values.

    def kind_range(self, kind: Kind) -> tuple[int, int]:
        """Codes lo..hi-1 of a kind."""
        return self.kinds_at[kind], self.kinds_at[kind + 1]

    def kind_of_code(self, code: int) -> Kind:
        """The kind of a code that is there."""
        return _KIND_OF[bisect_right(self.kinds_at, code) - 1]  # kinds that do not occur begin where the next one does

    def value(self, code: int) -> object:
        """The value as decoded documents hold it; MISSING for none. A number comes in the type that its first row had: see
        `varied`. Raises TypeError for a kind that keeps no values."""
        kind = self.kind_of_code(code)
        if kind in SINGLE:
            return _VALUE_OF_SINGLE[kind]
        at = code - self.kinds_at[kind]
        if kind is Kind.NUMBER:
            return self._number(at)
        if kind is Kind.STRING:
            return self.strings.get(at)
        if kind is Kind.DATE:
            return moment(int(self.dates[at]))
        if kind is Kind.BOOL:
            return bool(self.bools[at])
        if kind is Kind.OBJECT_ID:  # numpy cuts zeros off the end of what it hands out
            return ObjectId(self.object_ids[at].ljust(OBJECT_ID_BYTES, b"\0"))
        if kind is Kind.UUID:
            return uuid.UUID(bytes=self.uuids[at].ljust(UUID_BYTES, b"\0"))
        raise TypeError(f"the index keeps no values of kind {kind.name}: read the document")

    def _number(self, at: int) -> int | float:
        number = float(self.numbers[at])
        if self.doubles is not None and self.doubles[at]:
            return number
        return int(number) + (0 if self.remainders is None else int(self.remainders[at]))

    def bounds(self, value: object) -> tuple[int, int]:
        """Codes lo..hi-1 equal to a value; hi == lo when it is absent, and lo is then where it would stand. A Decimal128 is
        looked for among the other numbers. Raises TypeError for the other kinds that keep no values."""
        kind = kind_of(value)
        if kind is Kind.DECIMAL:
            kind = Kind.NUMBER
        start, end = self.kind_range(kind)
        if kind in SINGLE:
            return start, end
        if kind is Kind.NUMBER:
            lo, hi = self._number_bounds(value)
        elif kind is Kind.STRING:
            lo, is_there = self.strings.find(value.encode("utf-8", "surrogatepass"))
            hi = lo + is_there
        elif kind in TYPED:
            lo, hi = self._fixed_bounds(kind, value)
        else:
            raise TypeError(f"the index keeps no values of kind {kind.name}")
        return start + lo, start + hi

    def _number_bounds(self, value: object) -> tuple[int, int]:
        d, low, high = number_between(value)
        lo, hi = int(self.numbers.searchsorted(d, "left")), int(self.numbers.searchsorted(d, "right"))
        if self.remainders is None:
            return (lo if low <= 0 else hi), (hi if high >= 0 else lo)
        same = self.remainders[lo:hi]
        first = lo + bisect_left(same, low)
        return first, lo + bisect_left(same, high + 1) if high >= low else first

    def _fixed_bounds(self, kind: Kind, value: object) -> tuple[int, int]:
        if kind is Kind.DATE:
            values, wanted = self.dates, np.int64(milliseconds(value))
        elif kind is Kind.BOOL:
            values, wanted = self.bools, np.uint8(value)
        elif kind is Kind.OBJECT_ID:
            values, wanted = self.object_ids, np.bytes_(value.binary)
        else:
            values, wanted = self.uuids, np.bytes_(value.bytes)
        return int(values.searchsorted(wanted, "left")), int(values.searchsorted(wanted, "right"))

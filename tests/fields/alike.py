"""Whether two columns, tables or texts are the same to the last array."""

from __future__ import annotations

import numpy as np

from storage.fields.column import Column, Strings
from storage.fields.rows import RowTable

ARRAYS = ("kind_at", "numbers", "remainders", "object_ids", "uuids", "dates", "bools", "code_of", "many", "starts", "posting_rows")
FORMS = ("doubles", "varied")


def same_array(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def same_strings(a: Strings, b: Strings) -> bool:
    return same_array(a.offsets, b.offsets) and bytes(a.blob) == bytes(b.blob)


def differences(a: Column, b: Column, arrays: tuple[str, ...] = ARRAYS + FORMS) -> list[str]:
    found = [name for name in arrays if not same_array(getattr(a, name), getattr(b, name))]
    found += [name for name in ("rows", "codes", "is_ascending", "entries") if getattr(a, name) != getattr(b, name)]
    return found if same_strings(a.strings, b.strings) else [*found, "strings"]


def same_table(a: RowTable, b: RowTable) -> bool:
    return a.seq_first == b.seq_first and all(map(same_array, a.columns, b.columns))

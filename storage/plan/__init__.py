"""Plans: from a parsed filter and a sort to the documents that match, over the field index where there is one. Pure.

    parts (immutable stretches of rows, oldest first) + loose rows (newest) ──> find, count, distinct, group, explain

A part has columns for some fields and none for others. `rowsets` are exact sets of a part's rows, `conditions` says which codes of
a column pass a test, `clauses` makes of a filter two row sets for each part: rows that may match and rows that must. What may but
need not is fetched and asked itself, so an index never changes an answer. `walking` goes through a row set in row order,
`ordering` in the order of a sort, `finding` turns rows into documents; `counting`, `choosing` (distinct) and `grouping` need few
documents or none; `explaining` says what would be done.

Every function here is a generator of bounded steps (INV-9): the caller runs each step where a few milliseconds do no harm.
"""

from __future__ import annotations

from .choosing import distinct
from .counting import count
from .explaining import explain, wanted_fields
from .finding import find, natural_direction
from .grouping import can_group, group
from .groupspec import GroupSpec
from .parts import SORT_BYTES_MAX, Counters, Dead, Found, Loose, Part, Scale

__all__ = [
    "SORT_BYTES_MAX",
    "Counters",
    "Dead",
    "Found",
    "GroupSpec",
    "Loose",
    "Part",
    "Scale",
    "can_group",
    "count",
    "distinct",
    "explain",
    "find",
    "group",
    "natural_direction",
    "wanted_fields",
]

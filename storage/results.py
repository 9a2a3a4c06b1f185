"""What the writing verbs answer, and how an answer is remembered for a client that retries. Pure.

A remembered answer is MessagePack in the commit itself (op REQUEST), small:

    [[seq, inserted, matched, modified, deleted], upserted, errors]            and of find_one_and, behind them:
    document | nil: there was none | false: too large to be remembered

Ids are not in it, since the client that retries has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgpack

from .errors import AnswerForgotten, TwinlogError, from_wire

REMEMBERED_BYTES_MAX = 4_000
REMEMBERED_ERRORS_MAX = 16
REMEMBERED_DOCUMENT_BYTES_MAX = 3_000


class _NotAsked:
    """Stands for the document of a verb that answers none."""


class _Forgotten:
    """Stands for a document that was too large to be remembered."""


NOT_ASKED: Final = _NotAsked()
_FORGOTTEN: Final = _Forgotten()


@dataclass(frozen=True, slots=True)
class WriteError:
    """One write of a batch that was refused; index counts from 0 within the batch."""

    index: int
    error: TwinlogError

    def as_list(self) -> list:
        return [self.index, self.error.name, self.error.message, self.error.fields]

    @classmethod
    def from_list(cls, row: list) -> WriteError:
        return cls(row[0], from_wire(row[1], row[2], row[3]))


@dataclass(slots=True)
class WriteResult:
    """What a write did. seq: the last commit it made (0: none); the caller waits until that is acknowledged."""

    seq: int = 0
    inserted: int = 0
    matched: int = 0
    modified: int = 0
    deleted: int = 0
    ids: list[bytes] = field(default_factory=list)  # encoded `_id` values of inserts, in order
    upserted: dict[int, bytes] = field(default_factory=dict)  # write index -> encoded `_id`
    errors: list[WriteError] = field(default_factory=list)
    replayed: bool = False
    document: bytes | None | _NotAsked | _Forgotten = field(default=NOT_ASKED, repr=False)  # of find_one_and: before or after the change

    @property
    def n(self) -> int:
        return self.inserted or self.deleted

    @property
    def upserted_id(self) -> bytes | None:
        return self.upserted.get(0)

    def remembered(self) -> bytes:
        """At most REMEMBERED_BYTES_MAX: of many errors, only the first ones are kept."""
        counts = [self.seq, self.inserted, self.matched, self.modified, self.deleted]
        rows = [error.as_list() for error in self.errors[:REMEMBERED_ERRORS_MAX]]
        document: list[object] = []
        if self.document is None or isinstance(self.document, bytes):
            fits = self.document is None or len(self.document) <= REMEMBERED_DOCUMENT_BYTES_MAX
            document = [self.document if fits else False]
        while len(data := msgpack.packb([counts, self.upserted, rows, *document])) > REMEMBERED_BYTES_MAX and rows:
            del rows[len(rows) // 2 :]
        return data

    @classmethod
    def recall(cls, kept: bytes) -> WriteResult:
        """kept: what remembered() gave; empty when a checkpoint had no room for it: applied, details forgotten."""
        if not kept:
            return cls(replayed=True, document=_FORGOTTEN)
        counts, upserted, errors, *document = msgpack.unpackb(kept, strict_map_key=False)
        rows = [WriteError.from_list(row) for row in errors]
        result = cls(*counts, upserted=upserted, errors=rows, replayed=True)
        if document:
            result.document = _FORGOTTEN if document[0] is False else document[0]
        return result

    def answered_document(self) -> bytes | None:
        """The document that find_one_and answers. Raises AnswerForgotten when a retry comes too late for it."""
        if isinstance(self.document, (_NotAsked, _Forgotten)):
            raise AnswerForgotten(
                "the write was applied when this request came before, but its document was not remembered (it was over "
                f"{REMEMBERED_DOCUMENT_BYTES_MAX} bytes, or long ago); read the document instead of sending the request again",
                seq=self.seq,
            )
        return self.document

    def add(self, other: WriteResult, index: int) -> None:
        """Fold in the result of a part whose first write has that index in the whole."""
        self.seq = max(self.seq, other.seq)
        self.replayed = self.replayed or other.replayed
        self.inserted += other.inserted
        self.matched += other.matched
        self.modified += other.modified
        self.deleted += other.deleted
        self.ids += other.ids
        self.upserted.update({index + i: value for i, value in other.upserted.items()})
        self.errors += [WriteError(index + row.index, row.error) for row in other.errors]

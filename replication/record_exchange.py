"""Asking a peer for a record that is damaged here, and answering: both ends of one link. No link, no engine, no clock. Pure.

    asking end                              answering end
       │ ─── RecordWanted(ticket) ───────────► │   at most ASKED_MAX that are not answered
       │ ◄── RecordFound(ticket, held, ...) ── │   one each, in any order; late ones mean nothing any more

Either end may ask, whoever leads. An answer is a proposal: whether it is what was written is decided by the hash of the asker's file
(storage/repairing.py). Invariant: an answer is taken at most once, and only for a ticket that is open and of the same database.
"""

from __future__ import annotations

from storage import PeerError, ShardRecord, WantedRecord

from .messages import RecordFound, RecordWanted

ASKED_MAX = 8  # questions of one peer that wait for an answer (INV-8)
_PUT, _DELETE = 1, 2  # of a record's op


class RecordExchange:
    """One link's questions, in both directions."""

    def __init__(self) -> None:
        self._next_ticket = 1
        self._asked: dict[int, tuple[bytes, WantedRecord] | None] = {}  # None: given up, and not answered yet
        self._unanswered: set[int] = set()  # the peer's

    def ask(self, uuid: bytes, wanted: WantedRecord) -> RecordWanted | None:
        """The question to send; None when too many are open already."""
        if len(self._asked) >= ASKED_MAX:
            return None
        ticket = self._next_ticket
        self._next_ticket += 1
        self._asked[ticket] = (uuid, wanted)
        return RecordWanted(
            uuid, ticket, wanted.collection, wanted.hash, wanted.length, wanted.is_deletion, wanted.seq_max, wanted.seq, wanted.row
        )

    def give_up(self, ticket: int) -> None:
        """Nobody waits for that answer any more. It still counts until it comes: a peer that is slow is not asked on and on."""
        if ticket in self._asked:
            self._asked[ticket] = None

    def receive_question(self, message: RecordWanted) -> WantedRecord:
        """What the peer wants. Raises PeerError when it asks too much at once, or twice by one ticket."""
        if len(self._unanswered) >= ASKED_MAX or message.ticket in self._unanswered:
            raise PeerError(f"record {message.ticket} is asked for while {len(self._unanswered)} wait, limit {ASKED_MAX}")
        self._unanswered.add(message.ticket)
        return WantedRecord(
            message.collection, message.key_hash, message.length, message.is_deletion, message.seq_max, message.seq, message.row
        )

    def answer(self, message: RecordWanted, found: ShardRecord | None) -> RecordFound:
        """The answer to a question that was received."""
        self._unanswered.remove(message.ticket)
        if found is None:
            return RecordFound(message.uuid, message.ticket, held=False)
        return RecordFound(message.uuid, message.ticket, True, found.id, found.doc, found.seq, found.row, found.time_us)

    def receive_answer(self, message: RecordFound) -> tuple[int, ShardRecord | None] | None:
        """(ticket, the record or None), or None when nobody waits for it. Raises PeerError for an answer that was never asked for."""
        if not 0 < message.ticket < self._next_ticket:
            raise PeerError(f"record {message.ticket} was sent, but never asked for")
        question = self._asked.pop(message.ticket, None)
        if question is None:
            return None
        uuid, wanted = question
        if uuid != message.uuid:
            raise PeerError(f"record {message.ticket} was sent of database {message.uuid.hex()}, asked for was {uuid.hex()}")
        if not message.held:
            return message.ticket, None
        op = _DELETE if wanted.is_deletion else _PUT
        return message.ticket, ShardRecord(
            op, wanted.collection, message.seq, message.row, message.time_us, message.key, message.doc
        )

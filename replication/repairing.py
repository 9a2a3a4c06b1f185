"""Records that a peer needs and records that peers may have: the questions of record_exchange.py, carried; and alarms about damage.

A database's scrub asks `sources`; each peer that is connected, whichever of the two dialled or leads, is one. Questions of peers are answered by
one task, one after the other. Damage that could not be repaired is an alarm until it is.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import trio

from storage import Database, PeerError, RecordSource, ShardRecord, TwinlogError, WantedRecord, find_record

from .alarms import AlarmKind
from .conversation import Conversation
from .messages import RecordFound, RecordWanted
from .peers import Peer
from .record_exchange import ASKED_MAX, RecordExchange

if TYPE_CHECKING:
    from .replica import Replica

log = logging.getLogger("twinlog.replication")

ANSWER_S = 15.0  # how long a peer may take over one record
QUESTIONS_MAX = 16 * ASKED_MAX  # waiting over all links
NAMED_MAX = 4  # findings in an alarm's text


class Repairs:
    """Of one node. Questions are answered while `run` runs."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._exchanges: WeakKeyDictionary[Conversation, RecordExchange] = WeakKeyDictionary()
        self._waiting: dict[tuple[int, int], tuple[trio.Event, list[ShardRecord | None]]] = {}
        self._send, self._questions = trio.open_memory_channel[tuple[Conversation, RecordWanted, WantedRecord]](QUESTIONS_MAX)

    async def run(self) -> None:
        """Answer what peers ask, until cancelled."""
        async for conversation, message, wanted in self._questions:
            found = None
            database = self._replica.database(message.uuid)
            if database is not None:
                try:
                    found = await find_record(database, wanted)
                except (TwinlogError, OSError) as error:  # this copy has its own trouble: told by its own scrub
                    log.warning("%s: a record that %s asked for was not found: %s", database.name, conversation.peer, error)
            try:
                conversation.post(self._exchange(conversation).answer(message, found))
            except PeerError:
                conversation.cancel()

    def take(self, peer: Peer, message: RecordWanted | RecordFound) -> None:
        """A question or an answer came. Raises PeerError."""
        conversation = peer.conversation
        if not isinstance(conversation, Conversation):
            return
        exchange = self._exchange(conversation)
        if isinstance(message, RecordWanted):
            wanted = exchange.receive_question(message)
            try:
                self._send.send_nowait((conversation, message, wanted))
            except trio.WouldBlock:
                conversation.post(exchange.answer(message, None))
            return
        answer = exchange.receive_answer(message)
        if answer is not None:
            waiting = self._waiting.get((id(exchange), answer[0]))
            if waiting is not None:
                waiting[1].append(answer[1])
                waiting[0].set()

    def _exchange(self, conversation: Conversation) -> RecordExchange:
        return self._exchanges.setdefault(conversation, RecordExchange())

    # For the databases of this node.

    def tend(self, database: Database) -> None:
        """A database is open: its scrub may ask peers, and tells what it could not repair."""
        uuid = database.uuid
        self._replica.alarms.clear(AlarmKind.DAMAGED, database=database.name)  # of the files that were open before
        database.scrubbing.peers = partial(self._sources, uuid)
        database.scrubbing.on_change = partial(self._tell, uuid)

    def peer_came(self) -> None:
        """There is somebody new to ask."""
        for database in self._replica.engine.databases.values():
            database.scrubbing.try_again()

    def _sources(self, uuid: bytes) -> list[tuple[str, RecordSource]]:
        connected = [peer for peer in self._replica.peers.values() if peer.conversation is not None]
        return [(peer.name, partial(self._ask, peer, uuid)) for peer in connected]

    async def _ask(self, peer: Peer, uuid: bytes, wanted: WantedRecord) -> ShardRecord | None:
        conversation = peer.conversation
        if not isinstance(conversation, Conversation) or not conversation.running:
            return None
        exchange = self._exchange(conversation)
        question = exchange.ask(uuid, wanted)
        if question is None:
            return None
        place = (id(exchange), question.ticket)
        event, box = self._waiting[place] = (trio.Event(), [])
        try:
            conversation.post(question)
            with trio.move_on_after(ANSWER_S):
                await event.wait()
        except PeerError:
            return None  # it takes no messages: its link is about to end
        finally:
            del self._waiting[place]
            exchange.give_up(question.ticket)
        return box[0] if box else None

    def _tell(self, uuid: bytes) -> None:
        database = self._replica.database(uuid)
        if database is None:
            return
        damaged = database.scrubbing.report.damaged
        if not damaged:
            self._replica.alarms.clear(AlarmKind.DAMAGED, database=database.name)
            return
        named = "; ".join(f"{finding.file} at offset {finding.offset}: {finding.what}" for finding in damaged[:NAMED_MAX])
        more = f" and {len(damaged) - NAMED_MAX} more" if len(damaged) > NAMED_MAX else ""
        self._replica.alarm(AlarmKind.DAMAGED, f"{named}{more}; {damaged[0].next_step}", database=database.name)

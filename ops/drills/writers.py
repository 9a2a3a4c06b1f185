"""Writers that never stop, a reader, and the book they keep: each write numbered, each call's end noted.

A write is `update_one({_id: its name}, {$inc: {times: 1}}, upsert)`, so a document says how often its write was applied. Every writer has a client
of its own, which finds the primary by itself; a write whose outcome is not known is not repeated, the next number follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import trio

import twinlog
from twinlog import errors

from .records import PLANTED, Outcome, Read, Sight, Write, write_name

DATABASE, COLLECTION = "drill", "writes"
WRITES_MAX = 1_000_000  # in one drill; at 200 a second that is more than an hour
READS_MAX = 1_000_000
READ_PACE_S = 0.05
AGAIN_S = 0.05  # before a client is made anew that could not connect


@dataclass(frozen=True, slots=True)
class Load:
    """How the drill's clients behave. Options of the client, and what they say of how long a client waits."""

    writers: int = 4
    pace_s: float = 0.02  # between two writes of one writer
    timeout_s: float = 2.0
    connect_timeout_s: float = 1.0
    retry_s: float = 1.0

    def options(self) -> dict[str, float]:
        return {"pool": 1, "timeout_s": self.timeout_s, "connect_timeout_s": self.connect_timeout_s, "retry_s": self.retry_s}


class Book:
    """What the writers and the reader did. Bound: WRITES_MAX; at it `full` is set and nobody writes any more."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.reads: list[Read] = []
        self.full = False
        self.acknowledged = 0
        self.newest_acknowledged: Write | None = None

    def note(self, write: Write) -> None:
        self.writes.append(write)
        self.full = len(self.writes) >= WRITES_MAX
        if write.outcome is Outcome.ACKNOWLEDGED:
            self.acknowledged += 1
            self.newest_acknowledged = write

    def ended_since(self, at: float) -> Iterator[Write]:
        """Those whose call ended at or after this time, newest first."""
        for write in reversed(self.writes):
            if write.ended < at:
                return
            yield write


def outcome_of(error: errors.TwinlogError) -> Outcome:
    """What a failed call says of its write. Only a node's own word that it did nothing is a refusal.

    NotPrimary and the like are not: the call may have lost a connection with the write under way before it met that refusal.
    """
    if isinstance(error, errors.WTimeoutError):
        return Outcome.UNCONFIRMED
    if isinstance(error, errors.OperationFailure) and not isinstance(error, errors.ExecutionTimeout):
        return Outcome.REFUSED
    return Outcome.UNKNOWN


def name_of(error: errors.TwinlogError) -> str:
    """The node's own name of a refusal, else the client's class."""
    return str(error.details.get("name") or type(error).__name__)


async def write_steadily(url: str, load: Load, writer: int, book: Book, stop: trio.Event) -> None:
    """One writer, until stop is set. What is under way then is finished and noted."""
    client = await _client(url, load, stop)
    number = 0
    while client is not None and not stop.is_set() and not book.full:
        await note_write(client, writer, number, book)
        number += 1
        with trio.move_on_after(load.pace_s):
            await stop.wait()
    if client is not None:
        await client.close()


async def note_write(client: twinlog.AsyncClient, writer: int, number: int, book: Book) -> None:
    """However the call ends, also by being cancelled, it is noted: a document that is in no book would be a stranger's."""
    sent = trio.current_time()
    name = write_name(writer, number)
    outcome, why, position = Outcome.UNKNOWN, "Cancelled", None
    try:
        result = await client[DATABASE][COLLECTION].update_one(
            {"_id": name}, {"$inc": {"times": 1}, "$set": {"writer": writer, "number": number}}, upsert=True
        )
        outcome, why, position = Outcome.ACKNOWLEDGED, "", (result.position[0], result.position[1])
    except errors.TwinlogError as error:
        outcome, why = outcome_of(error), name_of(error)
    finally:
        book.note(Write(writer, number, sent, trio.current_time(), outcome, why, position))


async def read_steadily(url: str, load: Load, book: Book, stop: trio.Event) -> None:
    """Asks the primary for the newest acknowledged write, again and again."""
    client = await _client(url, load, stop)
    while client is not None and not stop.is_set() and len(book.reads) < READS_MAX:
        if book.newest_acknowledged is not None:
            began = trio.current_time()
            sight = await look_for(client, book.newest_acknowledged)
            book.reads.append(Read(began, trio.current_time(), sight))
        with trio.move_on_after(READ_PACE_S):
            await stop.wait()
    if client is not None:
        await client.close()


async def look_for(client: twinlog.AsyncClient, write: Write) -> Sight:
    """Read an acknowledged write; when it is not there, once more from a state that must have it."""
    try:
        if await client[DATABASE][COLLECTION].find_one({"_id": write.name}) is not None:
            return Sight.FOUND
        knowing = client.read_from("primary", min_position=write.position)
        return Sight.MISSING if await knowing[DATABASE][COLLECTION].find_one({"_id": write.name}) is None else Sight.STALE
    except errors.TwinlogError:
        return Sight.FAILED


async def plant_loss(url: str, load: Load) -> None:
    """A write that is acknowledged, seen, and deleted: the verdict must miss it. Raises what the client raises."""
    async with await twinlog.connect_async(url, **load.options()) as client:
        collection = client[DATABASE][COLLECTION]
        await collection.update_one({"_id": PLANTED}, {"$inc": {"times": 1}}, upsert=True)
        if await collection.find_one({"_id": PLANTED}) is None:
            raise errors.OperationFailure("an acknowledged write cannot be read back before anything was broken")
        await collection.delete_one({"_id": PLANTED})


async def _client(url: str, load: Load, stop: trio.Event) -> twinlog.AsyncClient | None:
    """Connected, however long that takes; None when the drill stops before."""
    while not stop.is_set():
        try:
            return await twinlog.connect_async(url, **load.options())
        except errors.ConnectionFailure:
            with trio.move_on_after(AGAIN_S):
                await stop.wait()
    return None


def latest_stop(book: Book, since: float) -> bool:
    """Whether a write that began after this time failed and none was acknowledged from its beginning on."""
    began = math.inf
    acknowledged_at = -math.inf
    for write in book.ended_since(since):
        if write.outcome is Outcome.ACKNOWLEDGED:
            acknowledged_at = max(acknowledged_at, write.ended)
        elif write.sent >= since:
            began = write.sent if began == math.inf else max(began, write.sent)
    return began != math.inf and acknowledged_at < began

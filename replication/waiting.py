"""Who waits for which commit to be acknowledged: the queues of all databases, and the one task that watches deadlines.

INV-1: a callback gets None only when the commit is durable here and on `acks` standbys (or, in DEGRADE after a timeout,
here alone, with an alarm until the standbys have caught up). Commits themselves are never undone by a timeout.
"""

from __future__ import annotations

import math

import trio

from storage import AckTimeout, Database, DiskFailed, NoSuchDatabase, Overloaded, TwinlogError

from .acknowledge import AckQueue, Callback, acknowledged_seq
from .alarms import AlarmKind
from .replica import Replica, log
from .roles import Role, RoleState

STOOD_STILL_S = 0.5  # so late a wake-up is no busy moment but a process that was frozen


class Acknowledger:
    """Invariant: every callback is called exactly once, from the loop, and must not raise or wait."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._queues: dict[bytes, AckQueue] = {}
        self._bell = trio.Event()

    def when_acknowledged(self, database: Database, seq: int, callback: Callback) -> None:
        """Tell callback(None) once seq is acknowledged, or callback(error); at once, in place, when that is known now.

        Raises nothing: the commit is made, so all that can be said of it is said to the callback.
        """
        config = self._replica.config
        error = self._replica.why_closed(database)
        if error is not None:
            callback(self._unknown(database.name, seq, str(error)))
            return
        queue = self._queues.get(database.uuid)
        if queue is None:
            queue = AckQueue(database.name, limit=config.ack_queue_max, on_timeout=config.on_ack_timeout)
            self._queues[database.uuid] = queue
        if seq <= database.visible.seq:  # else the change that makes it durable here will look anew
            self._advance(queue, database)
            if queue.settled(seq, database.visible.seq):
                callback(None)
                return
        deadline = trio.current_time() + config.ack_timeout_s if config.acks > 0 else math.inf
        was_idle = queue.next_deadline() is None
        try:
            queue.add(seq, deadline, callback)
        except Overloaded as full:
            callback(self._unknown(database.name, seq, str(full)))
            return
        if was_idle:
            self._bell.set()

    def check_room(self, database: Database) -> None:
        """Before a write: raises Overloaded when too many wait for their acknowledgement already (INV-8)."""
        queue = self._queues.get(database.uuid)
        if queue is not None:
            queue.check_room()

    async def acknowledged(self, database: Database, seq: int) -> None:
        """Return once seq is acknowledged; raises AckTimeout or what else became of it."""
        done = trio.Event()
        outcome: list[TwinlogError | None] = []

        def told(error: TwinlogError | None) -> None:
            outcome.append(error)
            done.set()

        self.when_acknowledged(database, seq, told)
        await done.wait()
        if outcome[0] is not None:
            raise outcome[0]

    def advance(self, uuid: bytes) -> None:
        """This node's or a standby's durable end moved."""
        queue = self._queues.get(uuid)
        database = self._replica.database(uuid)
        if queue is None or database is None:
            return
        self._advance(queue, database)
        failure = database.visible_advance.error
        if failure is not None:
            error = failure if isinstance(failure, TwinlogError) else DiskFailed(f"{database.name}: {failure}")
            for callback, _ in queue.fail_all(lambda _seq: error):
                callback(error)

    def _advance(self, queue: AckQueue, database: Database) -> None:
        replica = self._replica
        durables = [peer.durable(database.uuid) for peer in replica.counting]
        own = database.visible.seq
        was_degraded = queue.degraded
        for callback in queue.advance(acknowledged_seq(own, durables, replica.config.acks), own):
            callback(None)
        if was_degraded and not queue.degraded:
            replica.alarms.clear(AlarmKind.DEGRADED, database=database.name)

    def role_changed(self, old: RoleState, new: RoleState) -> None:
        """A primary that steps down does not know what became of its last commits: the new primary may lack them."""
        if old.role is not Role.PRIMARY:
            return
        for uuid in list(self._queues):
            self._fail(uuid, f"this node is no longer primary ({new.why})")

    def dropped(self, uuid: bytes) -> None:
        queue = self._queues.pop(uuid, None)
        if queue is not None:
            error = NoSuchDatabase("the database was dropped while the write waited for its acknowledgement")
            for callback, _ in queue.fail_all(lambda _seq: error):
                callback(error)

    def _fail(self, uuid: bytes, reason: str) -> None:
        queue = self._queues.pop(uuid)
        database = self._replica.database(uuid)
        name = database.name if database else uuid.hex()
        for callback, error in queue.fail_all(lambda seq: self._unknown(name, seq, reason)):
            callback(error)

    def _unknown(self, name: str, seq: int, reason: str) -> AckTimeout:
        return AckTimeout(
            f"commit {seq} of database {name!r} was written here but not confirmed: {reason}; read it back from the "
            "primary before writing it again",
            epoch=self._replica.state.epoch,
            seq=seq,
        )

    async def run(self) -> None:
        """Watch the deadlines of all queues."""
        while True:
            self._bell = trio.Event()
            with trio.move_on_at(self._next_deadline()):
                await self._bell.wait()
            now = trio.current_time()
            late_s = now - self._next_deadline()
            if late_s > STOOD_STILL_S:
                self._stood_still(now, late_s)
            self._expire(now)

    def _next_deadline(self) -> float:
        return min((at for queue in self._queues.values() if (at := queue.next_deadline()) is not None), default=math.inf)

    def _stood_still(self, now: float, late_s: float) -> None:
        """This process was frozen, or starved: what its standbys said meanwhile is not read yet, and they may follow another by now. Held against
        them, it would degrade at once and acknowledge alone what nobody keeps."""
        log.warning("%s stood still for %.1f s: waits for acknowledgements begin anew", self._replica.config.name, late_s)
        for queue in self._queues.values():
            queue.postpone(now + self._replica.config.ack_timeout_s)

    def _expire(self, now: float) -> None:
        config = self._replica.config
        for uuid, queue in list(self._queues.items()):
            database = self._replica.database(uuid)
            if database is None:
                continue
            was_degraded = queue.degraded
            told = queue.expire(now, database.visible.seq, self._replica.state.epoch, config.acks)
            if queue.degraded and not was_degraded:
                self._replica.alarm(
                    AlarmKind.DEGRADED,
                    f"fewer than {config.acks} standbys confirm writes; they are acknowledged by this node alone",
                    database=database.name,
                )
            for callback, error in told:
                callback(error)

    def sizes(self) -> dict[bytes, int]:
        """How many writes wait, by database."""
        return {uuid: len(queue) for uuid, queue in self._queues.items()}

    def is_degraded(self, uuid: bytes) -> bool:
        return uuid in self._queues and self._queues[uuid].degraded

"""One blocking connection, which many threads may ask at once. It moves bytes; a Conversation knows what they mean.

    carry(exchange)   one thread has the connection for itself: batches, cursors, whatever takes several requests
    ask(request)      any number of threads, one request each: whoever holds the baton reads for all

A thread that finds the baton free takes it: it sends, reads, gives every answer to its thread, and once it has its own it
passes the baton to a thread that still waits. Whoever asks meanwhile puts the request into a queue, which goes out in one
packet with the next one that is sent: fewer system calls at both ends, and fewer hand-overs of the GIL. A request that was
not sent within GATHER_S, because the node takes long over one before it, is sent by its own thread; the node answers in any
order.

The state of one who asked changes under `_turn`: waiting, then once only woken with an answer, a failure or the baton, or
gone (its time was up). Locks are taken in the order baton, sending, turn; only the baton and sending are held over the
network, and only by a thread that uses it.

Bounds (INV-8): the pool lets ASKERS_MAX threads in at a time, each with one request.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress

from node.wire import Answer, Key, Request

from . import transport
from .conversation import Conversation, ReadCause, ReadFailed, unasked
from .errors import ConnectionFailure, DocumentTooLarge, NetworkTimeout, TwinlogError
from .exchange import Exchange
from .nodes import role_in
from .url import Settings

ASKERS_MAX = 64
GATHER_S = 0.001
LOOK_AFTER_S = 0.01
TIME_SHARE_KEPT = 0.9  # a socket's time limit stays as it is while so much of it is left: telling the kernel costs 2 µs


class Asked:
    """One thread's request on its way. Woken once: with an outcome, or holding the baton."""

    __slots__ = ("request", "outcome", "wake", "woken", "gone", "has_baton")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.outcome: Answer | TwinlogError | None = None
        self.wake = transport.new_lock()
        self.woken = False
        self.gone = False
        self.has_baton = False
        self.wake.acquire()


class Connection:
    """One socket, opened and ready."""

    def __init__(self, node: str, settings: Settings, key: Key | None) -> None:
        """Dial, shake hands, log in. Raises ConnectionFailure; Refused when trying again cannot help."""
        self.node = node
        self.retired = False  # nobody may begin to use it: it failed, or an answer is still to come
        self.fresh_until = 0.0  # for so long after an answer looking at it is not worth the time
        self._failure: ReadFailed | None = None
        self._untold = True
        self._baton = transport.new_lock()
        self._sending = transport.new_lock()
        self._turn = transport.new_lock()
        self._queue: deque[Asked] = deque()  # not sent
        self._out: dict[int, Asked] = {}  # sent and not answered, by request id
        until = transport.monotonic() + settings.connect_timeout_s
        self._conversation = Conversation(
            key=key, user=settings.user, password=settings.password, random_bytes=transport.random_bytes
        )
        self._socket = transport.dial(node, settings.connect_timeout_s)
        try:
            self._send(until)
            while not self._conversation.advance_opening():
                self._send(until)
                self._conversation.receive_data(self._socket.receive(until - transport.monotonic()))
        except BaseException:
            self.close()
            raise

    @property
    def role(self) -> str:
        """What the node said it is."""
        return role_in(self._conversation.hello)

    def is_stale(self) -> bool:
        """Whether it ended while nobody used it."""
        return self._socket.is_stale()

    def close(self) -> None:
        self._socket.close()

    # One thread alone.

    def carry(self, exchange: Exchange, timeout_s: float) -> None:
        """Until the exchange is paused; each answer may take timeout_s. After any exception the connection is unusable."""
        until = transport.monotonic() + timeout_s
        answered = len(exchange.answers)
        while not self._conversation.advance(exchange):
            self._send(until)
            exchange.draw()
            self._conversation.receive_data(self._socket.receive(until - transport.monotonic()))
            if len(exchange.answers) > answered:
                answered = len(exchange.answers)
                until = transport.monotonic() + timeout_s
        exchange.answered_by = self.node

    def _send(self, until: float) -> None:
        data = self._conversation.data_to_send()
        if data:
            self._socket.send_all(data, until - transport.monotonic())

    # Many threads.

    def ask(self, request: Request, timeout_s: float) -> Answer:
        """The answer to one request. Raises DocumentTooLarge when it cannot be sent; ReadFailed, NetworkTimeout, after
        which the connection is retired. The request's id stays 0 until it is sent."""
        until = transport.monotonic() + timeout_s
        if self._baton.acquire(False):
            try:
                return self._ask_first(request, timeout_s, until)
            finally:
                self._pass_on()
        asked = Asked(request)
        self._queue.append(asked)
        if self._baton.acquire(False) or self._wait(asked, timeout_s, until):
            try:
                self._serve(asked, timeout_s, until)
            finally:
                asked.woken = True
                self._pass_on()
        return self._outcome(asked)

    def _ask_first(self, request: Request, timeout_s: float, until: float) -> Answer:
        """Holding the baton from the start: without an Asked, unless other answers come first."""
        number = 0
        try:
            with self._sending:
                number = self._conversation.enqueue(request)
                batch: list[Asked] = []
                if self._queue:
                    self._enqueue(batch)
                self._put_out(batch, timeout_s)
            answers = self._conversation.answers(self._socket.receive(timeout_s))
            if len(answers) == 1 and answers[0].id == number and self._failure is None:
                self.fresh_until = transport.monotonic() + LOOK_AFTER_S
                return answers[0]
        except DocumentTooLarge:
            raise
        except ReadFailed as failure:
            self._fail(failure)
            raise
        except NetworkTimeout:
            late = self._out[number] = Asked(request)
            late.gone = self.retired = True  # the others go on waiting
            raise
        except BaseException:  # where it stopped in the stream nobody knows
            self._fail(broken_off())
            raise
        asked = self._out[number] = Asked(request)
        asked.woken = True  # nobody else has to
        self._hand_out(answers)
        self._serve(asked, timeout_s, until)
        return self._outcome(asked)

    def _outcome(self, asked: Asked) -> Answer:
        outcome = asked.outcome
        if outcome is None:
            assert self._failure is not None, "one who asked is answered, or the connection has failed"
            outcome = _again(self._failure)
        if isinstance(outcome, TwinlogError):
            raise outcome
        return outcome

    def is_first_to_tell(self) -> bool:
        """Of those whose call was ended by the loss of this connection: so that it is logged once."""
        with self._turn:
            first, self._untold = self._untold, False
            return first

    def _wait(self, asked: Asked, timeout_s: float, until: float) -> bool:
        """Until woken. True: holding the baton. Raises NetworkTimeout."""
        try:
            if not asked.wake.acquire(True, min(GATHER_S, timeout_s)):
                if not asked.request.id:
                    self._send_queued(timeout_s)
                asked.wake.acquire(True, max(0.0, until - transport.monotonic()))
        except BaseException:
            if not self._leave(asked) and asked.has_baton:
                self._pass_on()
            raise
        if self._leave(asked):
            raise NetworkTimeout("no answer in time")
        return asked.has_baton

    def _leave(self, asked: Asked) -> bool:
        """Stop waiting. True: nobody woke it, so its answer may still come, to nobody."""
        with self._turn:
            if not asked.woken:
                asked.gone = self.retired = True
        return asked.gone

    def _serve(self, asked: Asked, timeout_s: float, until: float) -> None:
        """Holding the baton: send what is queued and read for everybody until asked has its outcome."""
        if self._queue:
            self._send_queued(timeout_s)
        while asked.outcome is None and self._failure is None:
            left = until - transport.monotonic()
            try:
                data = self._socket.receive(timeout_s if left > TIME_SHARE_KEPT * timeout_s else left)
                self._hand_out(self._conversation.answers(data))
            except NetworkTimeout:
                asked.gone = self.retired = True  # the others go on waiting
                raise
            except ReadFailed as failure:
                self._fail(failure)
                return
            except BaseException:  # where it stopped in the stream nobody knows
                self._fail(broken_off())
                raise
            if self._queue and asked.outcome is None:
                self._send_queued(timeout_s)
        self.fresh_until = transport.monotonic() + LOOK_AFTER_S

    def _hand_out(self, answers: list[Answer]) -> None:
        for answer in answers:
            asked = self._out.pop(answer.id, None)
            if asked is None:
                self._fail(unasked(answer))
                return
            asked.outcome = answer
            self._wake(asked)

    def _send_queued(self, timeout_s: float) -> None:
        """Everything queued in as few packets as it takes, unless another thread is at it, who then takes it along."""
        while self._queue and self._sending.acquire(False):
            batch: list[Asked] = []
            try:
                self._enqueue(batch)
                self._put_out(batch, timeout_s)
            except (ReadFailed, NetworkTimeout):
                pass  # those whose request it was have been told
            except BaseException:
                self._fail(broken_off())
                raise
            finally:
                self._sending.release()

    def _put_out(self, batch: list[Asked], timeout_s: float) -> None:
        """Send what the conversation has. Raises ReadFailed, NetworkTimeout, after everybody was told."""
        data = self._conversation.data_to_send()
        try:
            if data:
                self._socket.send_all(data, timeout_s)
        except NetworkTimeout as failure:
            for asked in batch:
                self._finish(asked, _again(failure))
            self._fail(ReadFailed(failure.message, ReadCause.TIMEOUT))
            raise
        except ReadFailed as failure:
            self._fail(failure)
            raise
        if self._failure is not None:  # it failed meanwhile: nobody else looks at what was put out since
            self._fail(self._failure)
            raise _again(self._failure)

    def _enqueue(self, batch: list[Asked]) -> None:
        """Hand the queue to the conversation."""
        queue, out, conversation = self._queue, self._out, self._conversation
        while queue:
            asked = queue.popleft()
            if asked.gone:
                continue
            try:
                out[conversation.enqueue(asked.request)] = asked
                batch.append(asked)
            except DocumentTooLarge as error:
                self._finish(asked, error)

    def _pass_on(self) -> None:
        """Give the baton to one who waits, or put it down."""
        while True:
            if self._out or self._queue:
                for asked in [*list(self._out.values()), *list(self._queue)]:
                    if self._wake(asked, baton=True):
                        return
            self._baton.release()
            if not self._queue or not self._baton.acquire(False):
                return  # whoever has queued since then either took the baton or finds it free

    def _wake(self, asked: Asked, *, baton: bool = False) -> bool:
        """Whether this woke it: nobody had yet, and it is still there."""
        with self._turn:
            if asked.woken or asked.gone:
                return False
            asked.woken = True
            asked.has_baton = baton
        asked.wake.release()
        return True

    def _finish(self, asked: Asked, outcome: TwinlogError) -> None:
        asked.outcome = outcome
        self._wake(asked)

    def _fail(self, failure: ReadFailed) -> None:
        """The stream is of no use any more: everybody whose request is queued or out has failed."""
        self.retired = True
        self._failure = failure
        self._socket.shutdown()  # whoever reads or sends in another thread ends
        for pending, take in ((self._out, lambda: self._out.popitem()[1]), (self._queue, self._queue.popleft)):
            while pending:
                with suppress(KeyError, IndexError):  # another thread took the last one
                    self._finish(take(), _again(failure))


def broken_off() -> ReadFailed:
    return ReadFailed("the call that was reading from the connection was broken off", ReadCause.PROTOCOL)


def _again(failure: ConnectionFailure) -> ConnectionFailure:
    """The same failure for another thread to raise."""
    if isinstance(failure, ReadFailed):
        return ReadFailed(failure.message, failure.cause)
    return NetworkTimeout(failure.message)

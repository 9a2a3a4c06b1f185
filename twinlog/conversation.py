"""One connection to a node: opening it, then requests out and answers in. Pure: no socket, no clock.

    advance_opening()              after each receive_data, until True: Hello (and Login) were answered
    enqueue(request), answers()    requests of many callers: one more to send; whatever answers came
    ask(request), answer()         one request, its answer: the bytes to send now; the Answer once it is whole
    advance(exchange)              send what the exchange gives, match what came; True when it is paused
    data_to_send(), receive_data() the bytes; receive_data(b"") means the stream ended

Between exchanges no request is out, so the connection can be given to the next caller. Errors of the wire and of the
opening leave here as the client's errors; after any of them the connection is closed by whoever carries it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from node.wire import (
    Answer,
    ClientSession,
    Ended,
    Failure,
    HandshakeDone,
    Hello,
    Key,
    Login,
    Message,
    MessageTooLong,
    PortRole,
    Request,
    WireError,
    decode_answer,
    decode_fields,
    encode_request,
)

from .carrying import Refused
from .errors import (
    AutoReconnect,
    ConfigurationError,
    DocumentTooLarge,
    OperationFailure,
    TwinlogError,
    from_failure,
)
from .exchange import GO_ELSEWHERE, Exchange

CLIENT_NAME = "twinlog-python"


class ReadCause(Enum):
    """Why the next length could not be read: the `err` of a READ_LEN_FAILED line."""

    EOF = "EOF"
    TIMEOUT = "i/o timeout"
    RESET = "connection reset"
    PROTOCOL = "protocol error"


class ReadFailed(AutoReconnect):
    """The stream of answers ended or makes no sense."""

    def __init__(self, message: str, cause: ReadCause) -> None:
        super().__init__(message)
        self.cause = cause


class Conversation:
    """The client's end of one connection."""

    def __init__(
        self, *, key: Key | None, user: str | None, password: str | None, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._session = ClientSession(key, PortRole.CLIENT, random_bytes=random_bytes)
        self._unsent = self._session.start()
        self._user = user
        self._password = password
        self._last_id = 0
        self._opening: dict[int, str] = {}  # what is asked by Hello and Login, by id
        self.hello: dict[str, Any] = {}  # the node's answer to Hello

    def data_to_send(self) -> bytes:
        """All of it must be sent, in order, or the connection be closed."""
        data, self._unsent = self._unsent, b""
        return data + self._session.data_to_send() if data else self._session.data_to_send()

    def receive_data(self, data: bytes) -> None:
        self._session.receive_data(data)

    def advance_opening(self) -> bool:
        """Whether the connection is ready for requests. Raises Refused, ReadFailed."""
        while (event := self._next_event()) is not None:
            if isinstance(event, HandshakeDone):
                self._greet()
            else:
                self._take_opening_answer(decode_answer(event.data))
                if not self._opening:
                    return True
        return False

    def ask(self, request: Request) -> bytes:
        """Everything to send for one request, on a connection that is open and has none out. Raises DocumentTooLarge,
        and leaves the request's id at 0: then nothing went out."""
        self.enqueue(request)
        return self._session.data_to_send()

    def answer(self, data: bytes) -> Answer | None:
        """The answer to ask()'s request when these bytes make it whole. data b"": the stream ended. Raises ReadFailed."""
        session = self._session
        session.receive_data(data)
        try:
            messages = session.take_messages(1)
        except WireError as error:
            raise _from_wire(error) from error
        if not messages:
            self._next_event()  # raises when the stream ended
            return None
        answer = self._decode(messages[0])
        if answer.id != self._last_id:
            raise unasked(answer)
        return answer

    def enqueue(self, request: Request) -> int:
        """Put one more request out, of any number; its new id. data_to_send() follows. Raises DocumentTooLarge."""
        self._last_id = request.id = self._last_id + 1
        try:
            self._session.send_message(encode_request(request))
        except MessageTooLong as error:
            request.id = 0
            raise _too_large(error) from error
        return request.id

    def answers(self, data: bytes) -> list[Answer]:
        """What these bytes make whole, whosever answers they are. data b"": the stream ended. Raises ReadFailed.

        Only enqueue() and data_to_send() may be called meanwhile by another thread.
        """
        session = self._session
        session.receive_data(data)
        try:
            messages = session.take_messages()
            answers = [decode_answer(message) for message in messages]
        except WireError as error:
            raise _from_wire(error) from error
        if not answers:
            self._next_event()  # raises when the stream ended
        return answers

    def advance(self, exchange: Exchange) -> bool:
        """Whether the exchange is paused. Raises ReadFailed, and what building a request raises."""
        while not exchange.paused:
            while (item := exchange.take()) is not None:
                request = item[1]
                request.id = self._new_id()
                try:
                    self._session.send_message(encode_request(request))
                except MessageTooLong as error:
                    raise _too_large(error) from error
                exchange.sent(request.id, item)
            if exchange.paused:
                break
            event = self._next_event()
            if event is None:
                return False
            assert isinstance(event, Message), "a handshake is done once"
            answer = self._decode(event.data)
            if not exchange.answered(answer):
                raise unasked(answer)
        return True

    def _greet(self) -> None:
        """Hello and Login in one packet; the node answers both."""
        requests: list[Hello | Login] = [Hello(self._new_id(), CLIENT_NAME)]
        self._opening[requests[0].id] = "hello"
        if self._user is not None:
            requests.append(Login(self._new_id(), self._user, self._password or ""))
            self._opening[requests[1].id] = "login"
        for request in requests:
            self._session.send_message(encode_request(request))

    def _take_opening_answer(self, answer: Answer) -> None:
        asked = self._opening.pop(answer.id, None)
        if asked is None:
            raise ReadFailed(f"an answer to request {answer.id} while opening", ReadCause.PROTOCOL)
        if isinstance(answer, Failure):
            error = from_failure(answer.name, answer.code, answer.message, answer.fields)
            if answer.name in GO_ELSEWHERE:
                raise AutoReconnect(error.message, error.code, error.details)
            raise Refused(error)
        if asked == "hello":
            self.hello = decode_fields(answer.result)

    def _next_event(self) -> HandshakeDone | Message | None:
        """The next event, or None when more bytes are needed."""
        try:
            event = self._session.next_event()
        except WireError as error:
            raise _from_wire(error) from error
        if isinstance(event, Ended):
            raise ReadFailed("the node closed the connection", ReadCause.EOF)
        return event if isinstance(event, (HandshakeDone, Message)) else None

    def _decode(self, data: bytes) -> Answer:
        try:
            return decode_answer(data)
        except WireError as error:
            raise _from_wire(error) from error

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id


def _too_large(error: MessageTooLong) -> DocumentTooLarge:
    return DocumentTooLarge(error.message, None, {"name": error.name, **error.fields})


def unasked(answer: Answer) -> ReadFailed:
    return ReadFailed(f"an answer to request {answer.id}, which was never asked", ReadCause.PROTOCOL)


def _from_wire(error: WireError) -> TwinlogError:
    """A node that will not have us is an error to show at once; a broken stream is one to reconnect after."""
    details = {"name": error.name, "errmsg": error.message, "fields": dict(error.fields)}
    if error.refusal == "AuthenticationFailed":
        return Refused(OperationFailure(error.message, 18, {**details, "name": error.refusal, "wire": error.name}))
    if error.name in ("VersionRefused", "PortRefused", "NotTwinlog"):
        return Refused(ConfigurationError(error.message, None, details))
    cause = ReadCause.EOF if error.name == "StreamCut" else ReadCause.PROTOCOL
    return ReadFailed(error.message, cause)

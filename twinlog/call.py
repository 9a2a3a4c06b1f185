"""A call of one request: what to send, and what its answer means. Pure: no socket, no clock.

    Call ──> backend.ask(call): straight to the primary, one message out and one in ──> call.finish(answer)
                    │ anything unusual: no primary known, a lost connection, a refusal
                    └──> carry(call.exchange()) of carrying.py, which decides about retries and other nodes

Most calls of a program are of this kind (one document in, one document out), so what stands between them and the socket is
kept short: no generator, no Exchange while all goes well. Operations of many requests are plans (verbs.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from node.wire import Answer, Failure, Reply, Request

from .errors import ConnectionFailure, OperationFailure, TwinlogError, WriteError
from .exchange import GO_ELSEWHERE, Exchange, Kind
from .scope import Scope
from .url import ReadFrom
from .values import refusal

T = TypeVar("T")


class Call(msgspec.Struct, Generic[T]):
    """result: what a Reply means; it may raise the TwinlogError of a write that the node refused.

    node: the one that it goes to, of a call inside a transaction; afterwards the one that answered.
    is_write_command: PyMongo calls what is wrong with an update or a deletion a WriteError, with any other command an
    OperationFailure.
    """

    kind: Kind
    scope: Scope
    db: str
    request: Request
    result: Callable[[Reply], T]
    is_write_command: bool = False
    node: str | None = None

    @property
    def is_for_primary(self) -> bool:
        return self.kind is not Kind.READ or self.scope.read_from is ReadFrom.PRIMARY

    def finish(self, answer: Answer) -> T:
        """The call's result. Raises the error of a Failure."""
        try:
            reply = noted(self.scope, self.db, answer)
        except OperationFailure as error:
            if self.is_write_command and error.details.get("name") == "BadQuery":
                raise WriteError(error.message, error.code, error.details) from None
            raise
        return self.result(reply)

    def exchange(self) -> Exchange:
        """The same request for carrying.py, not sent yet."""
        scope = self.scope
        return Exchange(
            self.kind, iter((self.request,)),
            db=self.db, read_from=scope.read_from, node=self.node, timeout_s=scope.timeout_s,
        )  # fmt: skip

    def exchange_after(self, outcome: Answer | ConnectionFailure) -> Exchange:
        """The exchange after one attempt: the answer that was a refusal, or how the connection failed.

        A request that never left has the id 0.
        """
        exchange = self.exchange()
        if self.request.id:
            item = exchange.take()
            assert item is not None, "an exchange of one request has one to take"
            exchange.sent(self.request.id, item)
            if not isinstance(outcome, ConnectionFailure):
                exchange.answered(outcome)
                exchange.draw()
        return exchange


def goes_elsewhere(answer: Answer) -> bool:
    """Whether the node did nothing and the call has to be carried further."""
    return isinstance(answer, Failure) and answer.name in GO_ELSEWHERE


def noted(scope: Scope, db: str, answer: Answer) -> Reply:
    """The answer, its position noted. Raises the error of a Failure: after AckTimeout the write is kept too."""
    if isinstance(answer, Failure):
        if answer.name == "AckTimeout":
            scope.positions.observe(db, answer.fields.get("epoch", 0), answer.fields.get("seq", 0))
        raise failure_of(answer)
    assert isinstance(answer, Reply), "an answer is a Reply or a Failure"
    if db:
        scope.positions.observe(db, answer.epoch, answer.seq)
    return answer


def failure_of(answer: Failure) -> TwinlogError:
    return refusal(answer.name, answer.code, answer.message, answer.fields)

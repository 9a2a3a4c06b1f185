"""One call's requests and answers, over however many connections it takes. Pure: no socket, no clock.

An Exchange hands out requests (`take`), is told under which id each was sent (`sent`) and what came back (`answered`).
When a connection is lost, `restart` puts the unanswered ones back in front, in order. Requests are drawn from an iterator
one ahead of need, so a large insert is encoded while the node works on the chunk before. A later version can put several
exchanges on one connection: answers find their request by id, never by order.

Bounds (INV-8): at most `window` requests are out at a time and one more waits encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

from node.wire import PRIMARY_READS, Answer, Anywhere, Failure, Reply, Request

from .errors import TwinlogError
from .url import ReadFrom

# Refusals given before anything was applied: the same request may be sent to another node, or later to the same one.
GO_ELSEWHERE = frozenset({"NotPrimary", "ReadOnly", "ShuttingDown", "Overloaded"})


def _may_pass(refusal: Failure) -> bool:
    """Whether another node, or this one later, may not refuse it. Overloaded says by 0 that waiting alone will not help; a database that is being
    restored says that the same write may not be meant for what is there afterwards."""
    if refusal.name == "Overloaded" and refusal.fields.get("retry_after_ms") == 0:
        return False
    return refusal.name in GO_ELSEWHERE and refusal.fields.get("retry") is not False


class Kind(Enum):
    """What may be done with a request whose connection was lost."""

    READ = "may be asked again, of any node that serves the read"
    WRITE = "may be sent again: it carries a request id, by which the primary applies it once"
    ONCE = "goes to the primary and is not sent again once it may have arrived"
    HERE = "goes to one named node and is not sent again once it may have arrived"
    INSIDE = "goes to the node that has its transaction, which is over when the connection is lost: not sent again"
    COURTESY = "goes to one named node, tried once: nothing depends on it"


class Exchange:
    """The requests of one call. Invariant: every request is waiting, out, or answered; never two of these."""

    def __init__(
        self,
        kind: Kind,
        requests: Iterator[Request],
        *,
        db: str = "",
        read_from: ReadFrom = ReadFrom.PRIMARY,
        node: str | None = None,
        window: int = 1,
        stop_after: Callable[[Answer], bool] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.kind = kind
        self.db = db
        self.read_from = read_from
        self.node = node  # of Kind.HERE, INSIDE and COURTESY
        self.timeout_s = timeout_s
        self.answers: list[Answer] = []  # those of answered requests, in the order of the requests
        self.answered_by = ""  # the node of the newest answer
        self.proves_primary = kind is Kind.WRITE  # whoever does it holds itself to be the primary
        self.refusal: Failure | None = None  # why this node was left with requests unanswered
        self._source: Iterator[Request] | None = requests
        self._window = window
        self._stop_after = stop_after
        self._broken: TwinlogError | None = None  # why no further request can be built
        self._drawn = 0
        self._waiting: list[tuple[int, Request]] = []  # sorted by index
        self._out: dict[int, tuple[int, Request]] = {}  # by the id it was sent under
        self._early: dict[int, Answer] = {}  # answers whose predecessors are still out

    def put_inside(self, node: str | None, wrap: Callable[[Request], Request]) -> None:
        """Before anything was taken: send each request in its wrapping to the node that has the transaction, one at a time."""
        assert self._drawn == 0 and self._source is not None, "an exchange is put inside before it begins"
        if self.kind is not Kind.COURTESY:
            self.kind = Kind.INSIDE
        self.node = node
        self.proves_primary = False  # the node has the transaction, whatever it is
        self._window = 1
        self._source = map(wrap, self._source)

    @property
    def finished(self) -> bool:
        """Whether every request has been answered and a draw found no more."""
        return not self._out and not self._waiting and self._source is None

    @property
    def paused(self) -> bool:
        """Whether the connection can be given back: finished, or refused with nothing left out."""
        return not self._out and (self.refusal is not None or self.finished)

    @property
    def unanswered(self) -> int:
        """How many requests were sent on this connection and have no answer yet."""
        return len(self._out)

    def take(self) -> tuple[int, Request] | None:
        """The next request to send now, or None: the window is full, the node refused, or there are no more."""
        if self.refusal is not None or len(self._out) >= self._window:
            return None
        if not self._waiting:
            self.draw()
        if self._broken is not None and not self._waiting and not self._out:
            raise self._broken
        return self._waiting.pop(0) if self._waiting else None

    def draw(self) -> None:
        """Have one request waiting, if there is one. A request that cannot be built stops the exchange in take(), once
        the ones before it are answered."""
        if self._waiting or self._source is None or self._broken is not None:
            return
        try:
            request = next(self._source, None)
        except TwinlogError as error:
            self._broken = error
            return
        if request is None:
            self._source = None
            return
        if self.kind is Kind.READ and type(request) in PRIMARY_READS:
            if self.read_from is ReadFrom.PRIMARY:
                self.proves_primary = True
            else:
                request = Anywhere(0, request)
        self._waiting.append((self._drawn, request))
        self._drawn += 1

    def sent(self, request_id: int, item: tuple[int, Request]) -> None:
        assert request_id not in self._out, "a connection gives each request its own id"
        self._out[request_id] = item

    def answered(self, answer: Reply | Failure) -> bool:
        """Note an answer; False when no request of this exchange has that id."""
        item = self._out.pop(answer.id, None)
        if item is None:
            return False
        if isinstance(answer, Failure) and _may_pass(answer):
            self.refusal = answer
            self._put_back([item])
            return True
        self._early[item[0]] = answer
        while (following := self._early.pop(len(self.answers), None)) is not None:
            self.answers.append(following)
        if self._stop_after is not None and self._stop_after(answer):
            self._source = None
            self._waiting.clear()
        return True

    def restart(self) -> None:
        """The connection is gone: what was out waits again."""
        self._put_back(list(self._out.values()))
        self._out.clear()

    def take_refusal(self) -> Failure | None:
        refusal, self.refusal = self.refusal, None
        return refusal

    def _put_back(self, items: list[tuple[int, Request]]) -> None:
        self._waiting = sorted(items + self._waiting, key=lambda item: item[0])

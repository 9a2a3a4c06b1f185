"""The blocking cursor of find(): options that can be chained before its first document. Its state and requests are query.py's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import aggregation
from .command_cursor import CommandCursor
from .options import Hint, Sort, hint_value, limit_of, natural, sort_list
from .query import Query

if TYPE_CHECKING:
    from .collection import Collection


class Cursor(CommandCursor):
    """Documents of one query, asked for in batches as they are iterated. Not for several threads at once.

    The options can be chained until the first document: find(...).sort("time", -1).limit(50).
    """

    def __init__(self, collection: Collection, query: Query) -> None:
        super().__init__(collection, query)
        self._query = query

    def sort(self, key_or_list: Sort, direction: int | None = None) -> Cursor:
        """By one field and a direction (1 or -1), or by a list of (field, direction)."""
        self._query.check_not_begun()
        self._query.sort = sort_list(key_or_list, direction)
        return self

    def skip(self, skip: int) -> Cursor:
        self._query.check_not_begun()
        self._query.skip = natural("skip", skip)
        return self

    def limit(self, limit: int) -> Cursor:
        """At most so many documents; 0 means all."""
        self._query.check_not_begun()
        self._query.limit = limit_of(limit)
        return self

    def batch_size(self, batch_size: int) -> Cursor:
        """Documents asked for at a time; 0 leaves it to the client."""
        self._query.check_not_begun()
        self._query.batch_size = natural("batch_size", batch_size)
        return self

    def projection(self, projection: Mapping[str, Any] | Sequence[str] | None) -> Cursor:
        """Which fields to return: a list of names, or a map of field to 1 (only these) or 0 (all but these)."""
        self._query.check_not_begun()
        self._query.projection = projection
        return self

    def max_time_ms(self, max_time_ms: int | None) -> Cursor:
        """How long the node may work on it, over all batches; None or 0 is no limit. At its end: ExecutionTimeout."""
        self._query.check_not_begun()
        self._query.max_time_ms = natural("max_time_ms", max_time_ms or 0)
        return self

    def hint(self, index: Hint | None) -> Cursor:
        """An index's name or keys. Every field is indexed, so it changes nothing."""
        self._query.check_not_begun()
        self._query.hint = hint_value(index)
        return self

    def comment(self, comment: Any) -> Cursor:
        """Words for MongoDB's logs: dropped."""
        self._query.check_not_begun()
        return self

    def explain(self) -> dict[str, Any]:
        """How the node answers this query, found by running it: which indexes it uses, how many documents it reads."""
        query = self._query
        return self.collection.ask(
            aggregation.explain(
                query.scope, query.db, query.collection, "find", query.explained(), max_time_ms=query.max_time_ms
            )
        )

    def distinct(self, key: str) -> list[Any]:
        """The different values at a path over all that the filter matches; skip and limit do not count."""
        query = self._query
        return self.collection.ask(
            aggregation.distinct(
                query.scope, query.db, query.collection, key, query.filter, {"max_time_ms": query.max_time_ms}
            )
        )

    def rewind(self) -> Cursor:
        """Begin again from the first document; the options can be changed again."""
        query = self._query.rewound()
        self.close()
        self._query = self._batches = query
        return self

    def clone(self) -> Cursor:
        """The same query, not begun."""
        return Cursor(self.collection, self._query.rewound())

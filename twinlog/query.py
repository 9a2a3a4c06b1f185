"""The state of one find(): its options, until its first document is wanted; then batches.py's. Pure; both cursors share it.

    chaining sort() skip() limit() ... ──> the first request ──> batches of documents
                                       └─> explain(): how it would be answered; distinct(): values of what it matches
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from node.wire import BATCH_ROWS_DEFAULT, Find

from .batches import Batches
from .options import Hint, Sort, hint_value, limit_of, natural, sort_list
from .scope import Scope
from .values import value_bytes
from .verbs import find_request


class Query(Batches):
    """One find()."""

    def __init__(
        self,
        scope: Scope,
        db: str,
        collection: str,
        filter: Mapping[str, Any] | None = None,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        skip: int = 0,
        limit: int = 0,
        sort: Sort | None = None,
        batch_size: int = 0,
        max_time_ms: int | None = None,
        hint: Hint | None = None,
    ) -> None:
        if filter is not None and not isinstance(filter, Mapping):
            raise TypeError(f"filter must be a mapping, not {type(filter).__name__}")
        super().__init__(scope, db, self._find, batch_size=natural("batch_size", batch_size))
        self.collection = collection
        self.filter = filter
        self.projection = projection
        self.skip = natural("skip", skip)
        self.limit = limit_of(limit)
        self.sort = sort_list(sort) if sort else []
        self.max_time_ms = natural("max_time_ms", max_time_ms or 0)
        self.hint = hint_value(hint)

    def rewound(self) -> Query:
        """The same query, not begun."""
        again = Query(self.scope, self.db, self.collection, self.filter, self.projection)
        again.skip, again.limit, again.sort, again.batch_size = self.skip, self.limit, self.sort, self.batch_size
        again.max_time_ms, again.hint = self.max_time_ms, self.hint
        return again

    def explained(self) -> dict[str, Any]:
        """What Explain is told of it."""
        options = {"projection": self.projection, "skip": self.skip, "limit": self.limit}
        order = [list(pair) for pair in self.sort]
        return {
            "filter": self.filter or {},
            **({"sort": order} if order else {}),
            **{name: value for name, value in options.items() if value},
        }

    def _find(self) -> Find:
        request = find_request(
            self.db,
            self.collection,
            self.filter,
            sort=self.sort,
            projection=self.projection,
            skip=self.skip,
            limit=self.limit,
            batch_size=self.batch_size or BATCH_ROWS_DEFAULT,
            least_position=self.scope.least_position(self.db),
        )
        request.max_time_ms = self.max_time_ms
        if self.hint is not None:
            request.hint = value_bytes(self.hint)
        return request

"""The trio collection: collection.py's twin, to be awaited. It holds no state but its names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import administration, aggregation, bulk, changes, indexes, verbs
from .async_command_cursor import AsyncCommandCursor
from .async_cursor import AsyncCursor
from .batches import Batches
from .call import Call
from .changes import Action, ArrayFilters, Change, ReturnDocument
from .indexes import IndexModel
from .options import Hint, Sort, hint_value, natural, read_options, sort_list
from .query import Query
from .results import BulkWriteResult, DeleteResult, InsertManyResult, InsertOneResult, UpdateResult
from .scope import Scope
from .writes import Write

if TYPE_CHECKING:
    from .async_database import AsyncDatabase

T = TypeVar("T")


class AsyncCollection:
    """One collection of a database; created by its first write. Safe to share between tasks."""

    def __init__(self, database: AsyncDatabase, name: str, scope: Scope) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a collection's name must be a str, not {type(name).__name__}")
        self.database = database
        self.name = name
        self._scope = scope
        self._place = (scope, database.name, name)
        self._ask = database.client.ask

    @property
    def full_name(self) -> str:
        return f"{self.database.name}.{self.name}"

    async def run(self, plan: verbs.Plan[T]) -> T:
        """Carry out a plan of verbs.py on this collection's client."""
        return await self.database.client.run(plan)

    async def ask(self, call: Call[T]) -> T:
        """Carry out a call on this collection's client."""
        return await self._ask(call)

    def with_options(self, *, timeout_s: float) -> AsyncCollection:
        """The same collection, each of whose calls waits at most timeout_s for an answer."""
        return AsyncCollection(self.database, self.name, replace(self._scope, timeout_s=timeout_s))

    # Writing.

    async def insert_one(self, document: MutableMapping[str, Any]) -> InsertOneResult:
        """Insert a document. One without `_id` is given an ObjectId, in the caller's own mapping.

        Raises DuplicateKeyError, InvalidDocument, DocumentTooLarge.
        """
        return await self._ask(verbs.insert_one(self._scope, self.database.name, self.name, document))

    async def insert_many(
        self, documents: Iterable[MutableMapping[str, Any]], *, ordered: bool = True
    ) -> InsertManyResult:
        """Insert documents, any number of them. ordered: stop at the first that fails; else try all, quicker.

        Raises BulkWriteError when some were refused; InvalidDocument for one that cannot be encoded: details["index"]
        says which, details["nInserted"] how many before it were inserted. Any other error carries nInserted too: at
        least so many were inserted.
        """
        return await self.run(verbs.insert_many(*self._place, documents, ordered=ordered))

    async def replace_one(
        self,
        filter: Mapping[str, Any],
        replacement: Mapping[str, Any],
        *,
        upsert: bool = False,
        sort: Sort | None = None,
        **options: Any,
    ) -> UpdateResult:
        """Put replacement in the place of the first document that matches; with upsert, insert it if none does."""
        return await self._ask(
            changes.replace_one(*self._place, filter, replacement, upsert=upsert, sort=sort, options=options)
        )

    async def update_one(
        self,
        filter: Mapping[str, Any],
        update: Change,
        *,
        upsert: bool = False,
        array_filters: ArrayFilters | None = None,
        sort: Sort | None = None,
        **options: Any,
    ) -> UpdateResult:
        """Change the first document that matches by operators or a pipeline; with upsert, insert one if none does."""
        return await self._ask(
            changes.update(
                *self._place, filter, update,
                many=False, upsert=upsert, array_filters=array_filters, sort=sort, options=options,
            )
        )  # fmt: skip

    async def update_many(
        self,
        filter: Mapping[str, Any],
        update: Change,
        *,
        upsert: bool = False,
        array_filters: ArrayFilters | None = None,
        **options: Any,
    ) -> UpdateResult:
        """Change every document that matches; a group of them at a time, each group at once."""
        return await self._ask(
            changes.update(
                *self._place, filter, update, many=True, upsert=upsert, array_filters=array_filters, options=options
            )
        )

    async def find_one_and_update(
        self,
        filter: Mapping[str, Any],
        update: Change,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        sort: Sort | None = None,
        *,
        upsert: bool = False,
        return_document: bool = ReturnDocument.BEFORE,
        array_filters: ArrayFilters | None = None,
        **options: Any,
    ) -> dict[str, Any] | None:
        """Change one document and return it, as it was before or (ReturnDocument.AFTER) as it is then; None without one."""
        return await self._ask(
            changes.find_one_and(
                *self._place, filter, Action.UPDATE, update, projection=projection, sort=sort,
                upsert=upsert, after=return_document, array_filters=array_filters, options=options,
            )
        )  # fmt: skip

    async def find_one_and_replace(
        self,
        filter: Mapping[str, Any],
        replacement: Mapping[str, Any],
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        sort: Sort | None = None,
        *,
        upsert: bool = False,
        return_document: bool = ReturnDocument.BEFORE,
        **options: Any,
    ) -> dict[str, Any] | None:
        """Replace one document and return the one before or (ReturnDocument.AFTER) the one after; None without one."""
        return await self._ask(
            changes.find_one_and(
                *self._place, filter, Action.REPLACE, replacement, projection=projection, sort=sort,
                upsert=upsert, after=return_document, options=options,
            )
        )  # fmt: skip

    async def find_one_and_delete(
        self,
        filter: Mapping[str, Any],
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        sort: Sort | None = None,
        **options: Any,
    ) -> dict[str, Any] | None:
        """Delete one document and return it; None when none matches."""
        return await self._ask(
            changes.find_one_and(
                *self._place, filter, Action.DELETE, None, projection=projection, sort=sort, options=options
            )
        )

    async def delete_one(self, filter: Mapping[str, Any], **options: Any) -> DeleteResult:
        """Delete the first document that matches."""
        return await self._ask(changes.delete(*self._place, filter, many=False, options=options))

    async def delete_many(self, filter: Mapping[str, Any], **options: Any) -> DeleteResult:
        """Delete every document that matches; {} matches all."""
        return await self._ask(changes.delete(*self._place, filter, many=True, options=options))

    async def bulk_write(self, requests: Iterable[Write], *, ordered: bool = True) -> BulkWriteResult:
        """InsertOne, ReplaceOne, UpdateOne, UpdateMany, DeleteOne and DeleteMany, mixed. Raises BulkWriteError when some failed."""
        return await self.run(bulk.bulk_write(*self._place, requests, ordered=ordered))

    async def drop(self) -> None:
        """Drop the collection with all it holds; no error if there is none."""
        await self.run(administration.drop_collection(*self._place))

    # Reading.

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        skip: int = 0,
        limit: int = 0,
        *,
        sort: Sort | None = None,
        batch_size: int = 0,
        max_time_ms: int | None = None,
        hint: Hint | None = None,
        **options: Any,
    ) -> AsyncCursor:
        """A cursor over the documents that match. Nothing is asked before its first document."""
        read_options("find", options, "allow_disk_use")
        query = Query(
            *self._place, filter, projection, skip=skip, limit=limit, sort=sort,
            batch_size=batch_size, max_time_ms=max_time_ms, hint=hint,
        )  # fmt: skip
        return AsyncCursor(self, query)

    async def find_one(
        self,
        filter: Any = None,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        sort: Sort | None = None,
        skip: int = 0,
        max_time_ms: int | None = None,
        hint: Hint | None = None,
        **options: Any,
    ) -> dict[str, Any] | None:
        """One document that matches, or None. filter: a mapping, or the `_id` itself."""
        if options:
            read_options("find_one", options, "allow_disk_use")
        return await self._ask(
            verbs.find_one(
                self._scope, self.database.name, self.name, filter,
                projection=projection, sort=sort_list(sort) if sort else None, skip=skip,
                max_time_ms=natural("max_time_ms", max_time_ms or 0), hint=hint_value(hint),
            )
        )  # fmt: skip

    async def aggregate(
        self, pipeline: Sequence[Mapping[str, Any]], *, let: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncCommandCursor:
        """Run a pipeline. let: variables for its expressions; options: batchSize, maxTimeMS.

        One that ends in $out or $merge is done when this returns, and its cursor is empty.
        """
        batches = await self.run(aggregation.aggregate(*self._place, pipeline, let=let, options=options))
        return AsyncCommandCursor(self, batches)

    async def distinct(self, key: str, filter: Mapping[str, Any] | None = None, **options: Any) -> list[Any]:
        """The different values at a path over the documents that match; of an array, its elements. options: maxTimeMS."""
        return await self._ask(aggregation.distinct(*self._place, key, filter, options))

    async def count_documents(
        self, filter: Mapping[str, Any], *, skip: int = 0, limit: int = 0, **options: Any
    ) -> int:
        """How many documents match; {} matches all. limit 0 is no limit; options: maxTimeMS."""
        return await self._ask(
            aggregation.count_documents(*self._place, filter, skip=skip, limit=limit, options=options)
        )

    async def estimated_document_count(self, **options: Any) -> int:
        """How many documents there are. The node keeps the number, so it is exact and costs nothing."""
        return await self._ask(aggregation.estimated_document_count(*self._place, options))

    # Declared indexes.

    async def create_index(self, keys: Hint, **options: Any) -> str:
        """Declare an index; returns its name. options: unique, sparse, expireAfterSeconds, partialFilterExpression, name.

        Every field is indexed without it: it is there for its rule. A unique one is built before this returns; raises
        DuplicateKeyError when the documents break it. Raises OperationFailure (85, 86) for another one with this name or keys.
        """
        options.pop("comment", None)
        names = await self._ask(indexes.create_indexes(*self._place, [IndexModel(keys, **options)]))
        return names[0]

    async def create_indexes(self, models: Iterable[IndexModel], **options: Any) -> list[str]:
        """Declare indexes, one after the other; returns their names. Those before one that fails stay."""
        read_options("create_indexes", options)
        return await self._ask(indexes.create_indexes(*self._place, models))

    async def drop_index(self, index_or_name: Hint, **options: Any) -> None:
        """Drop an index by its name or its keys. Raises OperationFailure (27) when there is none."""
        read_options("drop_index", options)
        await self._ask(indexes.drop_index(*self._place, index_or_name))

    async def drop_indexes(self, **options: Any) -> None:
        """Drop all indexes but that of `_id`."""
        read_options("drop_indexes", options)
        await self._ask(indexes.drop_index(*self._place, indexes.ALL))

    async def list_indexes(self, **options: Any) -> AsyncCommandCursor:
        """The declared indexes, that of `_id` first; none when there is no such collection."""
        read_options("list_indexes", options)
        batches = Batches.holding(self._scope, self.database.name, await self._ask(indexes.list_indexes(*self._place)))
        return AsyncCommandCursor(self, batches)

    async def index_information(self, **options: Any) -> dict[str, Any]:
        """The declared indexes by name: key (a list of (field, direction)) and options."""
        read_options("index_information", options)
        return indexes.information(await self._ask(indexes.list_indexes(*self._place)))

    # Names with dots: db.fs.files is the collection "fs.files".

    def __getitem__(self, name: str) -> AsyncCollection:
        return AsyncCollection(self.database, f"{self.name}.{name}", self._scope)

    def __getattr__(self, name: str) -> AsyncCollection:
        if name.startswith("_"):
            raise AttributeError(f"a collection has no attribute {name!r}; for the collection, use [{name!r}]")
        return self[name]

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        raise TypeError(
            f"a collection has no method {self.name.rpartition('.')[2]!r} in this release (it was taken for the name of "
            f"the collection {self.full_name!r})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncCollection) and (self.database, self.name) == (other.database, other.name)

    def __hash__(self) -> int:
        return hash((self.database, self.name))

    def __bool__(self) -> bool:
        raise NotImplementedError("a collection is neither true nor false; compare with None")

    def __repr__(self) -> str:
        return f"AsyncCollection({self.full_name!r})"

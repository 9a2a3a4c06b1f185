"""The blocking collection: PyMongo's names over the plans of verbs.py and bulk.py. It holds no state but its names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import administration, bulk, verbs
from .cursor import Cursor
from .query import Query, Sort, sort_list
from .results import BulkWriteResult, DeleteResult, InsertManyResult, InsertOneResult, UpdateResult
from .scope import Scope
from .unsupported import unsupported
from .writes import Write

if TYPE_CHECKING:
    from .database import Database

T = TypeVar("T")


class Collection:
    """One collection of a database; created by its first write. Safe to share between threads."""

    def __init__(self, database: Database, name: str, scope: Scope) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a collection's name must be a str, not {type(name).__name__}")
        self.database = database
        self.name = name
        self._scope = scope
        self._ask = database.client.ask

    @property
    def full_name(self) -> str:
        return f"{self.database.name}.{self.name}"

    def run(self, plan: verbs.Plan[T]) -> T:
        """Carry out a plan of verbs.py on this collection's client."""
        return self.database.client.run(plan)

    def with_options(self, *, timeout_s: float) -> Collection:
        """The same collection, each of whose calls waits at most timeout_s for an answer."""
        return Collection(self.database, self.name, replace(self._scope, timeout_s=timeout_s))

    # Writing.

    def insert_one(self, document: MutableMapping[str, Any]) -> InsertOneResult:
        """Insert a document. One without `_id` is given an ObjectId, in the caller's own mapping.

        Raises DuplicateKeyError, InvalidDocument, DocumentTooLarge.
        """
        return self._ask(verbs.insert_one(self._scope, self.database.name, self.name, document))

    def insert_many(
        self, documents: Iterable[MutableMapping[str, Any]], *, ordered: bool = True
    ) -> InsertManyResult:
        """Insert documents, any number of them. ordered: stop at the first that fails; else try all, quicker.

        Raises BulkWriteError when some were refused; InvalidDocument for one that cannot be encoded: details["index"]
        says which, details["nInserted"] how many before it were inserted. Any other error carries nInserted too: at
        least so many were inserted.
        """
        return self.run(
            verbs.insert_many(self._scope, self.database.name, self.name, documents, ordered=ordered)
        )

    def replace_one(
        self, filter: Mapping[str, Any], replacement: Mapping[str, Any], *, upsert: bool = False
    ) -> UpdateResult:
        """Put replacement in the place of the first document that matches; with upsert, insert it if none does."""
        return self._ask(
            verbs.replace_one(self._scope, self.database.name, self.name, filter, replacement, upsert=upsert)
        )

    def delete_one(self, filter: Mapping[str, Any]) -> DeleteResult:
        return self._ask(verbs.delete(self._scope, self.database.name, self.name, filter, many=False))

    def delete_many(self, filter: Mapping[str, Any]) -> DeleteResult:
        """Delete every document that matches; {} matches all."""
        return self._ask(verbs.delete(self._scope, self.database.name, self.name, filter, many=True))

    def bulk_write(self, requests: Iterable[Write], *, ordered: bool = True) -> BulkWriteResult:
        """InsertOne, ReplaceOne, DeleteOne and DeleteMany, mixed. Raises BulkWriteError when some failed."""
        return self.run(bulk.bulk_write(self._scope, self.database.name, self.name, requests, ordered=ordered))

    def drop(self) -> None:
        """Drop the collection with all it holds; no error if there is none."""
        self.run(administration.drop_collection(self._scope, self.database.name, self.name))

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
    ) -> Cursor:
        """A cursor over the documents that match. Nothing is asked before its first document."""
        query = Query(
            self._scope, self.database.name, self.name, filter, projection,
            skip=skip, limit=limit, sort=sort, batch_size=batch_size,
        )  # fmt: skip
        return Cursor(self, query)

    def find_one(
        self,
        filter: Any = None,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        sort: Sort | None = None,
        skip: int = 0,
    ) -> dict[str, Any] | None:
        """One document that matches, or None. filter: a mapping, or the `_id` itself."""
        order = sort_list(sort) if sort else None
        return self._ask(
            verbs.find_one(
                self._scope, self.database.name, self.name, filter, projection=projection, sort=order, skip=skip
            )
        )

    def count_documents(self, filter: Mapping[str, Any]) -> int:
        """How many documents match; {} matches all."""
        return self._ask(verbs.count_documents(self._scope, self.database.name, self.name, filter))

    def estimated_document_count(self) -> int:
        """How many documents there are. The node keeps the number, so it is exact and costs nothing."""
        return self._ask(verbs.count_documents(self._scope, self.database.name, self.name, {}))

    # Not in this release.

    def update_one(self, *args: Any, **options: Any) -> NoReturn:
        """Not in this release: raises OperationFailure naming replace_one."""
        raise unsupported("update_one")

    def update_many(self, *args: Any, **options: Any) -> NoReturn:
        """Not in this release: raises OperationFailure naming bulk_write and ReplaceOne."""
        raise unsupported("update_many")

    def aggregate(self, *args: Any, **options: Any) -> NoReturn:
        """Not in this release: raises OperationFailure naming find."""
        raise unsupported("aggregate")

    # Names with dots: db.fs.files is the collection "fs.files".

    def __getitem__(self, name: str) -> Collection:
        return Collection(self.database, f"{self.name}.{name}", self._scope)

    def __getattr__(self, name: str) -> Collection:
        if name.startswith("_"):
            raise AttributeError(f"a collection has no attribute {name!r}; for the collection, use [{name!r}]")
        return self[name]

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        raise TypeError(
            f"a collection has no method {self.name.rpartition('.')[2]!r} in this release (it was taken for the name of "
            f"the collection {self.full_name!r})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Collection) and (self.database, self.name) == (other.database, other.name)

    def __hash__(self) -> int:
        return hash((self.database, self.name))

    def __bool__(self) -> bool:
        raise NotImplementedError("a collection is neither true nor false; compare with None")

    def __repr__(self) -> str:
        return f"Collection({self.full_name!r})"

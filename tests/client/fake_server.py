"""A node for the client's tests: the wire of node.wire on a loopback socket, documents in dicts, faults on demand.

It keeps what a client may rely on: `_id`s are unique, a write id is applied once, cursors live on the node, every answer
carries a position. Faults are queued and met by the next requests after the opening, one each.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from msgspec import Raw

from node import wire
from storage import canonical, compile_filter, decode_document, decode_value, encode_document, encode_value
from storage import errors as engine_errors
from storage.query.projection import compile_projection
from storage.query.sorting import compile_sort

WRITES = (wire.Insert, wire.Replace, wire.Update, wire.FindAndModify, wire.Delete, wire.Bulk, wire.DropCollection, wire.Commit)


class Fault(Enum):
    CUT_BEFORE = auto()  # the request is lost with its connection
    CUT_AFTER = auto()  # it is applied, and the answer is lost with the connection
    NO_ANSWER = auto()  # it is read and never answered
    NO_SUCH_ID = auto()  # answered under an id that was never asked


@dataclass
class Store:
    """Documents that several fake nodes may share, as a cluster does."""

    databases: dict[str, dict[str, dict[bytes, bytes]]] = field(default_factory=dict)
    applied: dict[bytes, Raw] = field(default_factory=dict)  # answers by write id
    epoch: int = 1
    seq: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def collection(self, request: Any) -> dict[bytes, bytes]:
        return self.databases.setdefault(request.db, {}).setdefault(request.collection, {})


class FakeNode:
    """Use as a context manager; `address` is "host:port"."""

    def __init__(
        self,
        *,
        role: str = "primary",
        primary: str = "",
        store: Store | None = None,
        key: wire.Key | None = None,
        users: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.role = role
        self.primary = primary
        self.store = store or Store()
        self.faults: deque[Fault | engine_errors.TwinlogError | None] = deque()
        self.requests: list[wire.Request] = []
        self.connections = 0
        self.met_fault = threading.Event()
        self._key = key
        self._users = users
        self._cursors: dict[int, deque[bytes]] = {}
        self.transactions: dict[bytes, dict[str, dict[str, dict[bytes, bytes]]]] = {}  # the whole store as each sees it
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> FakeNode:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_connections()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive(), "a fake node's thread must end with it"

    def cut_connections(self) -> None:
        """As a restart or an idle time-out does."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it is closed already

    def seen(self, kind: type[wire.Request]) -> list[Any]:
        return [request for request in self.requests if type(request) is kind]

    # Carrying bytes.

    def _start(self, work: Any, *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        keys = {} if self._key is None else {self._key.id: self._key.psk}
        session = wire.ServerSession(
            keys.get, wire.PortRole.CLIENT, plain_allowed=self._key is None, random_bytes=os.urandom
        )
        logged_in = self._users is None
        try:
            while True:
                event = session.next_event()
                if isinstance(event, wire.Ended):
                    return
                if isinstance(event, wire.Message):
                    request = wire.decode_request(event.data)
                    logged_in = self._answer(session, request, logged_in)
                    if logged_in is None:
                        return
                elif event is wire.NEED_DATA:
                    connection.sendall(session.data_to_send())
                    session.receive_data(connection.recv(65536))
        except wire.WireError:
            connection.sendall(session.data_to_send())
        except OSError:
            return
        finally:
            self._open.discard(connection)
            connection.close()

    def _answer(self, session: wire.ServerSession, request: Any, logged_in: bool) -> bool | None:
        """Whether the connection is logged in now; None cuts it."""
        if isinstance(request, wire.Login):
            right = self._users is not None and self._users.get(request.user) == request.password
            self._send(session, request, {} if right else engine_errors.AuthenticationFailed("wrong user or password"))
            return right
        if isinstance(request, wire.Hello):
            self._send(session, request, {"role": self.role, "node": "fake", "version": "0", "databases": {}})
            return logged_in
        is_anywhere = isinstance(request, wire.Anywhere)
        if is_anywhere:
            request.request.id = request.id
            request = request.request
        self.requests.append(request)
        fault = self.faults.popleft() if self.faults else None
        if fault is not None:
            self.met_fault.set()
        if fault is Fault.CUT_BEFORE:
            return None
        is_known = isinstance(request, wire.Commit) and request.request in self.store.applied  # no node refuses what it has applied
        is_refused = isinstance(fault, engine_errors.TwinlogError) and not is_known
        if not is_refused and type(request) in wire.PRIMARY_READS and self.role != "primary" and not is_anywhere:
            answer: Any = engine_errors.NotPrimary("this node is a standby", primary=self.primary)
        else:
            answer = fault if is_refused else self._do(request, logged_in)
        if fault is Fault.CUT_AFTER:
            return None
        if fault is Fault.NO_SUCH_ID:
            request.id += 1000
        if fault is not Fault.NO_ANSWER:
            self._send(session, request, answer)
        return logged_in

    def _send(self, session: wire.ServerSession, request: Any, answer: Any) -> None:
        if isinstance(answer, engine_errors.TwinlogError):
            failure = wire.Failure(request.id, answer.code, answer.name, answer.message, answer.fields)
            session.send_message(wire.encode_answer(failure))
            return
        result = answer if isinstance(answer, Raw) else wire.encode_fields(answer)
        session.send_message(wire.encode_answer(wire.Reply(request.id, result, self.store.epoch, self.store.seq)))

    def seen_inside(self, kind: type[wire.Request]) -> list[Any]:
        return [request.request for request in self.seen(wire.Inside) if type(request.request) is kind]

    # The verbs.

    def _do(self, request: Any, logged_in: bool) -> Any:
        if not logged_in:
            return engine_errors.Unauthorized("log in first")
        verb = getattr(self, f"_{type(request).__name__.lower()}")
        is_write = isinstance(request, WRITES)
        with self.store.lock:
            try:
                if not is_write:
                    return verb(request)
                if self.role != "primary":
                    return engine_errors.NotPrimary("this node is a standby", primary=self.primary)
                write_id = getattr(request, "request", b"")
                if write_id in self.store.applied:
                    return self.store.applied[write_id]
                result = wire.encode_fields(verb(request))
                self.store.seq += 1
                if write_id:
                    self.store.applied[write_id] = result
                return result
            except engine_errors.TwinlogError as error:
                return error

    def _ping(self, request: wire.Ping) -> Any:
        return {}

    def _status(self, request: wire.Status) -> Any:
        return {"node": "fake", "role": self.role, "marked": request.mark}

    def _promote(self, request: wire.Promote) -> Any:
        self.role = "primary"
        return {"role": self.role, "epoch": self.store.epoch}

    def _insert(self, request: wire.Insert) -> Any:
        ids, errors = [], []
        for index, raw in enumerate(request.docs):
            try:
                ids.append(Raw(self._put_new(request, bytes(raw), index)))
            except engine_errors.TwinlogError as error:
                errors.append([index, error.code, error.name, error.message, error.fields])
                if request.ordered:
                    break
        return {"n": len(ids), "ids": ids, "errors": errors}

    def _put_new(self, request: Any, document: bytes, index: int) -> bytes:
        held = self.store.collection(request)
        id_value = decode_document(document)["_id"]
        key = canonical(id_value)
        if key in held:
            raise engine_errors.DuplicateKey(f"_id {id_value!r} exists", key=encode_value(id_value), index=index)
        held[key] = document
        return encode_value(id_value)

    def _get(self, request: wire.Get) -> Any:
        self._wait_for(request)
        found = self.store.collection(request).get(canonical(decode_value(bytes(request.key))))
        return {"doc": None if found is None else Raw(found)}

    def _find(self, request: wire.Find) -> Any:
        self._wait_for(request)
        documents = [decode_document(document) for document in self._matching(request)]
        if not wire.is_absent(request.sort):
            documents.sort(key=compile_sort(decode_value(bytes(request.sort))))
        documents = documents[request.skip :]
        documents = documents[: request.limit] if request.limit else documents
        if not wire.is_absent(request.projection):
            documents = list(map(compile_projection(decode_value(bytes(request.projection))), documents))
        cursor = len(self._cursors) + 1
        self._cursors[cursor] = deque(encode_value(document) for document in documents)
        return self._batch(cursor, request.batch)

    def _more(self, request: wire.More) -> Any:
        if request.cursor not in self._cursors:
            raise engine_errors.CursorNotFound(f"no cursor {request.cursor}")
        return self._batch(request.cursor, request.batch)

    def _batch(self, cursor: int, rows: int) -> Any:
        left = self._cursors[cursor]
        documents = [Raw(left.popleft()) for _ in range(min(rows, len(left)))]
        if not left:
            del self._cursors[cursor]
        return {"docs": documents, "cursor": cursor if left else 0}

    def _killcursor(self, request: wire.KillCursor) -> Any:
        self._cursors.pop(request.cursor, None)
        return {}

    def _count(self, request: wire.Count) -> Any:
        self._wait_for(request)
        return {"n": len(self._matching(request))}

    def _estimatedcount(self, request: wire.EstimatedCount) -> Any:
        self._wait_for(request)
        return {"n": len(self.store.collection(request))}

    def _aggregate(self, request: wire.Aggregate) -> Any:
        """All documents, whatever the pipeline: what the client does with batches is the point."""
        self._wait_for(request)
        cursor = len(self._cursors) + 1
        self._cursors[cursor] = deque(self.store.collection(request).values())
        return self._batch(cursor, request.batch)

    def _wait_for(self, request: Any) -> None:
        asked = request.min_position
        if asked is not None and (self.store.epoch, self.store.seq) < tuple(asked):
            raise engine_errors.PositionTimeout("this node is behind", epoch=self.store.epoch, seq=self.store.seq)

    def _matching(self, request: Any) -> list[bytes]:
        matches = compile_filter(decode_value(bytes(request.filter)))
        held = self.store.collection(request)
        return [document for document in held.values() if matches(decode_document(document))]

    def _replace(self, request: wire.Replace) -> Any:
        found = self._matching(request)
        new = decode_value(bytes(request.doc))
        if found:
            new.setdefault("_id", decode_document(found[0])["_id"])
            self.store.collection(request)[canonical(new["_id"])] = encode_document(new)
            return {"matched": 1, "modified": int(encode_document(new) != found[0]), "upserted": None}
        if not request.upsert:
            return {"matched": 0, "modified": 0, "upserted": None}
        new.setdefault("_id", decode_value(bytes(request.filter)).get("_id", "made-by-the-node"))
        return {"matched": 0, "modified": 0, "upserted": Raw(self._put_new(request, encode_document(new), 0))}

    def _update(self, request: wire.Update) -> Any:
        """Of the operators only $inc, of which a second application shows."""
        found = self._matching(request)
        found = found if request.many else found[:1]
        for document in found:
            self._increase(request, document)
        return {"matched": len(found), "modified": len(found), "upserted": None}

    def _findandmodify(self, request: wire.FindAndModify) -> Any:
        found = self._matching(request)
        if not found:
            return {"doc": None, "matched": 0, "modified": 0, "deleted": 0, "upserted": None}
        changed = self._increase(request, found[0])
        return {"doc": Raw(changed if request.after else found[0]), "matched": 1, "modified": 1, "deleted": 0, "upserted": None}

    def _increase(self, request: Any, data: bytes) -> bytes:
        document = decode_document(data)
        for path, amount in decode_value(bytes(request.change))["$inc"].items():
            document[path] = document.get(path, 0) + amount
        changed = encode_document(document)
        self.store.collection(request)[canonical(document["_id"])] = changed
        return changed

    def _delete(self, request: wire.Delete) -> Any:
        found = self._matching(request)
        found = found if request.many else found[:1]
        for document in found:
            del self.store.collection(request)[canonical(decode_document(document)["_id"])]
        return {"n": len(found)}

    def _bulk(self, request: wire.Bulk) -> Any:
        total = {"inserted": 0, "matched": 0, "modified": 0, "deleted": 0, "upserted": {}, "errors": []}
        for index, write in enumerate(request.writes):
            try:
                self._bulk_write(request, index, write, total)
            except engine_errors.TwinlogError as error:
                total["errors"].append([index, error.code, error.name, error.message, error.fields])
                if request.ordered:
                    break
        return total

    def _bulk_write(self, request: wire.Bulk, index: int, write: list[Raw], total: dict[str, Any]) -> None:
        kind = decode_value(bytes(write[0]))
        place = (0, request.db, request.collection)
        if kind == "insert":
            self._put_new(request, bytes(write[1]), index)
            total["inserted"] += 1
        elif kind == "replace":
            part = self._replace(wire.Replace(*place, write[1], write[2], decode_value(bytes(write[3]))))
            total["matched"] += part["matched"]
            total["modified"] += part["modified"]
            if part["upserted"] is not None:
                total["upserted"][index] = part["upserted"]
        else:
            total["deleted"] += self._delete(wire.Delete(*place, write[1], decode_value(bytes(write[2]))))["n"]

    def _begin(self, request: wire.Begin) -> Any:
        self._wait_for(request)
        transaction = os.urandom(16)
        self.transactions[transaction] = deepcopy(self.store.databases)
        return {"transaction": transaction}

    def _inside(self, request: wire.Inside) -> Any:
        if request.transaction not in self.transactions:
            raise engine_errors.NoSuchTransaction("it is not open here")
        verb = getattr(self, f"_{type(request.request).__name__.lower()}")
        if isinstance(request.request, WRITES) and self.role != "primary":
            raise engine_errors.NotPrimary("this node is a standby", primary=self.primary)
        outside, self.store.databases = self.store.databases, self.transactions[request.transaction]
        try:
            return verb(request.request)
        finally:
            self.store.databases = outside

    def _commit(self, request: wire.Commit) -> Any:
        """The last committer wins: conflicts are met by putting one among the faults."""
        if request.transaction not in self.transactions:
            raise engine_errors.NoSuchTransaction("it is not open here")
        self.store.databases = self.transactions.pop(request.transaction)
        return {}

    def _abort(self, request: wire.Abort) -> Any:
        self.transactions.pop(request.transaction, None)
        return {}

    def _listdatabases(self, request: wire.ListDatabases) -> Any:
        return {"databases": sorted(self.store.databases)}

    def _createdatabase(self, request: wire.CreateDatabase) -> Any:
        self.store.databases.setdefault(request.db, {})
        return {}

    def _dropdatabase(self, request: wire.DropDatabase) -> Any:
        self.store.databases.pop(request.db, None)
        return {}

    def _compact(self, request: wire.Compact) -> Any:
        return {"before": 10, "after": 5, "seconds": 0.1, "shards": 1, "findings": []}

    def _listcollections(self, request: wire.ListCollections) -> Any:
        return {"collections": sorted(self.store.databases.get(request.db, {}))}

    def _dropcollection(self, request: wire.DropCollection) -> Any:
        self.store.databases.get(request.db, {}).pop(request.collection, None)
        return {}

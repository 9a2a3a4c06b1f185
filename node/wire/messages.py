"""Client-port requests and answers: Structs to MessagePack and back. Pure; knows no socket and no meaning.

    request  [ op, id, ... ]          an array: the operation's name, the request's id, then the fields in order
    answer   [ "reply", id, result, epoch, seq ]
             [ "failure", id, code, name, message, fields ]

Fields at the end that have their default may be left out; a field too many is refused, so that an option which this
end does not know is never ignored in silence. Documents, filters and keys are `msgspec.Raw`: MessagePack that is
carried and not decoded, and for the length of a Raw it holds on to the message it came in. An optional Raw that
is absent is nil (ABSENT; ask is_absent). Bytes that are not one of the messages raise BadMessage, with the request's id when it can be read.

Numbers are checked for their bounds here; names and documents are the engine's to check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Raw

from .backup_messages import (
    Backup,
    BackupCollections,
    BackupJob,
    BackupStatus,
    DeleteBackup,
    ListBackups,
    PruneArchive,
    ReadBackup,
    RestoreBackup,
    ScheduleBackups,
    VerifyBackup,
)
from .errors import BadMessage
from .orders import (
    Check,
    Fence,
    Pause,
    Promote,
    Rejoin,
    Reseed,
    Resume,
    RoleHistory,
    SalvageDrop,
    SalvageList,
    SalvageNote,
    SalvageShow,
    Scrub,
    Status,
    Switchover,
    Unfence,
)
from .request import (
    ABSENT,
    BATCH_ROWS_DEFAULT,
    INDEXES_MAX,
    WRITES_MAX,
    BatchRows,
    BulkWrite,
    MinPosition,
    Name,
    Natural,
    NewIndex,
    Password,
    Request,
    RequestId,
    TransactionId,
    WriteId,
)

# The connection.


class Hello(Request, tag="hello"):
    """The first request: who dials. Answer: {role, node, version, protocol, databases: {name: [epoch, seq]}}."""

    client: Name = ""


class Login(Request, tag="login"):
    """Become a user of the node. Answer: {role}."""

    user: Name
    password: Password

    def __repr__(self) -> str:
        return f"Login(id={self.id}, user={self.user!r}, password=...)"


class Ping(Request, tag="ping"):
    """Answer: {}."""


# Reading. min_position: answer only from a state at or after (epoch, seq). max_time_ms: work on it for no longer, 0 = no limit;
# of a cursor, over all its batches, the time between them not counted.


class Get(Request, tag="get"):
    """One document by its `_id`. Answer: {doc: document or nil}."""

    db: Name
    collection: Name
    key: Raw
    min_position: MinPosition | None = None


class Find(Request, tag="find"):
    """Open a cursor. Answer: {docs: [...], cursor: int}, cursor 0 when that was all. limit 0 = no limit.

    hint: an index's name or keys; no more than looked at, since every field is indexed.
    """

    db: Name
    collection: Name
    filter: Raw
    sort: Raw = ABSENT
    projection: Raw = ABSENT
    skip: Natural = 0
    limit: Natural = 0
    batch: BatchRows = BATCH_ROWS_DEFAULT
    min_position: MinPosition | None = None
    max_time_ms: Natural = 0
    hint: Raw = ABSENT


class More(Request, tag="more"):
    """The next batch of a cursor. Answer as Find's."""

    cursor: Natural
    batch: BatchRows = BATCH_ROWS_DEFAULT


class KillCursor(Request, tag="killcursor"):
    """Forget a cursor, open or not. Answer: {}."""

    cursor: Natural


class Count(Request, tag="count"):
    """How many documents match, of those behind the first `skip` and no more than `limit` (0 = no limit). Answer: {n}."""

    db: Name
    collection: Name
    filter: Raw
    min_position: MinPosition | None = None
    skip: Natural = 0
    limit: Natural = 0
    max_time_ms: Natural = 0


class EstimatedCount(Request, tag="estimatedcount"):
    """How many documents the collection has, without looking at them. Answer: {n}."""

    db: Name
    collection: Name
    min_position: MinPosition | None = None


class Distinct(Request, tag="distinct"):
    """The different values at a path over the documents that match. Answer: {values: [...]}."""

    db: Name
    collection: Name
    path: Name
    filter: Raw
    max_time_ms: Natural = 0
    min_position: MinPosition | None = None


class Aggregate(Request, tag="aggregate"):
    """Run a pipeline: a list of stages. Answer as Find's. One that ends in $out or $merge takes the role that writes do."""

    db: Name
    collection: Name
    pipeline: Raw
    batch: BatchRows = BATCH_ROWS_DEFAULT
    max_time_ms: Natural = 0
    let: Raw = ABSENT
    min_position: MinPosition | None = None


class Explain(Request, tag="explain"):
    """How another request is answered, found by doing it. verb: find, count, distinct or aggregate; arguments: a map of its fields.

    Answer: {explain: map}.
    """

    db: Name
    collection: Name
    verb: Name
    arguments: Raw
    min_position: MinPosition | None = None
    max_time_ms: Natural = 0


class ListIndexes(Request, tag="listindexes"):
    """Answer: {indexes: [{v, key, name, ...}, ...]}, that of `_id` first; none when there is no such collection."""

    db: Name
    collection: Name
    min_position: MinPosition | None = None


# Writing. request: the write's own id; the same id again is answered, not applied again.


class Insert(Request, tag="insert"):
    """Answer: {n, ids: [...], errors: [[index, code, name, message, fields], ...]}."""

    db: Name
    collection: Name
    docs: Annotated[list[Raw], Meta(max_length=WRITES_MAX)]
    ordered: bool = True
    request: WriteId = b""


class Replace(Request, tag="replace"):
    """Put doc in the place of the first document that matches (of the sort). Answer: {matched, modified, upserted: id or nil}."""

    db: Name
    collection: Name
    filter: Raw
    doc: Raw
    upsert: bool = False
    request: WriteId = b""
    sort: Raw = ABSENT


class Update(Request, tag="update"):
    """Change the first document that matches, or all with many, by operators (a map) or a pipeline (a list).

    sort: which is the first; not with many. Answer: {matched, modified, upserted: id or nil}.
    """

    db: Name
    collection: Name
    filter: Raw
    change: Raw
    many: bool = False
    upsert: bool = False
    array_filters: Raw = ABSENT
    sort: Raw = ABSENT
    request: WriteId = b""


class FindAndModify(Request, tag="findandmodify"):
    """Change one document and answer it as it was, or with after as it is then, projected.

    change: operators or a pipeline to update, a document to replace, nil to delete.
    Answer: {doc: document or nil, matched, modified, deleted, upserted: id or nil}.
    """

    db: Name
    collection: Name
    filter: Raw
    action: Literal["update", "replace", "delete"]
    change: Raw = ABSENT
    sort: Raw = ABSENT
    projection: Raw = ABSENT
    upsert: bool = False
    after: bool = False
    array_filters: Raw = ABSENT
    request: WriteId = b""


class Delete(Request, tag="delete"):
    """Delete the first document that matches, or all with many. Answer: {n}."""

    db: Name
    collection: Name
    filter: Raw
    many: bool = False
    request: WriteId = b""


class Bulk(Request, tag="bulk"):
    """Mixed writes, each [kind, arguments...]; kinds: see the engine's verbs.

    Answer: {inserted, matched, modified, deleted, upserted: {index: id}, errors}.
    """

    db: Name
    collection: Name
    writes: Annotated[list[BulkWrite], Meta(max_length=WRITES_MAX)]
    ordered: bool = True
    request: WriteId = b""


# Declared indexes.


class CreateIndexes(Request, tag="createindexes"):
    """Declare indexes, one after the other, and build the unique ones; the ones before one that fails stay. Answer: {names: [...]}.

    keys: a list of [field, 1, -1, "text" or "hashed"]; options: a map.
    """

    db: Name
    collection: Name
    indexes: Annotated[list[NewIndex], Meta(min_length=1, max_length=INDEXES_MAX)]
    request: WriteId = b""


class DropIndex(Request, tag="dropindex"):
    """Drop an index; name "*": all but that of `_id`. Answer: {}."""

    db: Name
    collection: Name
    name: Name
    request: WriteId = b""


# Transactions. A transaction belongs to the user that began it and to the node that answered, not to a connection. One request of it
# is under way at a time.


class Begin(Request, tag="begin"):
    """Begin a transaction at a snapshot of a database, which is made if need be by a user who may write.

    max_time_ms: it ends by itself after so long, 0 = the node's own limit, which is also the longest.
    Answer: {transaction: 16 bytes}, at the snapshot's position.
    """

    db: Name
    min_position: MinPosition | None = None
    max_time_ms: Natural = 0


class Commit(Request, tag="commit"):
    """Apply what the transaction wrote, all or nothing; request: by it a commit that is sent again is answered, not applied again.

    db: where the answer to a repeated commit is remembered. Answer: {}, at the commit's position.
    """

    db: Name
    transaction: TransactionId
    request: WriteId = b""


class Abort(Request, tag="abort"):
    """End the transaction and forget what it wrote; no error when it is not there. Answer: {}."""

    transaction: TransactionId


# Databases and collections.


class ListDatabases(Request, tag="listdatabases"):
    """system: with Twinlog's own. Answer: {databases: [...]}."""

    system: bool = False


class ListCollections(Request, tag="listcollections"):
    """Answer: {collections: [...]}."""

    db: Name


class DropCollection(Request, tag="dropcollection"):
    """Answer: {}."""

    db: Name
    collection: Name


class CreateDatabase(Request, tag="createdatabase"):
    """shards and crc: nil leaves the node's default. Answer: {}."""

    db: Name
    shards: Natural | None = None
    crc: bool | None = None


class DropDatabase(Request, tag="dropdatabase"):
    """Answer: {}."""

    db: Name


class Compact(Request, tag="compact"):
    """Rewrite this node's shard logs of a database without what is stale; each node does its own.

    Answer: {before, after: bytes of the shard logs, seconds, shards, findings: [text, ...]: what was left as it is, and why}.
    """

    db: Name


# What a transaction may be asked, and what it refuses by name. Their own ids mean nothing there.
InsideRequest = (
    Get | Find | More | KillCursor | Count | EstimatedCount | Distinct | Aggregate | Explain | ListIndexes
    | Insert | Replace | Update | FindAndModify | Delete | Bulk | CreateIndexes | DropIndex | ListCollections | DropCollection
)  # fmt: skip


# What the primary alone answers, unless a standby may: then it is asked for inside an Anywhere.
PrimaryRead = (
    Get | Find | Count | EstimatedCount | Distinct | Aggregate | Explain | ListIndexes | ListDatabases | ListCollections | Begin
)  # fmt: skip


PRIMARY_READS: frozenset[type[Request]] = frozenset(get_args(PrimaryRead))


class Anywhere(Request, tag="anywhere"):
    """A read that any node may answer, from the state that it has; its own id means nothing there. Answer: that of the read."""

    request: PrimaryRead


class Inside(Request, tag="inside"):
    """A request inside a transaction: answered from its snapshot and what it has written. Answer: that of the request.

    A cursor that is opened inside is asked for more inside, and ends with the transaction.
    """

    transaction: TransactionId
    request: InsideRequest


AnyRequest = (
    Hello | Login | Ping | Get | Find | More | KillCursor | Count | EstimatedCount | Distinct | Aggregate | Explain | ListIndexes
    | Insert | Replace | Update | FindAndModify | Delete | Bulk | CreateIndexes | DropIndex
    | ListDatabases | ListCollections | DropCollection | CreateDatabase | DropDatabase | Compact | Scrub
    | Status | Promote | Switchover | Fence | Unfence | Rejoin | Reseed | Pause | Resume | RoleHistory | Check
    | SalvageList | SalvageShow | SalvageNote | SalvageDrop
    | Begin | Inside | Commit | Abort | Anywhere
    | Backup | ListBackups | BackupStatus | DeleteBackup | VerifyBackup | RestoreBackup | ScheduleBackups | BackupJob
    | BackupCollections | ReadBackup | PruneArchive
)  # fmt: skip


class Answer(msgspec.Struct, array_like=True, tag_field="kind", gc=False):
    """What every answer begins with: the id of the request it answers."""

    id: RequestId


class Reply(Answer, tag="reply"):
    """The request was done. result: a MessagePack map. epoch, seq: the database's position as the answer saw it."""

    result: Raw
    epoch: int = 0
    seq: int = 0


class Failure(Answer, tag="failure"):
    """The request was refused: the four things that make the same error again on the other side."""

    code: int
    name: str
    message: str
    fields: dict[str, Any]


AnyAnswer = Reply | Failure


class _Head(msgspec.Struct, array_like=True):
    """The first two fields of any message; what follows is walked over and not kept."""

    name: Raw
    id: RequestId


EMPTY_MAP = Raw(b"\x80")

# Immutable once built, so they may be shared: a Decoder and an Encoder keep nothing between calls.
_REQUESTS = msgspec.msgpack.Decoder(AnyRequest)
_ANSWERS = msgspec.msgpack.Decoder(AnyAnswer)
_HEAD = msgspec.msgpack.Decoder(_Head)
_VALUES = msgspec.msgpack.Decoder()
_ENCODER = msgspec.msgpack.Encoder()

# What the decoder raises for bytes that are not the message: UnicodeDecodeError for text that is not UTF-8, RecursionError
# for nesting beyond the interpreter's depth (inside a Raw too, which is walked over to find its end).
_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def encode_request(request: Request) -> bytes:
    return _ENCODER.encode(request)


def encode_answer(answer: Answer) -> bytes:
    """Raises OverflowError or TypeError for values MessagePack cannot carry: a bug of the caller."""
    return _ENCODER.encode(answer)


def encode_fields(value: Any) -> Raw:
    """Plain values (str, int, float, bool, None, bytes, list, dict, Raw) as one Raw, for results made by hand."""
    return Raw(_ENCODER.encode(value))


def encode_batch(documents: Sequence[bytes], cursor: int) -> Raw:
    """{"docs": documents, "cursor": cursor} as encode_fields writes it, in a fifth of its time: the documents are only put one after the other."""
    count = len(documents)
    head = bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big") if count < 2**16 else b"\xdd" + count.to_bytes(4, "big")
    return Raw(b"".join((b"\x82\xa4docs", head, *documents, b"\xa6cursor", _ENCODER.encode(cursor))))


def decode_fields(data: bytes | Raw) -> Any:
    """The reverse of encode_fields for results without documents. Raises BadMessage."""
    try:
        return _VALUES.decode(data)
    except _REFUSED as error:
        raise BadMessage(f"result: {error}", id=-1) from error


def is_absent(value: Raw) -> bool:
    return bytes(value) == b"\xc0"


def decode_request(data: bytes) -> AnyRequest:
    """One request from one whole message. Raises BadMessage (fields: id, or -1)."""
    try:
        return _REQUESTS.decode(data)
    except _REFUSED as error:
        raise _bad_message("request", data, error) from error


def decode_answer(data: bytes) -> AnyAnswer:
    """One answer from one whole message. Raises BadMessage (fields: id, or -1)."""
    try:
        return _ANSWERS.decode(data)
    except _REFUSED as error:
        raise _bad_message("answer", data, error) from error


def _bad_message(what: str, data: bytes, error: Exception) -> BadMessage:
    """The refusal, with the id read again on its own: the slow way, but only for messages that are wrong anyway."""
    request_id = -1
    try:
        request_id = _HEAD.decode(data).id
    except _REFUSED:
        request_id = -1
    return BadMessage(f"{what} of {len(data)} bytes: {error}", id=request_id)

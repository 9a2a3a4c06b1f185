"""Every refusal that Twinlog can give, cut by who must act. Pure: knows no file, no socket, no clock.

An error has a name (its class), a numeric code (MongoDB's where MongoDB has one, so that users of its drivers
recognise it), a message that names the thing, the rule and the next step, and fields for programs. The same four
things travel over the client wire; `from_wire` makes the same class again on the other side.
"""

from __future__ import annotations

import errno
from typing import Any


class TwinlogError(Exception):
    """The root of all refusals. `fields` holds plain values (str, int, bytes, list, dict) for programs.

    A field named `code` takes the place of the class's code: one class of query errors has many codes in MongoDB."""

    code: int = 8

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields
        if "code" in fields:
            self.code = fields["code"]

    @property
    def name(self) -> str:
        return type(self).__name__


# The application must change what it asks for.


class BadDocument(TwinlogError):
    """A document breaks a rule of the document format (not a map, bad key, unknown type, too deep, bad `_id`)."""

    code = 2


class DocumentTooLarge(TwinlogError):
    """A document is over 16 MiB."""

    code = 10334


class BadQuery(TwinlogError):
    """A filter, sort, projection or option that the query language does not have."""

    code = 2


class BadName(TwinlogError):
    """A database or collection name outside the rules."""

    code = 73


class BadRequest(TwinlogError):
    """A well-formed message that makes no sense: unknown operation, missing argument, wrong type."""

    code = 9


class DuplicateKey(TwinlogError):
    """A write met another document with the same `_id`, or the same values in a unique index. Fields: collection, index; of an
    `_id` key (encoded), else key_pattern and key_value (encoded maps; the latter is left out when it is long)."""

    code = 11000


class CommitTooLarge(TwinlogError):
    """An atomic group is over max_commit (16 MiB or 5,000 documents)."""

    code = 10334


class TransactionTooLarge(CommitTooLarge):
    """A transaction would write more than one commit may hold, or more than all open transactions may: the write that went over is not in it."""

    code = 257


class NoSuchTransaction(TwinlogError):
    """The transaction has ended: committed, aborted, over its time limit, or its node restarted. Run it again."""

    code = 251


class OperationNotSupportedInTransaction(TwinlogError):
    """A verb that no transaction can hold: declare indexes, drop collections and write $out or $merge outside of it."""

    code = 263


class ImmutableField(TwinlogError):
    """A replacement would change `_id`."""

    code = 66


class QueryTooLarge(TwinlogError):
    """A sort without a useful limit needs more memory than a query may take."""

    code = 292


class MaxTimeMSExpired(TwinlogError):
    """A query took longer than the max_time_ms that it was given."""

    code = 50


class AnswerForgotten(TwinlogError):
    """A request that came again had been applied, but what it answered was not kept. Fields: seq."""

    code = 217


class IndexNotFound(TwinlogError):
    """No index of that name was declared."""

    code = 27


class BadIndex(TwinlogError):
    """An index cannot be made as asked; codes 67 (cannot be created), 85 and 86 (another one has that name or these keys)."""

    code = 67


class NoSuchDatabase(TwinlogError):
    """The named database does not exist on this node."""

    code = 26


class NoSuchBackup(TwinlogError):
    """The named backup is not on this node's shelf."""

    code = 26


class BackupNeeded(TwinlogError):
    """A backup cannot be deleted alone: others hold references to its bytes. Fields: needed_by, newest first."""

    code = 20


class DatabaseExists(TwinlogError):
    """A database of that name exists already, with other fixed options."""

    code = 48


class CursorNotFound(TwinlogError):
    """The cursor was never opened here, has ended, timed out, or its node restarted: run the query again."""

    code = 43


class SnapshotTooOld(TwinlogError):
    """A read view reached its age or size limit: run the query again."""

    code = 239


class Unauthorized(TwinlogError):
    """The connection's role does not allow the operation."""

    code = 13


class AuthenticationFailed(TwinlogError):
    """Wrong user, password or key."""

    code = 18


# The caller should wait, or go elsewhere.


class WriteConflict(TwinlogError):
    """Something that the transaction writes changed after its snapshot: run it again. Fields: collection; of a document its `_id` (encoded),
    of an entry in a unique index its index."""

    code = 112


class NotPrimary(TwinlogError):
    """This node does not take writes. Fields: primary (an address, or empty when unknown)."""

    code = 10107


class ReadOnly(TwinlogError):
    """The node or database takes no writes for a reason it names (frozen, damaged, waiting for its standbys)."""

    code = 10107


class Overloaded(TwinlogError):
    """A bound was reached; nothing was done. Fields: bound (its name), limit, retry_after_ms (0: waiting alone will not help)."""

    code = 462

    def __init__(self, message: str, *, bound: str, limit: int, retry_after_ms: int, **fields: Any) -> None:
        super().__init__(message, bound=bound, limit=limit, retry_after_ms=retry_after_ms, **fields)


class AckTimeout(TwinlogError):
    """The commit is kept here, but too few standbys confirmed it in time. Fields: epoch, seq."""

    code = 64


class PositionTimeout(TwinlogError):
    """The node did not reach `min_position` in time. Fields: epoch, seq of the node."""

    code = 50


class ShuttingDown(TwinlogError):
    """The node is stopping: connect to another or try again soon."""

    code = 91


# The operator must act.


class ConfigError(TwinlogError):
    """A configuration value breaks a rule. Fields: path (YAML path)."""

    code = 2


class DirectoryInUse(TwinlogError):
    """Another process holds the data directory."""

    code = 98


class NewerFormat(TwinlogError):
    """The files were written by a newer Twinlog: open them with that one."""

    code = 99


class DiskFull(TwinlogError):
    """Free space is below the reserve: writes are refused, reads go on, and writing resumes by itself."""

    code = 14031


class DiskFailed(TwinlogError):
    """A write or sync failed: the node takes no more writes until an operator has looked."""

    code = 14031


class DamagedRecord(TwinlogError):
    """Bytes on disk are not what was written. Fields: file, offset."""

    code = 14032


class PeerError(TwinlogError):
    """The other end of a link broke the protocol: that link is closed, nothing else."""

    code = 17


class PromotionRefused(TwinlogError):
    """The node cannot be promoted as asked. Fields: behind (commits known to be missing)."""

    code = 20


class InternalError(TwinlogError):
    """A bug in Twinlog: the log has the trace."""

    code = 8


OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)
ENOKEY = getattr(errno, "ENOKEY", errno.EACCES)  # of an encrypted file whose key is not there
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # of a call that opens something: it may go well the next time


def of_disk(error: OSError, doing: str) -> DiskFull | DiskFailed | Overloaded | ReadOnly:
    """The refusal for a disk that did not do what was asked; nothing was acknowledged."""
    if error.errno in OUT_OF_SPACE:
        return DiskFull(f"{doing}: no space left ({error}); free some and try again")
    if error.errno in OUT_OF_DESCRIPTORS:
        return Overloaded(
            f"{doing}: the process has no file descriptor or memory left ({error}); try again soon, or raise the limit (ulimit -n)",
            bound="descriptors",
            limit=0,
            retry_after_ms=1000,
        )
    if error.errno == errno.EROFS:
        return ReadOnly(f"{doing}: the file system is read-only; mount it for writing, then restart the node")
    if error.errno == ENOKEY or str(error.filename).startswith("s3://"):
        return DiskFailed(f"{doing}: {error.filename}: {error.strerror}")  # which says what to do
    return DiskFailed(f"{doing}: {error}; check the device")


def _every_class(root: type[TwinlogError]) -> dict[str, type[TwinlogError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found.update(_every_class(child))
    return found


BY_NAME = _every_class(TwinlogError)


def from_wire(name: str, message: str, fields: dict[str, Any]) -> TwinlogError:
    """The error a peer named; an unknown name (a newer peer) becomes TwinlogError with the name kept in front."""
    known = BY_NAME.get(name)
    if known is Overloaded:
        fields = {"bound": "", "limit": 0, "retry_after_ms": 1000, **fields}  # what an older peer left out
    if known is None:
        return TwinlogError(f"{name}: {message}", **fields)
    return known(message, **fields)

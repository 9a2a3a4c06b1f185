"""What a call of the client library can raise, in PyMongo's shape and names. Pure.

    TwinlogError
      ConnectionFailure                no node could be reached, or the connection was lost
        AutoReconnect                  the next call connects again by itself
          NetworkTimeout               no answer in time: whether a write was applied is unknown
          NotPrimaryError              no node took the write
          ServerSelectionTimeoutError  no node of the asked kind was found in time
        WaitQueueTimeoutError          every connection of the pool stayed busy
      ConfigurationError, InvalidURI   a wrong option, key file or URL
      InvalidOperation, InvalidName    a wrong call
      InvalidDocument                  a document breaks the format's rules
        DocumentTooLarge
      OperationFailure                 the node refused; `code` and `details` say what
        KeyNotFound, KeyExists         of a key-value store
        WriteError, DuplicateKeyError, WTimeoutError, BulkWriteError, CursorNotFound, ExecutionTimeout, Overloaded,
        WriteConflict, NoSuchTransaction, TransactionTooLarge

Errors met in a transaction carry labels, as PyMongo's do: has_error_label(TRANSIENT) says that nothing of it was kept and running it
again may help, has_error_label(UNKNOWN_COMMIT) that whether it was committed is not known and committing it again tells.

A node's refusal is (name, code, message, fields). `details` keeps all four: details["name"] is the engine's own name
of the error, details["fields"] its values. `from_failure` is the one place that chooses the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BULK_WRITE_CODE = 65
TRANSIENT = "TransientTransactionError"
UNKNOWN_COMMIT = "UnknownTransactionCommitResult"


class TwinlogError(Exception):
    """The root. `code` is None for what the client found out by itself."""

    def __init__(self, message: str, code: int | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.details: dict[str, Any] = dict(details or {})

    def has_error_label(self, label: str) -> bool:
        """TransientTransactionError or UnknownTransactionCommitResult."""
        return label in self.details.get("errorLabels", ())

    def add_error_label(self, label: str) -> None:
        self.details["errorLabels"] = [*self.details.get("errorLabels", ()), label]


class ConnectionFailure(TwinlogError):
    """A node could not be reached, or the connection to it ended."""


class AutoReconnect(ConnectionFailure):
    """The connection was lost and retrying did not help; the next call connects again."""


class NetworkTimeout(AutoReconnect):
    """No answer came within timeout_s. A write may or may not have been applied."""


class NotPrimaryError(AutoReconnect):
    """No reachable node takes writes now."""


class ServerSelectionTimeoutError(AutoReconnect):
    """No node of the asked kind (primary, standby) was found within retry_s."""


class WaitQueueTimeoutError(ConnectionFailure):
    """All connections of the pool stayed in use for timeout_s: raise `pool`, or call from fewer threads."""


class ConfigurationError(TwinlogError):
    """An option, environment variable or key file is wrong."""


class InvalidURI(ConfigurationError):
    """The URL does not follow twinlog://[user[:password]@]host[:port][,host[:port]...]/[database][?options]."""


class InvalidOperation(TwinlogError):
    """The call makes no sense here: a closed client, a cursor that has begun, an empty list."""


class InvalidName(TwinlogError):
    """A database or collection name outside the rules."""


class InvalidDocument(TwinlogError):
    """A document, filter or value that the format cannot hold."""


class DocumentTooLarge(InvalidDocument):
    """A document is over 16 MiB."""


class OperationFailure(TwinlogError):
    """The node refused the operation."""


class Overloaded(OperationFailure):
    """A bound of the node was reached, and waiting for retry_s did not help. Nothing was done."""

    @property
    def bound(self) -> str:
        """Its name: of a queue, or of a setting."""
        return str(self.details.get("fields", {}).get("bound", ""))

    @property
    def retry_after_ms(self) -> int:
        """How long the node asks you to wait before you try again; 0: waiting alone will not help."""
        asked = self.details.get("fields", {}).get("retry_after_ms", 0)
        return int(asked) if isinstance(asked, (int, float)) else 0


class CursorNotFound(OperationFailure):
    """The node no longer has the cursor: run the query again."""


class ExecutionTimeout(OperationFailure):
    """The node gave up: max_time_ms was used up, or its own time limit, for instance waiting for min_position."""


class WriteConflict(OperationFailure):
    """A document that the transaction wrote was changed by somebody else after it began: nothing of it was kept, run it again."""


class NoSuchTransaction(OperationFailure):
    """The transaction is over: its time limit passed, it was aborted, or its node restarted. Nothing of it was kept."""


class TransactionTooLarge(OperationFailure):
    """The transaction wrote more than one commit may hold: 5,000 documents or 16 MiB. Split it."""


class KeyNotFound(OperationFailure, KeyError):
    """A key-value store does not have the key."""

    __str__ = Exception.__str__  # KeyError's shows the message in quotes


class KeyExists(OperationFailure):
    """A key-value store has the key already."""


class WriteError(OperationFailure):
    """One write was refused."""


class DuplicateKeyError(WriteError):
    """A document with this `_id`, or these values of a unique index, exists already: details' keyPattern and keyValue."""


class WTimeoutError(OperationFailure):
    """The write is kept on the primary, but too few standbys confirmed it in time."""


class BulkWriteError(OperationFailure):
    """Some writes of insert_many or bulk_write failed.

    details: writeErrors (list of {index, code, errmsg, name, op}), nInserted, nMatched, nModified, nRemoved,
    nUpserted, upserted (list of {index, _id}).
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        errors = results["writeErrors"]
        first = f"; the first is at index {errors[0]['index']}: {errors[0]['errmsg']}" if errors else ""
        super().__init__(f"{len(errors)} of the writes failed{first}", BULK_WRITE_CODE, results)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.details,)


_CLASS_OF: dict[str, type[TwinlogError]] = {
    "AckTimeout": WTimeoutError,
    "BadDocument": InvalidDocument,
    "BadName": InvalidName,
    "ConfigError": ConfigurationError,
    "CursorNotFound": CursorNotFound,
    "DocumentTooLarge": DocumentTooLarge,
    "DuplicateKey": DuplicateKeyError,
    "ImmutableField": WriteError,
    "MaxTimeMSExpired": ExecutionTimeout,
    "NoSuchTransaction": NoSuchTransaction,
    "NotPrimary": NotPrimaryError,
    "Overloaded": Overloaded,
    "PeerError": ConnectionFailure,
    "PositionTimeout": ExecutionTimeout,
    "ReadOnly": NotPrimaryError,
    "ShuttingDown": AutoReconnect,
    "TransactionTooLarge": TransactionTooLarge,
    "WriteConflict": WriteConflict,
}


def from_failure(name: str, code: int, message: str, fields: Mapping[str, Any]) -> TwinlogError:
    """The error to raise for a refusal. A name of a newer node becomes OperationFailure, the name kept in details."""
    details = {"name": name, "code": code, "errmsg": message, "fields": dict(fields)}
    return _CLASS_OF.get(name, OperationFailure)(message, code, details)

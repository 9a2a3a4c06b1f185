"""What can be wrong with bytes on a wire, cut by what the end that notices can do. Pure.

Every error here ends at most the one connection it was met on. `refusal` is the name of the error class (in storage's
list) that an application or operator should see for it; the wire imports nothing of storage, so it is a plain string:
`from_wire(error.refusal, error.message, error.fields)` makes the other one.
"""

from __future__ import annotations

from typing import Any, ClassVar


class WireError(Exception):
    """The root. `fields` holds plain values (str, int, bytes) for programs."""

    refusal: ClassVar[str] = "PeerError"

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    @property
    def name(self) -> str:
        return type(self).__name__


# The opening: the server says these to the client in its refusal, so both ends know the name.


class NotTwinlog(WireError):
    """The other end does not speak this protocol: its first bytes are something else."""


class VersionRefused(WireError):
    """The other end speaks another protocol version. Fields: asked, spoken."""


class PortRefused(WireError):
    """A client dialled the cluster port or a node the client port. Fields: asked, served."""


class PlainRefused(WireError):
    """The server takes only connections under a key."""

    refusal = "AuthenticationFailed"


class UnknownKey(WireError):
    """The server holds no key of that id. Fields: key_id (hex)."""

    refusal = "AuthenticationFailed"


class HandshakeFailed(WireError):
    """The key id is known but the handshake does not open: another key under the same id, or altered bytes."""

    refusal = "AuthenticationFailed"


# The stream after it.


class BadPacket(WireError):
    """A packet was altered, repeated, skipped or reordered, or was sealed under another key. Fields: packet."""


class PacketTooLong(WireError):
    """A packet claims a length outside the limits. Fields: length, limit."""


class MessageTooLong(WireError):
    """A message is over the limit, or empty. Fields: length, limit."""


class StreamCut(WireError):
    """The stream ended inside the opening, a packet or a message. Fields: missing (bytes, or -1 when unknown)."""


class BadMessage(WireError):
    """A whole message that is not one of the known requests or answers.

    Fields: id (the request's id when it could still be read, else -1): with an id the connection can go on, and the
    caller answers a Failure for that id.
    """

    refusal = "BadRequest"


class KeyFileError(WireError):
    """A key file breaks its format. Fields: line (counted from 1)."""

    refusal = "ConfigError"


OPENING_ERRORS: dict[str, type[WireError]] = {
    error.__name__: error
    for error in (NotTwinlog, VersionRefused, PortRefused, PlainRefused, UnknownKey, HandshakeFailed)
}

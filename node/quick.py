"""The quick forms of the client port: the commonest requests as plain tuples, the commonest replies as bytes. Pure.

A hub that has read many messages asks `requests` about all of them at once. One that is exactly one of these forms, and
whose document or key is seen to be sound, comes back as a tuple:

    (INSERT, rid, db, collection, write_id, key, id_value, doc)     an insert of one document
    (GET, rid, db, collection, key)                                 a get without min_position, by an int, text or an ObjectId
    (PING, rid)

    rid       the request's id as its MessagePack bytes came, so that the reply can repeat them
    key       the canonical key of `_id` (storage's values); id_value: `_id` in MessagePack's shortest form
    write_id  the write's own id, b"" without one; `ordered` says nothing about one document and is dropped

None is any other message, right or wrong, and any that needs a closer look: wire.decode_request then says what it is or
what is wrong with it. The replies are whole frames of wire's messages, u32 little-endian length and body, as
wire.encode_answer would make them. Knows the layout of messages; knows no socket, no database and no role.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from bson import ObjectId
from msgspec import Raw

from storage import canonical, decode_value, errors, native, prepare_documents

from . import wire

INSERT, GET, PING = 1, 2, 3

QuickInsert = tuple[int, bytes, str, str, bytes, bytes, bytes, bytes]
QuickGet = tuple[int, bytes, str, str, bytes]
QuickPing = tuple[int, bytes]
QuickRequest = QuickInsert | QuickGet | QuickPing

MESSAGE_BYTES_MAX = 65_536  # the pure twin leaves longer messages to the general way, unread
PONG = b"\x80\x00\x00"  # what follows the request's id in the answer to a ping: {}, at no position

_USUAL_KEYS = (int, str, ObjectId)
_UINT_HEADS = range(0xCC, 0xD0)
_REPLY = b"\x95\xa5reply"
_INSERTED = b"\x83\xa1n\x01\xa3ids\x91"
_NO_ERRORS = b"\xa6errors\x90"
_GOT = b"\x81\xa3doc"
_NIL = b"\xc0"


class _Head(msgspec.Struct, array_like=True):
    """The first two fields of a request; what follows is walked over."""

    op: Raw
    id: Raw


_decode_head = msgspec.msgpack.Decoder(_Head).decode
_encode = msgspec.msgpack.Encoder().encode


def _requests(messages: Sequence[bytes]) -> list[QuickRequest | None]:
    return [_quick(message) for message in messages]


def _quick(message: bytes) -> QuickRequest | None:
    if len(message) > MESSAGE_BYTES_MAX:
        return None
    try:
        request = wire.decode_request(message)
    except wire.BadMessage:
        return None
    kind = type(request)
    if kind is not wire.Insert and kind is not wire.Get and kind is not wire.Ping:
        return None
    rid = bytes(_decode_head(message).id)
    if rid[0] >= 0x80 and rid[0] not in _UINT_HEADS:
        return None
    if kind is wire.Ping:
        return PING, rid
    if kind is wire.Get:
        key = None if request.min_position is not None else _key_of(bytes(request.key))
        return None if key is None else (GET, rid, request.db, request.collection, key)
    if len(request.docs) != 1:
        return None
    [prepared] = prepare_documents([bytes(request.docs[0])])
    return None if prepared is None else (INSERT, rid, request.db, request.collection, request.request, *prepared)


def _key_of(value: bytes) -> bytes | None:
    try:
        found = decode_value(value)
        return canonical(found) if type(found) in _USUAL_KEYS else None
    except errors.BadDocument:
        return None


def _insert_replies(rids: Sequence[bytes], ids: Sequence[bytes], epoch: int, seq: int) -> list[bytes]:
    """The reply to each insert of one document: {n: 1, ids: [id], errors: []} at (epoch, seq), as a frame."""
    end = b"".join((_NO_ERRORS, _encode(epoch), _encode(seq)))
    return [_framed((_REPLY, rid, _INSERTED, id_value, end)) for rid, id_value in zip(rids, ids, strict=True)]


def _got_reply(rid: bytes, document: bytes | None, epoch: int, seq: int) -> bytes:
    """The reply to a get: {doc: document or nil} at (epoch, seq), as a frame."""
    return _framed((_REPLY, rid, _GOT, _NIL if document is None else document, _encode(epoch), _encode(seq)))


def ping_reply(rid: bytes) -> bytes:
    """The reply to a ping, as a frame."""
    return _framed((_REPLY, rid, PONG))


def _framed(parts: Sequence[bytes]) -> bytes:
    message = b"".join(parts)
    return len(message).to_bytes(4, "little") + message


requests = native.choose("requests", _requests)
insert_replies = native.choose("insert_replies", _insert_replies)
got_reply = native.choose("got_reply", _got_reply)

"""The usual forms of the commonest requests, read without their Structs, and the frames that answer them. Pure.

    insert of one document   (INSERT, id, db, collection, write id, key, encoded `_id`, document)
    get without min_position (GET, id, db, collection, key)
    ping                     (PING, id)

id: the MessagePack bytes of the request's id, as they came. key: canonical (values/keys.py). A request comes out as one of these only when the
general way (wire.decode_request, then the verb) would take it without a word; everything else is None and goes that
way. Answers are the same messages as wire.encode_answer makes, with the length prefix of the inner stream before them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from bson import ObjectId

from storage import canonical, decode_value, errors, native, prepare_documents

from . import wire

INSERT, GET, PING = 1, 2, 3
QUICK_BYTES_MAX = 65_536  # longer messages go the general way
_PLAIN_IDS = (int, str, ObjectId)

QuickInsert = tuple[int, bytes, str, str, bytes, bytes, bytes, bytes]
QuickGet = tuple[int, bytes, str, str, bytes]
QuickPing = tuple[int, bytes]
QuickRequest = QuickInsert | QuickGet | QuickPing

_REPLY = b"\x95\xa5reply"
_ONE_INSERTED = b"\x83\xa1n\x01\xa3ids\x91"
_NO_ERRORS = b"\xa6errors\x90"
_DOCUMENT = b"\x81\xa3doc"
_NIL = b"\xc0"
EMPTY = b"\x80"
_pack = msgspec.msgpack.Encoder().encode


def _requests(messages: Sequence[bytes]) -> list[QuickRequest | None]:
    return [_request(message) for message in messages]


def _request(message: bytes) -> QuickRequest | None:
    if len(message) > QUICK_BYTES_MAX or message[1:2] not in (b"\xa3", b"\xa4", b"\xa6"):  # get, ping, insert
        return None
    try:
        request = wire.decode_request(message)
    except wire.BadMessage:
        return None
    match request:
        case wire.Insert(id=number, db=db, collection=collection, docs=[doc], request=write_id):
            [prepared] = prepare_documents([bytes(doc)])
            return None if prepared is None else (INSERT, _pack(number), db, collection, write_id, *prepared)
        case wire.Get(id=number, db=db, collection=collection, key=key, min_position=None):
            try:
                value = decode_value(bytes(key))
                return (GET, _pack(number), db, collection, canonical(value)) if type(value) in _PLAIN_IDS else None
            except errors.TwinlogError:
                return None
        case wire.Ping(id=number):
            return PING, _pack(number)
    return None


def reply_frame(request_id: bytes, result: bytes, epoch: int, seq: int) -> bytes:
    """The framed reply with that result, a MessagePack map."""
    message = b"".join((_REPLY, request_id, result, _pack(epoch), _pack(seq)))
    return len(message).to_bytes(4, "little") + message


def _insert_replies(request_ids: Sequence[bytes], id_values: Sequence[bytes], epoch: int, seq: int) -> list[bytes]:
    return [
        reply_frame(request_id, b"".join((_ONE_INSERTED, id_value, _NO_ERRORS)), epoch, seq)
        for request_id, id_value in zip(request_ids, id_values)
    ]


def _got_reply(request_id: bytes, document: bytes | None, epoch: int, seq: int) -> bytes:
    return reply_frame(request_id, _DOCUMENT + (_NIL if document is None else document), epoch, seq)


quick_requests = native.choose("requests", _requests)
insert_replies = native.choose("insert_replies", _insert_replies)  # one framed answer for each insert of one document
got_reply = native.choose("got_reply", _got_reply)  # the framed answer to a get

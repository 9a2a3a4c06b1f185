"""What one call of Twinlog's blocking client costs in CPU, by layer. One thread, one connection, one node.

Each layer is timed alone, many times over, on the bytes that a call carries; a profiler would cost more than most of them.
`send, wait, receive` is the system calls and the waking up, with the same requests made beforehand: on a machine that
has other work, waking up alone can cost more CPU than all the layers above it. `rest` is what the whole call takes
beyond their sum: the pool, positions, results, and caches that are cold after a wait, which the layers timed alone do not have.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable
from urllib.parse import parse_qs, urlsplit

import twinlog
from node import wire
from storage import decode_document, encode_document
from twinlog import answers, transport
from twinlog.conversation import Conversation
from twinlog.values import document_bytes, value_bytes

from .client_loop import FIELDS
from .servers import COLLECTION, DB

CALLS = 1_500
KEYS_USED = 2 * CALLS  # by an insert
WHOLE = "whole call"


def layers(url: str, kind: str, first_key: int) -> dict[str, float]:
    """Microseconds by layer. kind: insert (KEYS_USED keys from first_key) or get (first_key, which must be there)."""
    keys = itertools.count(first_key)
    with twinlog.connect(url, pool=1) as client:
        docs = client[DB][COLLECTION]
        insert, get = (lambda: docs.insert_one({"_id": next(keys), **FIELDS})), (lambda: docs.find_one({"_id": first_key}))
        whole = _each(insert if kind == "insert" else get)
    document = {"_id": first_key, **FIELDS}
    key = _key(url)
    found: dict[str, float] = {}
    if kind == "insert":
        found["encode document"] = _each(lambda: document_bytes(document))
        request: wire.Request = _insert(first_key)
        requests = [_insert(next(keys)) for _ in range(CALLS)]
        result = {"n": 1, "ids": [first_key], "errors": []}
    else:
        found["encode key"] = _each(lambda: value_bytes(first_key))
        request = wire.Get(1, DB, COLLECTION, value_bytes(first_key))
        requests = [request] * CALLS
        result = {"doc": wire.encode_fields(document)}
    found["encode request"] = _each(lambda: wire.encode_request(request))
    found["frame and seal"], receive, message = _session(key, wire.encode_request(request), result)
    found["send, wait, receive"] = _socket(url, key, requests)
    found["open and unframe"] = receive
    found["decode answer"] = _each(lambda: _decode(message, kind))
    if kind == "get":
        data = encode_document(document)
        found["decode document"] = _each(lambda: decode_document(data))
    found["rest"] = max(0.0, whole - sum(found.values()))
    return {**found, WHOLE: whole}


def _insert(key: int) -> wire.Insert:
    return wire.Insert(1, DB, COLLECTION, [document_bytes({"_id": key, **FIELDS})], True, os.urandom(16))


def _each(work: Callable[[], object]) -> float:
    return _over(range(CALLS), lambda _: work())


def _over(values: Iterable[object], work: Callable[[object], object]) -> float:
    """Process CPU for each value, in microseconds."""
    began = time.process_time()
    count = 0
    for value in values:
        work(value)
        count += 1
    return (time.process_time() - began) / count * 1e6


def _decode(message: bytes, kind: str) -> object:
    answer = wire.decode_answer(message)
    assert isinstance(answer, wire.Reply), "made so below"
    return answers.read(answers.INSERTED if kind == "insert" else answers.GOT, answer)


def _session(key: wire.Key | None, request: bytes, result: dict[str, object]) -> tuple[float, float, bytes]:
    """Both ends in memory: the client's sending, its receiving, and one answer's message."""
    client = wire.ClientSession(key, wire.PortRole.CLIENT, random_bytes=os.urandom)
    psk = {} if key is None else {key.id: key.psk}
    node = wire.ServerSession(psk.get, wire.PortRole.CLIENT, plain_allowed=True, random_bytes=os.urandom)
    node.receive_data(client.start())
    node.next_event()
    client.receive_data(node.data_to_send())
    client.next_event()
    if opening := client.data_to_send():
        node.receive_data(opening)
        node.next_event()

    def send() -> None:
        client.send_message(request)
        client.data_to_send()

    def sealed(message: bytes) -> bytes:
        node.send_message(message)
        return node.data_to_send()

    def receive(data: object) -> None:
        assert isinstance(data, bytes)
        client.receive_data(data)
        client.take_messages()

    message = wire.encode_answer(wire.Reply(1, wire.encode_fields(result), 1, 1))
    return _each(send), _over([sealed(message) for _ in range(CALLS)], receive), message


def _socket(url: str, key: wire.Key | None, requests: list[wire.Request]) -> float:
    """Requests sealed beforehand, sent one by one."""
    line = transport.dial(urlsplit(url).netloc, 5.0)
    try:
        conversation = Conversation(key=key, user=None, password=None, random_bytes=os.urandom)
        line.send_all(conversation.data_to_send(), 5.0)
        while not conversation.advance_opening():
            if data := conversation.data_to_send():
                line.send_all(data, 5.0)
            conversation.receive_data(line.receive(5.0))
        sealed = [conversation.ask(request) for request in requests]

        def there_and_back(data: object) -> None:
            assert isinstance(data, bytes)
            line.send_all(data, 5.0)
            line.receive(5.0)

        return _over(sealed, there_and_back)
    finally:
        line.close()


def _key(url: str) -> wire.Key | None:
    named = parse_qs(urlsplit(url).query).get("key")
    return transport.read_key_file(named[0]) if named else None

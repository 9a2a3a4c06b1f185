"""What every request of the client port is made of: the base of their Structs, the types of their fields and their bounds. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

INT64_MAX = 2**63 - 1
NAME_CHARS_MAX = 512  # of any name in a message; the engine's own rules are narrower
PASSWORD_CHARS_MAX = 1024
BATCH_ROWS_MAX = 1_000_000  # a batch is bounded by bytes too; this keeps the number itself sane
BATCH_ROWS_DEFAULT = 101
REQUEST_ID_BYTES_MAX = 64  # of a write's own id, by which a resend is applied once
WRITES_MAX = 100_000  # documents of an insert, writes of a bulk; a larger array is refused before it is built
BULK_PARTS_MAX = 8  # of one write of a bulk: its kind and arguments
INDEXES_MAX = 64  # of one CreateIndexes
TRANSACTION_ID_BYTES = 16

ABSENT = Raw(b"\xc0")  # MessagePack nil: an optional Raw that was not given

RequestId = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Natural = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
Password = Annotated[str, Meta(max_length=PASSWORD_CHARS_MAX)]
BatchRows = Annotated[int, Meta(ge=0, le=BATCH_ROWS_MAX)]
WriteId = Annotated[bytes, Meta(max_length=REQUEST_ID_BYTES_MAX)]
BulkWrite = Annotated[list[Raw], Meta(min_length=1, max_length=BULK_PARTS_MAX)]
NewIndex = Annotated[list[Raw], Meta(min_length=2, max_length=2)]  # [keys, options]
TransactionId = Annotated[bytes, Meta(min_length=TRANSACTION_ID_BYTES, max_length=TRANSACTION_ID_BYTES)]
MinPosition = Annotated[list[Natural], Meta(min_length=2, max_length=2)]  # [epoch, seq]


class Request(msgspec.Struct, array_like=True, tag_field="op", forbid_unknown_fields=True, gc=False):
    """What every request begins with. `id` is the client's own, unique among its requests under way."""

    id: RequestId

"""What every request of the client port begins with, and the kinds of fields that many of them have. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

INT64_MAX = 2**63 - 1
NAME_CHARS_MAX = 512  # of any name in a message; the engine's own rules are narrower

RequestId = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Natural = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]


class Request(msgspec.Struct, array_like=True, tag_field="op", forbid_unknown_fields=True, gc=False):
    """What every request begins with. `id` is the client's own, unique among its requests under way."""

    id: RequestId

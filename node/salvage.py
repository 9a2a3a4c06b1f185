"""The verbs about what a node has set aside: list, show, note that it was applied, drop. Over the engine's salvage. No socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import storage
from storage import BadRequest, DiskFailed

from . import wire
from .outcomes import Done

LIST_MAX = 1_000  # entries in one answer; what is beyond them is counted
FACTS_MAX = 32  # of one note


def salvage_verbs(engine: Any) -> dict[type[wire.Request], tuple[None, Any]]:
    """What the service's table takes: by request, the verb in place (none) and the one that may wait."""
    verbs = SalvageVerbs(engine)
    found = {wire.SalvageList: verbs.list, wire.SalvageShow: verbs.show, wire.SalvageNote: verbs.note, wire.SalvageDrop: verbs.drop}
    return {kind: (None, verb) for kind, verb in found.items()}


class SalvageVerbs:
    """Over one engine."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    async def list(self, caller: Any, request: wire.SalvageList) -> Done:
        try:
            entries = await self._engine.salvage.list()
        except OSError as error:  # such as an entry that goes meanwhile
            raise DiskFailed(f"what was set aside cannot be listed now: {error}; ask again") from error
        told = [entry.as_plain(ids=False) for entry in entries[:LIST_MAX]]
        return Done(wire.encode_fields({"entries": told, "left_out": max(0, len(entries) - LIST_MAX)}))

    async def show(self, caller: Any, request: wire.SalvageShow) -> Done:
        rows_max = request.limit or storage.SALVAGE_ROWS_MAX
        engine = self._engine
        entry, page, now = await engine.salvage.page(engine.databases, request.name, request.part, request.offset, rows_max)
        disk = engine.seams.disk
        rows = await disk.run(_rows, page.lines, now)  # megabytes of documents: not on the loop (INV-9)
        told = entry.as_plain(ids=request.offset == 0)
        return Done(wire.encode_fields({"entry": told, "rows": rows, "next": page.next_offset}))

    async def note(self, caller: Any, request: wire.SalvageNote) -> Done:
        if len(request.facts) > FACTS_MAX:
            raise BadRequest(f"{len(request.facts)} facts in one note, the limit is {FACTS_MAX}")
        await self._engine.salvage.note_applied(request.name, request.facts)
        return Done(wire.EMPTY_MAP)

    async def drop(self, caller: Any, request: wire.SalvageDrop) -> Done:
        entry = await self._engine.salvage.drop(request.name)
        return Done(wire.encode_fields({"bytes": entry.bytes}))


def _rows(lines: Sequence[Any], now: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "collection": line.collection, "op": line.op, "epoch": line.epoch, "seq": line.seq, "time": line.time,
            "id": storage.encode_value(line.id), "doc": None if line.doc is None else bytes(storage.encode_document(line.doc)), "now": word,
        }
        for line, word in zip(lines, now, strict=True)
    ]  # fmt: skip

"""The end of a drill: waits until the cluster is whole, has all copies hashed at one MARK, and reads every document of every node.

The two are independent witnesses: the nodes' own state hashes, and documents read from each node through its client port.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

import twinlog
from twinlog.errors import TwinlogError

from .records import Copy, Proof
from .watch import ASK_OPTIONS
from .writers import COLLECTION, DATABASE

SETTLE_SECONDS_MAX = 120.0
READ_SECONDS_MAX = 120.0
AGAIN_S = 0.2
BATCH = 5000
Addresses = Mapping[str, tuple[str, str]]  # node -> (URL of this node alone, host:port)


async def prove(addresses: Addresses) -> tuple[Proof | None, str]:
    """The proof, and why there is none. Goes on asking until every node answers at one MARK."""
    why = ""
    proof = None
    with trio.move_on_after(SETTLE_SECONDS_MAX):
        while proof is None or set(proof.answers) != set(addresses):
            try:
                proof = await _ask_primary(addresses)
                why = f"only {', '.join(sorted(proof.answers))} answered at MARK {proof.seq}"
            except (TwinlogError, LookupError) as error:
                why = str(error)
            await trio.sleep(AGAIN_S)
        return proof, ""
    return proof, f"the cluster did not settle within {SETTLE_SECONDS_MAX:.0f} s: {why}"


async def _ask_primary(addresses: Addresses) -> Proof:
    """A MARK on the primary. Raises TwinlogError, LookupError where there is no primary or no database."""
    for node, (url, address) in addresses.items():
        async with await twinlog.connect_async(url, **ASK_OPTIONS) as client:
            if (await client.status(address))["role"] != "primary":
                continue
            marked = (await client.with_options(timeout_s=READ_SECONDS_MAX).status(address, mark=True))["databases"][DATABASE]
            if "mark" not in marked:
                raise LookupError(f"{node} could not hash its copy: {marked.get('closed') or 'no answer'}")
            return read_proof(marked["mark"])
    raise LookupError(f"none of {', '.join(addresses)} is primary")


def read_proof(mark: Mapping[str, Any]) -> Proof:
    answers = {node: (int(told["seq"]), str(told["chain"]), str(told["hash"])) for node, told in mark["nodes"].items()}
    return Proof(int(mark["seq"]), mark["equal"], answers)


async def read_copies(addresses: Addresses) -> tuple[list[Copy], list[str]]:
    """Every node's documents, and why some could not be read."""
    copies, problems = [], []
    for node, (url, address) in addresses.items():
        try:
            with trio.fail_after(READ_SECONDS_MAX):
                copies.append(await read_copy(node, url, address))
        except (TwinlogError, LookupError, trio.TooSlowError) as error:
            problems.append(f"the documents of {node} could not be read: {error or type(error).__name__}")
    return copies, problems


async def read_copy(node: str, url: str, address: str) -> Copy:
    """From this node alone: it must say its name, and no other node is asked."""
    async with await twinlog.connect_async(url, **{**ASK_OPTIONS, "timeout_s": READ_SECONDS_MAX}) as client:
        status = await client.status(address)
        if status["node"] != node:
            raise LookupError(f"{address} is {status['node']}, not {node}")
        documents = {}
        async for document in client[DATABASE][COLLECTION].find({}, {"times": 1}).batch_size(BATCH):
            documents[str(document["_id"])] = int(document.get("times", 0))
        if client.nodes != (address,):
            raise LookupError(f"{address} sent the reader on to {', '.join(client.nodes)}")
        return Copy(node, str(status["role"]), documents)

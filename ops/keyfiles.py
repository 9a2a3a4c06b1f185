"""Makes key files. The format and the making of a key are the wire's (node.wire).

Knows the disk and entropy, which the wire does not. A key file is written once, readable by its owner only, and never
over one that exists (INV-7): a lost cluster key means every node must be given the new one.
"""

from __future__ import annotations

import os
from pathlib import Path

MODE_OWNER_ONLY = 0o600
MODE_GROUP_READS = 0o640  # for a file that a container mounts, whose user joins the file's group


def write_key_file(path: Path, *, mode: int = MODE_OWNER_ONLY) -> str:
    """A new random key; returns its id in hex. FileExistsError if the file is there."""
    from node.wire import format_keys, new_key  # late: --help must not pay for the wire

    key = new_key(os.urandom)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)  # whatever the umask says
        file.write(format_keys((key,)))
        file.flush()
        os.fsync(descriptor)
    return key.id.hex()

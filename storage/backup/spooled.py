"""A file that cannot be mapped, as memory all the same: small ones as they are, others by way of a temporary file that has no name.

For files in a bucket and encrypted ones. The temporary file lies where the system keeps those (TMPDIR) and holds what the file holds, in plain view of
this machine's administrator, as the data directory does.
"""

from __future__ import annotations

import mmap
import tempfile

from ..disk import File

MEMORY_BYTES_MAX = 8 * 2**20
STEP_BYTES = 2**20


def view(file: File) -> memoryview:
    """The whole file as read-only memory. Raises what reading it raises, OSError when there is no room for it."""
    if file.size <= MEMORY_BYTES_MAX:
        return memoryview(file.read_at(0, file.size))
    with tempfile.TemporaryFile(prefix="twinlog-") as beside:
        for offset in range(0, file.size, STEP_BYTES):
            beside.write(file.read_at(offset, min(STEP_BYTES, file.size - offset)))
        beside.flush()
        return memoryview(mmap.mmap(beside.fileno(), 0, access=mmap.ACCESS_READ))

"""How the C library's allocator gives memory back. A seam: the only use of ctypes here.

By itself glibc raises, with the first large block that is freed, the size from on which blocks are mapped on their own, up to
32 MiB; from then on answers of megabytes come from the heap, which shrinks only from its end, so that a node which has once sent
large answers to many keeps a multiple of what it holds. A fixed size ends that: such blocks go back at once. With few arenas the
disk threads do not each keep a heap of their own. Cost: about 0.1 ms for each MiB of such a block.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
MAPPED_FROM_BYTES = 2**20
TRIMMED_FROM_BYTES = 16 * 2**20
ARENAS_MAX = 4


def bound_idle_memory() -> bool:
    """Once, at the start of a process that is a node. False where the C library has no such settings."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    chosen = ((M_MMAP_THRESHOLD, MAPPED_FROM_BYTES), (M_TRIM_THRESHOLD, TRIMMED_FROM_BYTES), (M_ARENA_MAX, ARENAS_MAX))
    return all([mallopt(name, value) for name, value in chosen])

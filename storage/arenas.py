"""Arenas: the memory in which Python's allocator makes small objects, kept for reuse when it would be given back to the system.

    memtable sealed ── its objects freed ── whole arenas empty ──> kept, up to a bound ──> the next memtable's objects
                                                              └──> beyond it given back

A node that is written to frees a memtable of some tens of megabytes at every seal and fills another one meanwhile. Given back and taken again, every page of it costs a
fault and a cleared page; a tenth of an insert's time. For a process of our own only: an application that embeds the engine has its allocator to itself.

The hook is CPython's (PyObject_SetArenaAllocator); without the kernel nothing is kept.
"""

from __future__ import annotations

from . import native


def _keep_arenas(bytes_max: int) -> int:
    """From now on keep so many bytes of empty arenas at most, in this process; 0: none, and those that are kept go. Returns how many are kept now."""
    return 0


keep_arenas = native.choose("keep_arenas", _keep_arenas)

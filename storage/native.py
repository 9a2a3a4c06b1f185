"""Where the optional native kernel is chosen. The kernel is one C file, storage/kernel.c, built as storage._kernel when a
compiler is there; every function of it has a pure twin beside the promise it keeps, and tests hold the two equal.

    encode_body = native.choose("encode_body", _encode_body)      # the kernel's, or the pure one

TWINLOG_KERNEL=off in the environment leaves the kernel alone, as if it had not been built. Knows nothing of what the
functions do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TypeVar

F = TypeVar("F", bound=Callable)

SETTING = "TWINLOG_KERNEL"


def _load() -> ModuleType | None:
    if os.environ.get(SETTING, "") == "off":
        return None
    try:
        return import_module("._kernel", __package__)
    except ImportError:
        return None


KERNEL = _load()


def choose(name: str, pure: F) -> F:
    """The kernel's function of that name where there is one, else the pure one."""
    return getattr(KERNEL, name, pure)

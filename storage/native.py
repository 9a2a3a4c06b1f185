"""Where the optional native kernel is chosen. The kernel is a few C files, each built as an extension of its own when a compiler
is there (storage/kernel.c as storage._kernel, storage/text.c as storage._text); every function of it has a pure twin beside the
promise it keeps, and tests hold the two equal.

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


def _load(name: str) -> ModuleType | None:
    if os.environ.get(SETTING, "") == "off":
        return None
    try:
        return import_module(f".{name}", __package__)
    except ImportError:
        return None


KERNEL = _load("_kernel")
TEXT = _load("_text")


def choose(name: str, pure: F) -> F:
    """The kernel's function of that name where there is one, else the pure one."""
    return getattr(KERNEL, name, getattr(TEXT, name, pure))

"""Where the optional native kernel is chosen. The kernel is a few C files, storage/*.c, each built as a module of its own (kernel.c
as storage._kernel) when a compiler is there; every function of it has a pure twin beside the promise it keeps, and tests
hold the two equal.

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
FIELDS = _load("_fields")
TEXT = _load("_text")
EXCHANGE = _load("_exchange")
PACKING = _load("_packing")
FETCHING = _load("_fetching")


def choose(name: str, pure: F) -> F:
    """The kernel's function of that name where there is one, else the pure one."""
    return next((getattr(module, name) for module in (KERNEL, FIELDS, TEXT, EXCHANGE, PACKING, FETCHING) if hasattr(module, name)), pure)

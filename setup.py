"""What pyproject.toml cannot say: the optional native kernel. Without a compiler the package installs without it."""

import zlib
from pathlib import Path

from setuptools import Extension, setup


def extension(name: str, source: str) -> Extension:
    return Extension(
        name,
        [source],
        depends=["setup.py", "storage/crc32c.h", "storage/growing.h", "storage/utf8.h"],
        optional=True,
        define_macros=[("KERNEL_SOURCE", f"{zlib.crc32((Path(__file__).parent / source).read_bytes())}u")],
        extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"],
    )


NAMES = {
    "storage._kernel": "storage/kernel.c",
    "storage._fields": "storage/fields.c",
    "storage._text": "storage/text.c",
    "storage._exchange": "storage/exchange.c",
    "storage._packing": "storage/packing.c",
    "storage._fetching": "storage/fetching.c",
}

setup(ext_modules=[extension(name, source) for name, source in NAMES.items()])

"""What pyproject.toml cannot say: the optional native kernel. Without a compiler the package installs without it."""

from setuptools import Extension, setup

KERNEL = Extension(
    "storage._kernel",
    ["storage/kernel.c"],
    optional=True,
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"],
)

setup(ext_modules=[KERNEL])

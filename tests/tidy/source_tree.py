"""The project's Python files, parsed once, for the tests that hold the house rules."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("twinlog", "storage", "replication", "node", "ops")
OTHER_ROOMS = ("tests", "benchmarks")


@dataclass(frozen=True)
class SourceFile:
    """One Python file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=self.name)

    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def files_of(*rooms: str) -> list[SourceFile]:
    """Every Python file below these top folders, sorted."""
    return [SourceFile(path) for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


PRODUCTION = files_of(*PACKAGES)
EVERYTHING = PRODUCTION + files_of(*OTHER_ROOMS)

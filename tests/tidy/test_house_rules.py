"""House rules that no linter holds: sizes, docstrings, seams, faces, paths. Each failure names file and line."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import tomllib

import pytest

from tests.tidy.source_tree import EVERYTHING, PACKAGES, PRODUCTION, ROOT, SourceFile, files_of

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

# The only production files that may open files, start threads or processes, or touch sockets.
SEAM_FILES = {
    "storage/backup/bucket.py",
    "storage/disk.py",
    "storage/seams.py",
    "storage/worker.py",
    "node/links.py",
    "node/hub.py",
    "twinlog/transport.py",
}
SOCKET_KEEPERS = {"node/server.py", "node/admin.py"}  # hold the listening sockets that node/links.py bound, and no others
MODULES_KEPT = {("socket", keeper) for keeper in SOCKET_KEEPERS} | {("threading", "storage/fields/overlay.py")}  # the last: a lock alone
SEAM_ROOMS = ("ops/",)  # an operator's tool lives outside the simulated world
SEAM_MODULES = {"threading", "multiprocessing", "subprocess", "socket", "select", "selectors", "concurrent"}

TEXT_SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".cfg", ".txt", ".json", ""}
MACHINE_PATH = re.compile(r"(?<![\w.~}/-])/(?:work|root|home|Users)/[\w.-]+")
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "common.py", "base.py", "misc.py"}


def is_seam(file: SourceFile) -> bool:
    return file.name in SEAM_FILES or file.name.startswith(SEAM_ROOMS)


def report(findings: list[str]) -> None:
    assert not findings, "\n" + "\n".join(findings)


def test_there_is_something_to_look_at():
    assert {file.name.split("/")[0] for file in PRODUCTION} == set(PACKAGES)


def test_files_stay_short():
    sizes = [(file.name, file.text.count("\n")) for file in EVERYTHING]
    report([f"{name}: {lines} lines, limit {FILE_LINES_MAX}" for name, lines in sizes if lines > FILE_LINES_MAX])


def test_functions_stay_short():
    findings = []
    for file in EVERYTHING:
        for function in file.functions():
            lines = function.end_lineno - function.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                findings.append(f"{file.name}:{function.lineno}: {function.name} has {lines} lines, limit {FUNCTION_LINES_MAX}")
    report(findings)


def test_every_module_says_what_it_is():
    # An empty __init__.py of a folder without a face of its own has nothing to say.
    report([f"{file.name}: no module docstring" for file in EVERYTHING if file.text.strip() and not ast.get_docstring(file.tree)])


def test_files_are_named_after_a_noun():
    report([f"{file.name}: name the thing it holds" for file in EVERYTHING if file.path.name in FORBIDDEN_NAMES])


@pytest.mark.parametrize("file", [file for file in PRODUCTION if not is_seam(file)], ids=lambda file: file.name)
def test_only_seams_reach_the_machine(file: SourceFile):
    findings = []
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            findings.append(f"{file.name}:{node.lineno}: builtin open(); files go through storage.disk")
        for module in imported_modules(node):
            if module.split(".")[0] in SEAM_MODULES and (module, file.name) not in MODULES_KEPT:
                findings.append(f"{file.name}:{node.lineno}: imports {module}; only seam files may")
    report([finding for finding in findings if "imports" not in finding or not in_type_checking(file, finding)])


def imported_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [node.module]
    return []


def in_type_checking(file: SourceFile, finding: str) -> bool:
    """Whether the finding's line is below `if TYPE_CHECKING:`, where an import is only a name."""
    line = int(finding.split(":")[1])
    for node in ast.walk(file.tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            inside = node.lineno <= line <= node.end_lineno
            if inside:
                return True
    return False


def test_seam_files_exist_or_the_list_is_stale():
    report([f"{name}: listed as a seam, but not there" for name in sorted(SEAM_FILES) if not (ROOT / name).is_file()])


def test_ruff_lets_the_same_files_through():
    """The seams ruff knows (its banned names are allowed there) are the seams of this file."""
    ignores = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
    allowed = {name for name, rules in ignores.items() if "TID251" in rules and name.endswith(".py")}
    assert {name for name in allowed if not name.startswith(SEAM_ROOMS)} == SEAM_FILES


@pytest.mark.parametrize("package", PACKAGES)
def test_a_face_exports_what_it_binds(package: str):
    """Every public name a face binds stands in its __all__ once, and everything in __all__ is there."""
    face = importlib.import_module(package)
    bound = names_bound(SourceFile(ROOT / package / "__init__.py").tree)
    exported = list(getattr(face, "__all__", ()))
    assert len(exported) == len(set(exported)), f"{package}: a name stands twice in __all__"
    assert not [name for name in exported if not hasattr(face, name)], f"{package}: in __all__ but not there"
    missing = {name for name in bound if not name.startswith("_")} - set(exported)
    assert not missing, f"{package}: bound and public, but not in __all__: {sorted(missing)}"


def names_bound(tree: ast.Module) -> set[str]:
    """Public names a face offers: what it imports from its own rooms and what it defines."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module not in ("__future__", "typing", "collections.abc"):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names - {"__all__", "*"}


def test_no_path_of_one_machine():
    findings = []
    for path in project_files():
        if path.suffix not in TEXT_SUFFIXES:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if found := MACHINE_PATH.search(line):
                findings.append(f"{path.relative_to(ROOT)}:{number}: path of one machine: {found.group()}")
    report(findings)


def project_files() -> list:
    """What git tracks or would track; without git (a tarball), the Python files."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                                capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return [file.path for file in EVERYTHING]
    paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def test_every_package_has_tests():
    tested = {module.split(".")[0] for file in files_of("tests") if "/test_" in file.name
              for node in ast.walk(file.tree) for module in imported_modules(node)}  # fmt: skip
    assert set(PACKAGES) <= tested, f"no test imports {sorted(set(PACKAGES) - tested)}"


def test_a_module_that_says_pure_is_held_to_it():
    """The contract "pure modules do no I/O" names every module whose docstring begins by saying that it is pure."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (held,) = (contract["source_modules"] for contract in contracts if contract["name"] == "pure modules do no I/O")
    findings = []
    for file in PRODUCTION:
        module = file.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        says_pure = re.search(r"\bPure\b", (ast.get_docstring(file.tree) or "").split("\n\n")[0])
        if says_pure and not any(f"{module}.".startswith(f"{name}.") for name in held):
            findings.append(f"{file.name}: says it is pure; add {module} to the contract in pyproject.toml")
    report(findings)

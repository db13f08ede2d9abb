"""The walls of the house: which room may import which. ARCHITECTURE.md shows the same table."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "jobfs"

LAYERS: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "model": frozenset({"errors"}),
    "planner": frozenset({"errors", "model"}),
    "api": frozenset({"errors", "model"}),
    "store": frozenset({"errors", "model"}),
    "engine": frozenset({"errors", "model", "planner", "api", "store"}),
    "vfs": frozenset({"errors", "model", "planner", "store", "engine"}),
    "folder": frozenset({"errors", "model", "planner", "store", "engine"}),
    "fuse": frozenset({"errors", "model", "vfs"}),
    "server": frozenset({"errors", "model", "api.wire"}),
    "workspace": frozenset({"errors", "model", "planner", "api", "store", "engine", "folder"}),
    "filesystem": frozenset({"errors", "model", "workspace", "fuse.errno"}),
    "cli": frozenset(
        {"errors", "model", "planner", "api", "store", "engine", "vfs", "folder", "fuse", "server", "workspace"}
    ),
    "__main__": frozenset({"cli", "errors"}),
}
"""What each room may import besides itself and the bare package ``jobfs`` (its version)."""

OUTSIDE: dict[str, tuple[str, ...]] = {
    "httpx": ("api.transport", "api.stream", "api.bodies", "api.lanes", "api.direct", "api.reply"),
    "httptools": ("api.reply",),
    "watchdog": ("folder.watch",),
    "mfusepy": ("fuse.fusepy",),
    "pathspec": ("planner.ignore",),
    "pydantic": ("api.wire", "server"),
    "platformdirs": ("workspace", "cli"),
    "fsspec": ("filesystem",),
    "typer": ("cli",),
    "click": ("cli",),
    "rich": ("cli",),
    "fastapi": ("server",),
    "starlette": ("server",),
    "uvicorn": ("server",),
    "python_multipart": ("server",),
}
"""The rooms that may import each outside library; one module where it can be one."""

DISTRIBUTIONS = {"python_multipart": "python-multipart", "starlette": "fastapi", "click": "typer"}
"""Which dependency in pyproject.toml brings a library of another name."""

EXTRAS = {"server": "server", "filesystem": "fsspec"}
"""The rooms that need an optional extra of pyproject.toml, and which."""

IMPURE = {
    *("asyncio", "io", "logging", "multiprocessing", "os", "platform", "random", "secrets", "shutil", "socket"),
    *("sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "uuid"),
}
"""Modules that would give the pure core a clock, randomness, I/O, logs or locks."""


def module_name(path: Path) -> str:
    """Return the dotted name below ``jobfs``; "" for the package itself."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, those inside functions included, as full dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                # "from package import module" imports the module.
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("jobfs.") in MODULES else node.module


def own_imports(name: str) -> set[str]:
    """Return what a module of ours imports of our own, as names below ``jobfs``."""
    found = {target for target in imports_of(MODULES[name]) if target.partition(".")[0] == "jobfs"}
    return {target.removeprefix("jobfs").removeprefix(".") for target in found} - {""}


def is_within(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


def room_of(name: str) -> str:
    return name.partition(".")[0]


def test_every_module_lies_in_a_room_of_the_table() -> None:
    assert {room_of(name) for name in MODULES if name} - LAYERS.keys() == set()


def test_imports_point_downwards_only() -> None:
    wrong = [
        f"{name} imports {target}"
        for name in MODULES
        if name
        for target in own_imports(name)
        if room_of(target) != room_of(name)
        and not any(is_within(target, place) for place in LAYERS.get(room_of(name), frozenset()))
    ]
    assert wrong == []


def test_the_bare_package_imports_nothing_of_ours() -> None:
    assert own_imports("") == set()


def test_the_table_itself_has_no_cycle() -> None:
    graph = {room: {room_of(place) for place in places} for room, places in LAYERS.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(LAYERS)


def test_no_two_modules_import_each_other_however_indirectly() -> None:
    try:
        TopologicalSorter({name: own_imports(name) for name in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]), pytrace=False)


def test_no_import_hides_behind_type_checking() -> None:
    assert [name for name, path in MODULES.items() if "TYPE_CHECKING" in path.read_text(encoding="utf-8")] == []


def outside_imports() -> Iterator[tuple[str, str]]:
    """Yield (module of ours, outside library)."""
    for name, path in MODULES.items():
        for library in {target.partition(".")[0] for target in imports_of(path)}:
            if library != "jobfs" and library not in sys.stdlib_module_names:
                yield name, library


def test_each_outside_library_is_imported_only_where_the_table_says() -> None:
    wrong = [
        f"{name} imports {library}"
        for name, library in outside_imports()
        if not any(is_within(name, place) for place in OUTSIDE.get(library, ()))
    ]
    assert wrong == []


def test_each_outside_library_is_declared_and_those_of_an_extra_only_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in requirements}

    base, extras = names(project["dependencies"]), project["optional-dependencies"]
    undeclared = [
        f"{name} imports {library}"
        for name, library in outside_imports()
        if DISTRIBUTIONS.get(library, library) not in base | names(extras.get(EXTRAS.get(room_of(name), ""), []))
    ]
    assert undeclared == []


def pure_modules() -> list[str]:
    return [name for name in MODULES if room_of(name) in ("errors", "model", "planner")]


def test_the_pure_core_imports_no_clock_randomness_io_logging_or_locks() -> None:
    wrong = [
        f"{name} imports {target}"
        for name in pure_modules()
        for target in imports_of(MODULES[name])
        if target.partition(".")[0] in IMPURE
    ]
    assert wrong == []


def test_the_pure_core_never_asks_what_time_it_is_nor_opens_a_file() -> None:
    forbidden = {"now", "utcnow", "today", "read_text", "write_text", "read_bytes", "write_bytes"}
    wrong = [
        f"{name}:{node.lineno}"
        for name in pure_modules()
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Attribute) and node.func.attr in forbidden)
            or (isinstance(node.func, ast.Name) and node.func.id in ("open", "print", "input"))
        )
    ]
    assert wrong == []

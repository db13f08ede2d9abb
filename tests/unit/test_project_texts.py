"""The checkout as a reader meets it: what lies where, how long things are, and what no text may contain."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TOP_LEVEL = {
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "SEMANTICS.md",
    "docs",
    "examples",
    "pyproject.toml",
    "scripts",
    "src",
    "tests",
}
NOT_OURS = {"__pycache__", "build", "dist"}
"""Directories that tools make; .gitignore names them too."""

KNOWN_HOSTS = re.compile(
    r"(api\.perstack\.ai|studio\.eigenpal\.com|api\.eigenpal\.com"  # the API bases that the contract names
    r"|localhost|127\.\d+\.\d+\.\d+|\[::1\]"
    r"|www\.w3\.org"  # the name of the SVG namespace
    r"|([a-z0-9-]+\.)*(example|test|invalid)(\.(com|org|net))?)(:\d+)?"
)
URL = re.compile(r"\bhttps?://([A-Za-z0-9.\-\[\]:]+)")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|home/[a-z]\w*|Users/[a-z]\w*)/")
REAL_KEY = re.compile(r"jobfs_[ks]_[A-Za-z0-9_-]{32,}")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 50

LONG_FUNCTIONS: dict[str, str] = {
    "src/jobfs/cli/mount.py:mount": "each of its many options is a parameter and a field of the order",
}
"""Functions above the limit, as "path:name", each with its reason."""


def texts() -> Iterator[Path]:
    """Yield every file of the project, as a clean checkout would have it."""
    for folder, directories, files in os.walk(ROOT):
        directories[:] = [
            name
            for name in directories
            if name not in NOT_OURS and not name.endswith(".egg-info") and (not name.startswith(".") or name == ".ci")
        ]
        yield from (Path(folder, name) for name in files)


CONTENTS = {str(path.relative_to(ROOT)): path.read_bytes() for path in texts()}
TEXTS = {name: content.decode("utf-8") for name, content in sorted(CONTENTS.items()) if b"\0" not in content}
PYTHON = {name: text for name, text in TEXTS.items() if name.endswith(".py") or "python" in text.partition("\n")[0]}


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in TEXTS.items()
        if name != "LICENSE"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_top_level_holds_what_a_newcomer_expects_and_nothing_else() -> None:
    entries = {entry.name for entry in ROOT.iterdir() if not entry.name.startswith(".")} - NOT_OURS
    assert entries == TOP_LEVEL


def test_no_text_names_a_path_of_somebodys_machine() -> None:
    assert lines_with(MACHINE_PATH) == []


def test_no_text_points_to_a_host_other_than_the_apis_and_example_ones() -> None:
    wrong = [
        f"{name}: {match.group(0)}"
        for name, text in TEXTS.items()
        if name != "LICENSE"
        for match in URL.finditer(text)
        if not KNOWN_HOSTS.fullmatch(match.group(1).rstrip(".:"))
    ]
    assert wrong == []


def test_no_text_contains_something_that_looks_like_a_real_key() -> None:
    assert lines_with(REAL_KEY) == []


def test_nothing_is_left_unfinished() -> None:
    assert lines_with(UNFINISHED) == []


def test_every_text_ends_with_one_line_feed_and_has_no_trailing_blanks() -> None:
    wrong = [
        name
        for name, text in TEXTS.items()
        if text and (not text.endswith("\n") or text.endswith("\n\n") or re.search(r"[ \t]+$", text, re.MULTILINE))
    ]
    assert wrong == []


def test_no_file_of_code_is_longer_than_a_reader_can_hold() -> None:
    assert [name for name, text in PYTHON.items() if len(text.splitlines()) > MAX_FILE_LINES] == []


def test_functions_above_the_limit_have_their_reason_here() -> None:
    long = {
        f"{name}:{node.name}"
        for name, text in PYTHON.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    }
    assert long == set(LONG_FUNCTIONS)


def test_every_module_of_the_package_says_what_it_is_for() -> None:
    silent = [
        name
        for name, text in PYTHON.items()
        if name.startswith("src") and text.strip() and ast.get_docstring(ast.parse(text)) is None
    ]
    assert silent == []


def test_test_files_have_names_of_their_own() -> None:
    names = [Path(name).name for name in TEXTS if name.startswith("tests/") and Path(name).name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


SHELL_SCRIPTS = sorted(name for name, text in TEXTS.items() if text.startswith("#!/usr/bin/env bash"))


def test_the_scripts_that_the_readme_promises_are_there() -> None:
    assert {".ci/run", "scripts/check", "scripts/demo", "scripts/setup", "scripts/test"} <= set(SHELL_SCRIPTS)


@pytest.mark.parametrize("name", SHELL_SCRIPTS)
def test_a_shell_script_is_strict_executable_and_parses(name: str) -> None:
    assert "\nset -euo pipefail\n" in TEXTS[name]
    assert os.access(ROOT / name, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / name], capture_output=True, check=False).stderr == b""


def test_the_build_machine_runs_scripts_test_and_nothing_else() -> None:
    commands = [
        line
        for line in TEXTS[".ci/run"].splitlines()
        if line and not line.startswith("#") and line != "set -euo pipefail"
    ]
    assert len(commands) == 1
    assert commands[0].startswith("exec ")
    assert "/scripts/test" in commands[0]


def test_every_claim_of_semantics_names_a_test_that_exists() -> None:
    claims = re.findall(r"`\[([\w/]+\.py)::(\w+)\]`", TEXTS["SEMANTICS.md"])
    assert len(claims) >= 30
    missing = [f"{file}::{test}" for file, test in claims if f"def {test}(" not in TEXTS.get(f"tests/{file}", "")]
    assert missing == []

"""The experts of this server: names, and the local commands that they stand for.

Two are built in. Others are told in ``experts.toml`` in the server's data folder, which is read again whenever it has
changed::

    [experts."@acme/summary"]
    command = ["python3", "/opt/acme/summary.py", "{query}"]   # or one string, split as a shell would
    description = "Writes summary.md about everything in the workspace."
    timeout_s = 600                                            # default 3600
    max_files = 500                                            # most files it may leave behind; default 10000
    environment = { LANG = "C.UTF-8" }

A command runs in a copy of the workspace. It gets the job's variables and secrets as environment variables, and

====================== ================================================================================================
``JOBFS_QUERY``        the query text of the start, or of the continue that it runs for
``JOBFS_FILES``        the names of the files that came with the query, one a line
``JOBFS_MAX_STEPS``    how many steps it may take; what a step is, is up to the command
``JOBFS_JOB``          the job's id
``JOBFS_EXPERT``       the expert key as the job names it
``JOBFS_CONTINUES``    ``1`` where this is a continue, else ``0``
====================== ================================================================================================

An argument that is exactly ``{query}`` is replaced by the query, ``{files}`` by one argument a file. Its exit code
becomes the job's status: 0 ``completed``, 75 ``exceededMaxSteps`` (it may be continued with more), 76
``requestInteractiveToolResult`` (it waits for an answer), anything else ``failed``.
"""

from __future__ import annotations

import logging
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jobfs
from jobfs.errors import SettingsError
from jobfs.server.registry import ExpertInfo

_log = logging.getLogger("jobfs.server.experts")

FILE_NAME = "experts.toml"
DEFAULT_TIMEOUT_S = 3600.0
DEFAULT_MAX_FILES = 10_000

_NAME = re.compile(r"(?:@[a-z0-9][a-z0-9_.-]*/)?[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Expert:
    """A name and the command that it stands for.

    :param command: program and arguments; may hold ``{query}`` and ``{files}``.
    :param timeout_s: seconds until the command is ended and the job has failed.
    :param max_files: most files that a run may add to the workspace; more make the job fail, and are not stored.
    :param environment: variables for every run, below those of the job.
    """

    name: str
    command: tuple[str, ...]
    description: str
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_files: int = DEFAULT_MAX_FILES
    environment: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, query: str, files: tuple[str, ...]) -> list[str]:
        """Return program and arguments of one run."""
        words: list[str] = []
        for word in self.command:
            match word:
                case "{query}":
                    words.append(query)
                case "{files}":
                    words.extend(files)
                case _:
                    words.append(word)
        return words


def _built_in(name: str, module: str, description: str) -> Expert:
    # -P: what lies in the workspace must not shadow the modules that the command imports.
    command = (sys.executable, "-P", "-m", f"jobfs.server.builtin.{module}")
    # The very jobfs that serves is the one that runs, however it was put on Python's path.
    environment = {"PYTHONPATH": str(Path(jobfs.__file__).parents[1])}
    return Expert(name, command, description, environment=environment)


BUILT_IN = {
    expert.name: expert
    for expert in (
        _built_in(
            "@jobfs/word-count",
            "word_count",
            "Writes word-count.md: lines, words and characters of every text file, and the most frequent words.",
        ),
        _built_in(
            "@jobfs/csv-profile",
            "csv_profile",
            "Writes csv-profile/: columns, types, ranges, missing values and a histogram a column for every CSV file.",
        ),
    )
}


class Experts:
    """The experts of one data folder, as the file says now. Reading it is a plain, short call.

    :raises SettingsError: the file is there and cannot be understood.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._seen: tuple[int, ...] | None = None
        self._told: dict[str, Expert] = {}
        self._read()

    def get(self, name: str) -> Expert | None:
        """Return an expert by its name without version or tag."""
        self._refresh()
        return self._told.get(name) or BUILT_IN.get(name)

    def names(self) -> list[str]:
        """Return every name, in alphabetical order."""
        self._refresh()
        return sorted(BUILT_IN | self._told)

    def lookup(self, name: str) -> ExpertInfo | None:
        """Return what the API shows of an expert; satisfies ``registry.ExpertLookup``."""
        expert = self.get(name)
        return ExpertInfo(expert.name, expert.description, expert.description) if expert else None

    def _refresh(self) -> None:
        if _signature(self._path) == self._seen:
            return
        try:
            self._read()
        except SettingsError as error:
            # A running server keeps what it knew; the file is read again when it changes again.
            _log.warning("%s; going on with the experts known before", error.cause)

    def _read(self) -> None:
        self._seen = _signature(self._path)
        self._told = {} if self._seen is None else parse(_load(self._path))


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", "correct it, or move it away") from error


def parse(document: Mapping[str, Any]) -> dict[str, Expert]:
    """Read the experts out of a parsed ``experts.toml``. Raises ``SettingsError`` that names what is wrong."""
    strange = document.keys() - {"experts"}
    if strange:
        raise SettingsError(
            f"{FILE_NAME}: no such setting: {', '.join(sorted(strange))}", 'write [experts."@you/name"]'
        )
    experts = document.get("experts", {})
    if not isinstance(experts, dict) or not all(isinstance(entry, dict) for entry in experts.values()):
        raise SettingsError(f"{FILE_NAME}: experts must be tables", 'write [experts."@you/name"]')
    return {name: _parse_expert(name, entry) for name, entry in experts.items()}


def _parse_expert(name: str, entry: Mapping[str, Any]) -> Expert:
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{FILE_NAME}: {name!r} is no expert name", "write @scope/name in lower case")
    unknown = entry.keys() - {"command", "description", "timeout_s", "max_files", "environment"}
    if unknown:
        raise _wrong(name, f"no such setting: {', '.join(sorted(unknown))}")
    command = entry.get("command")
    words = _split(name, command) if isinstance(command, str) else command
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise _wrong(name, "command must be a text or a list of texts")
    environment = entry.get("environment", {})
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise _wrong(name, "environment must be a table of texts")
    return Expert(
        name=name,
        command=tuple(words),
        description=str(entry.get("description", f"Runs {Path(words[0]).name}.")),
        timeout_s=_positive(name, entry, "timeout_s", DEFAULT_TIMEOUT_S),
        max_files=int(_positive(name, entry, "max_files", DEFAULT_MAX_FILES)),
        environment=environment,
    )


def _split(name: str, command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise _wrong(name, f"command must be as a shell would read it: {error}") from error


def _positive(name: str, entry: Mapping[str, Any], setting: str, default: float) -> float:
    value = entry.get(setting, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise _wrong(name, f"{setting} must be a number above 0")
    return float(value)


def _wrong(name: str, what: str) -> SettingsError:
    return SettingsError(f'{FILE_NAME}: [experts."{name}"]: {what}', "correct the file; it is read again by itself")

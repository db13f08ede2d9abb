"""What a script gives by mistake is told in words, with the parameter's name, before anything is done."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobfs import LocalCopy, Permission, Workspace
from jobfs.errors import SettingsError
from jobfs.filesystem.jobs import JobFileSystem
from jobfs.server.running import RunningServer

RIGHT: dict[str, Any] = {
    "path": "f",
    "target": "g",
    "data": b"x",
    "permission": Permission.READ_ONLY,
    "folder": "folder",
    "expert": "@jobfs/word-count",
    "number": 1,
}
"""What is given for parameters that must be given."""

FLAGS = {"is_directory", "may_replace", "parents", "recursive", "is_answer", "delete", "dry_run", "is_on"}
"""True or false, as anything is to Python."""

BY_PYTHON = {"encoding", "newline"}
"""Told by Python itself, with the parameter's name."""


START = partial(Workspace.start, "@jobfs/word-count")
OPENED = [partial(Workspace, "j"), START, partial(LocalCopy, "."), JobFileSystem]
"""Everything that takes a server."""


class Strange:
    """Nothing that any parameter may be."""


def parameters_of(kind: type) -> Iterator[tuple[str, str]]:
    """Yield each method of a class with each parameter that can be of a wrong type."""
    for name, method in inspect.getmembers(kind, inspect.isroutine):
        if name.startswith("_"):
            continue
        for parameter in inspect.signature(method).parameters.values():
            is_of_server = parameter.kind is inspect.Parameter.VAR_KEYWORD
            if not is_of_server and parameter.name not in {"self"} | FLAGS | BY_PYTHON:
                yield name, parameter.name


def call(method: Callable[..., Any], wrong: str, value: object) -> None:
    """Call a method with one wrong value, and right ones where there must be some."""
    given = {
        parameter.name: RIGHT[parameter.name]
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    made = method(**{**given, wrong: value})
    if inspect.isgenerator(made):
        next(made)


def told(failure: pytest.ExceptionInfo[SettingsError], parameter: str) -> bool:
    """Tell whether a message says which parameter it is about; of a path, that it is one."""
    return parameter in failure.value.cause or "is no path" in failure.value.cause


@pytest.mark.parametrize(("name", "parameter"), list(parameters_of(Workspace)))
def test_a_workspace_names_the_parameter_that_is_of_a_wrong_type(
    studio: RunningServer, name: str, parameter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = len(studio.requests)
    with Workspace("none") as workspace, pytest.raises(SettingsError) as failure:
        call(getattr(workspace, name), parameter, Strange())
    assert told(failure, parameter)
    assert len(studio.requests) == before


@pytest.mark.parametrize(("name", "parameter"), list(parameters_of(LocalCopy)))
def test_a_local_copy_names_the_parameter_that_is_of_a_wrong_type(
    studio: RunningServer, job: str, name: str, parameter: str, tmp_path: Path
) -> None:
    with Workspace(job) as workspace:
        workspace.sync(tmp_path / "folder")
    with pytest.raises(SettingsError) as failure:
        call(getattr(LocalCopy(tmp_path / "folder"), name), parameter, Strange())
    assert told(failure, parameter)


@pytest.mark.parametrize("name", ["url", "api_key", "api_key_file", "profile", "state"])
@pytest.mark.parametrize(
    "open_",
    [partial(Workspace, "j"), partial(Workspace.start, "@jobfs/word-count"), partial(LocalCopy, "."), JobFileSystem],
)
def test_so_does_everything_that_takes_a_server(studio: RunningServer, open_: Callable[..., Any], name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is of the wrong type, bytes") as failure:
        open_(**{name: b"a secret"})
    assert "secret" not in str(failure.value) + failure.value.remedy


@pytest.mark.parametrize("wrong", ["notes.md", b"notes.md", Path("notes.md"), {"notes.md": 1}, [b"notes.md"]], ids=repr)
def test_one_file_where_several_are_meant_is_not_taken_letter_by_letter(studio: RunningServer, wrong: Any) -> None:
    with pytest.raises(SettingsError, match="files is of the wrong type") as failure:
        Workspace.start("@jobfs/word-count", "Count", files=wrong)
    assert "a list of names" in failure.value.remedy


def test_one_pattern_is_not_taken_letter_by_letter(studio: RunningServer, job: str, tmp_path: Path) -> None:
    with Workspace(job) as workspace, pytest.raises(SettingsError, match="ignore is of the wrong type, str"):
        workspace.sync(tmp_path, ignore="*.tmp")


def test_the_state_may_be_named_as_text(studio: RunningServer, job: str, tmp_path: Path) -> None:
    state = str(tmp_path / "elsewhere")
    with Workspace(job, state=state) as workspace:
        workspace.write("a", "1")
        workspace.sync(tmp_path / "folder")
    assert LocalCopy(tmp_path / "folder", state=state).job == job


def test_places_in_a_file_count_from_its_start(studio: RunningServer, job: str) -> None:
    with Workspace(job) as workspace:
        workspace.write("a", "12345")
        for wrong in ({"offset": -1}, {"length": -1}):
            with pytest.raises(SettingsError, match="cannot be negative"):
                workspace.read("a", **wrong)

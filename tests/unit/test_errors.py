"""The exception tree: what its docstring draws is what the classes are."""

from __future__ import annotations

import inspect
import re
import traceback

import pytest

from jobfs import errors
from jobfs.errors import ApiError, JobfsError, NotFound

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
]


def drawn_tree() -> dict[str, str]:
    """Return child -> parent as the module's docstring draws it; the root's parent is "Exception"."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)(?:  .*)?", line)
        if match is None:
            continue
        depth = len(match["branch"]) // 4
        parents[match["name"]] = path[depth - 1] if depth else "Exception"
        path[depth:] = [match["name"]]
    return parents


def test_the_docstring_draws_exactly_the_classes_that_exist() -> None:
    assert drawn_tree() == {cls.__name__: cls.__base__.__name__ for cls in CLASSES if cls.__base__}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_class_says_what_it_means_and_ends_the_command_with_a_code_of_its_own_kind(cls: type[JobfsError]) -> None:
    assert "__doc__" in vars(cls)
    assert 1 <= cls.exit_code <= 130


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_instance_carries_its_cause_and_its_remedy(cls: type[JobfsError]) -> None:
    error = cls("the disk is on fire", "fetch water")
    assert (str(error), error.cause, error.remedy) == ("the disk is on fire", "the disk is on fire", "fetch water")


def test_a_remedy_is_optional() -> None:
    assert JobfsError("nothing can be done").remedy == ""


def test_an_api_error_keeps_the_servers_own_words() -> None:
    error = NotFound("no such job", status=404, reason="Expert job not found", body=b"{}")
    assert (error.status, error.reason, error.body) == (404, "Expert job not found", b"{}")


def test_an_api_error_without_an_answer_has_the_status_zero() -> None:
    error = ApiError("no answer")
    assert (error.status, error.reason, error.body) == (0, "", b"")


def test_a_traceback_shows_what_to_do_next() -> None:
    assert traceback.format_exception_only(NotFound("no such file", "see 'jobfs tree'")) == [
        "jobfs.errors.NotFound: no such file\n",
        "next: see 'jobfs tree'\n",
    ]
    assert len(traceback.format_exception_only(NotFound("no such file"))) == 1
    advised = NotFound("no such file", "see 'jobfs tree'")
    advised.advise("look again")
    assert (advised.remedy, traceback.format_exception_only(advised)[1:]) == ("look again", ["next: look again\n"])

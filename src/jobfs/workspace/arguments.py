"""What a script gives, looked at before anything is done: what is of a wrong type is told with the parameter's name.

Python would tell it from deep inside and without that name, or not at all: of a text where several are meant, each
letter would be one. Left as they are: flags, which are true or false as anything is to Python; and encodings and
newlines, of which Python's own message says all. No value is shown, for one may be a key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import SupportsIndex, TypeVar

from jobfs.errors import SettingsError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a parameter may be.

    :param words: as they are told.
    """

    words: str
    types: tuple[type, ...]

    def holds(self, value: object) -> bool:
        """Tell whether a value is such a one."""
        return isinstance(value, self.types)


TEXT = Wanted("text", (str,))
PATH = Wanted("a path, as text or pathlib.Path", (str, os.PathLike))
NUMBER = Wanted("a number", (Real,))
WHOLE_NUMBER = Wanted("a whole number", (int,))
PLACE = Wanted("a whole number", (SupportsIndex,))
"""In the bytes of a file; those of other libraries as well."""

FUNCTION = Wanted("a function", (Callable,))  # type: ignore[arg-type]  # isinstance() takes it
FILE_OF_JOB = Wanted("names of files as text, or local ones as pathlib.Path", (str, Path))


def check(name: str, value: object, wanted: Wanted, *, or_none: bool = False) -> None:
    """Refuse a value of a wrong type.

    :param name: of the parameter.
    :raises SettingsError:
    """
    if not wanted.holds(value) and not (or_none and value is None):
        raise wrong_type(name, value, f"give {wanted.words}{' or None' if or_none else ''}")


def all_of(name: str, values: Iterable[_T], wanted: Wanted) -> tuple[_T, ...]:
    """Return several values, each of which is of the right type.

    :raises SettingsError: one is not, or it is one value and not several.
    """
    remedy = f"give a list of {wanted.words}"
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping | os.PathLike):
        raise wrong_type(name, values, remedy)
    several = tuple(values)
    for value in several:
        if not wanted.holds(value):
            raise wrong_type(f"one of {name}", value, remedy)
    return several


def check_content(name: str, value: object) -> None:
    """Refuse what holds no bytes, and is no text or local file.

    :raises SettingsError:
    """
    if not isinstance(value, str | Path):
        try:
            memoryview(value).release()  # type: ignore[arg-type]
        except TypeError:
            raise wrong_type(name, value, "give bytes, text, or a local file as pathlib.Path") from None


def wrong_type(name: str, value: object, remedy: str) -> SettingsError:
    """Return the refusal of a value."""
    return SettingsError(f"{name} is of the wrong type, {type(value).__name__}", remedy)

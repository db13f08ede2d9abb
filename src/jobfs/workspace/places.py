"""How places are written on the command line: ``JOB:/path`` and ``run:RUN:/path``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from jobfs.errors import SettingsError
from jobfs.planner.naming import check_path

RUN_PREFIX = "run:"
_FORM = "write JOB:/path, such as abc123:/reports/summary.md"


class WrongPath(SettingsError):
    """A path that names nothing, or that no server could hold."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path in the workspace of a job, or among the files of a run.

    :param job: a job's id, or ``run:`` and a run's id.
    :param path: without slashes at the ends; empty for the root.
    :param is_directory: it was written with a final slash.
    """

    job: str
    path: str
    is_directory: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def child(self, name: str) -> Place:
        """Return the place of that name in this directory."""
        return Place(self.job, f"{self.path}/{name}" if self.path else name)

    def __str__(self) -> str:
        return f"{self.job}:/{self.path}"


def parse_place(text: str) -> Place:
    """Read a place; a job alone is its root.

    :raises SettingsError: for no job. :raises WrongPath: for a path with empty parts or dots.
    """
    if not isinstance(text, str):
        raise SettingsError(f"{text!r} names no job", _FORM)
    prefix = RUN_PREFIX if text.startswith(RUN_PREFIX) else ""
    job, _, path = text.removeprefix(prefix).partition(":")
    if not job or "/" in job:
        raise SettingsError(f"{text!r} names no job", _FORM)
    return place_in(prefix + job, path)


def place_in(job: str, path: str) -> Place:
    """Return the place of a path in a workspace; slashes at its ends mean nothing but that it is a directory.

    :raises WrongPath: for a path with empty parts or dots.
    """
    if not isinstance(path, str):
        raise WrongPath(f"{path!r} is no path", "write it as text, from the root of the workspace")
    inner = path.strip("/")
    if inner and any(part in ("", ".", "..") for part in inner.split("/")):
        raise WrongPath(f"'{job}:{path}' has an empty part or dots in its path", _FORM)
    return Place(job, inner, path.endswith("/") or not inner)


def parse_job(text: str) -> str:
    """Read a job's id, also where it is written with a colon.

    :raises SettingsError: where it has a path, or is a run.
    """
    place = parse_place(text)
    if place.path or place.job.startswith(RUN_PREFIX):
        raise SettingsError(f"{text!r} is no job", "name a job by its id; see 'jobfs jobs list'")
    return place.job


def check_new(place: Place) -> None:
    """Refuse a path that no server could hold, before anything is sent.

    :raises WrongPath:
    """
    if not place.path:
        raise WrongPath(f"{place} is the root of the workspace", "name a file or directory in it")
    trouble = check_path(place.path)
    if trouble is not None:
        raise WrongPath(f"{place}: the server cannot hold this path ({trouble.value})", "choose another name")

"""Where the durable state of each workspace lies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from jobfs.errors import SettingsError

STATE_DIRECTORY = "JOBFS_STATE_DIR"
STATE_NAME = "state.db"
"""The file in a state folder without which nothing is known of a workspace."""

_KEY_LETTERS = 16


def state_root(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of all states; ``JOBFS_STATE_DIR`` names another one."""
    told = environment.get(STATE_DIRECTORY)
    if told:
        return Path(told)
    import platformdirs  # a process that has its order does not need it

    return Path(platformdirs.user_state_dir("jobfs"))


def mount_state(root: Path, url: str, job: str) -> Path:
    """Return the state folder of a workspace as it is mounted, wherever that is."""
    return root / "workspaces" / key_of(url, job)


def folder_state(root: Path, url: str, job: str, folder: Path) -> Path:
    """Return the state folder of a workspace as it is kept in step with one real folder.

    It is the record of the last scan of that folder, so no other folder, and no mount, may share it: an empty folder
    beside the record of a full one would read as deletions.
    """
    return root / "workspaces" / key_of(url, job, str(folder))


def real_directory(directory: Path) -> str:
    """Return a directory as records spell it. What is mounted there is not touched: it might not answer."""
    absolute = Path(os.path.abspath(directory))  # noqa: PTH100  (resolve() would look into the mount)
    return str(absolute.parent.resolve() / absolute.name)


def missing(directory: Path) -> list[Path]:
    """Return a directory and those above it that are not there, the innermost first."""
    return [place for place in (directory, *directory.parents) if not place.exists()]


def check_folder(root: Path, folder: str) -> None:
    """Refuse to keep a folder in step that holds what jobfs itself writes all the time.

    :param folder: as ``real_directory`` gives it.
    :raises SettingsError:
    """
    if root.resolve().is_relative_to(folder):
        remedy = f"name another folder, or move the state: {STATE_DIRECTORY}=/another/place"
        raise SettingsError(f"{folder} holds the state of jobfs itself ({root})", remedy)


def all_states(root: Path) -> Iterator[Path]:
    """Yield every state folder of a workspace that there is."""
    workspaces = root / "workspaces"
    if workspaces.is_dir():
        yield from sorted(path for path in workspaces.iterdir() if (path / STATE_NAME).exists())


def key_of(*parts: str) -> str:
    """Return the name of a folder for what these words name together."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:_KEY_LETTERS]

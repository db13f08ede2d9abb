"""Where ``jobfs login`` keeps a key: in the keyring of the system, or in a file that only the user can read.

The library ``keyring`` is an optional extra; without it, or where it finds no keyring (a server without a desktop), the
file serves. A key in the keyring is kept by the address of its server, so that it is never used for another one.
"""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobfs.errors import SettingsError

SERVICE = "jobfs"
FOLDER = "keys"
"""Beside ``config.toml``: what ``jobfs logout`` may delete."""


class NoKeyring(Exception):
    """There is no keyring that can be used; its text says why."""


def keep_in_keyring(url: str, key: str) -> None:
    """Put a key into the system's keyring; may ask the user to unlock it.

    :raises NoKeyring:
    """
    _call("set_password", SERVICE, url, key)


def from_keyring(url: str) -> str:
    """Return the key of a server from the system's keyring; may ask the user to unlock it.

    :raises SettingsError: it is not there, or there is no keyring.
    """
    try:
        key = _call("get_password", SERVICE, url)
    except NoKeyring as error:
        remedy = "jobfs login --no-keyring keeps the key in a file"
        raise SettingsError(f"the keyring cannot be used: {error}", remedy) from None
    if not key:
        raise SettingsError(f"the keyring has no key for {url}", "log in again: jobfs login")
    return str(key)


def forget_in_keyring(url: str) -> bool:
    """Remove the key of a server from the keyring; tell whether there was one."""
    try:
        _call("delete_password", SERVICE, url)
    except NoKeyring:
        return False
    return True


def _call(name: str, *words: str) -> Any:
    """Call a function of the library.

    :raises NoKeyring: it is not installed, finds no keyring, or the keyring refuses.
    """
    try:
        library = importlib.import_module("keyring")
        errors = importlib.import_module("keyring.errors")
    except ImportError:
        raise NoKeyring("the library keyring is not installed (pip install 'jobfs[keyring]')") from None
    try:
        return getattr(library, name)(*words)
    except errors.KeyringError as error:
        raise NoKeyring(str(error) or type(error).__name__) from error


def keep_in_file(directory: Path, name: str, key: str) -> Path:
    """Put a key into a file of its own that only the user can read; return its path below the directory."""
    path = Path(FOLDER, f"{name}.key")
    place = directory / path
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = place.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{key}\n")
    temporary.replace(place)
    return path


def forget_file(directory: Path, path: Path) -> bool:
    """Delete a key file that ``keep_in_file`` has made; tell whether it was one, and there."""
    if path.parent != directory / FOLDER:
        return False
    with suppress(FileNotFoundError):
        path.unlink()
        return True
    return False

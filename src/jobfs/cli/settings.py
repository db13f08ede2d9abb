"""Which server, and with which key: options, environment, profile, default, in this order.

A profile is a table of ``config.toml`` in the user's configuration folder::

    default = "work"                      # used where no profile is named

    [profiles.work]
    url = "https://studio.example"
    api-key-file = "work.key"             # beside config.toml, or an absolute path, or ~/...

Keys come from files and the environment, never from arguments, which every process of the machine can read. A profile's
key is only used for the profile's own server, so that ``--url`` cannot send it to another one.
"""

from __future__ import annotations

import os
import stat
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from jobfs.api.studio import DEFAULT_BASE
from jobfs.errors import SettingsError

URL = "JOBFS_URL"
API_KEY = "JOBFS_API_KEY"
SECOND_API_KEY = "PERSTACK_API_KEY"
SYSTEM_KEY = "JOBFS_SYSTEM_KEY"
PROFILE = "JOBFS_PROFILE"
CONFIG_DIRECTORY = "JOBFS_CONFIG_DIR"
SECRET_VARIABLES = (API_KEY, SECOND_API_KEY, SYSTEM_KEY)
"""What no child process gets from us."""

_MOST_KEY_BYTES = 4096
_KEY_REMEDY = f"set {API_KEY}, or name a file that holds the key with --api-key-file"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the command line says about all commands."""

    url: str | None = None
    api_key_file: Path | None = None
    profile: str | None = None
    is_debug: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """A server and the keys for it. Its ``repr`` shows no key.

    :param is_default_url: nobody named a server.
    :param warnings: lines for the user.
    """

    url: str
    api_key: str = field(repr=False)
    system_key: str | None = field(default=None, repr=False)
    is_default_url: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Profile:
    name: str = ""
    url: str | None = None
    api_key_file: Path | None = None


def config_directory(environment: Mapping[str, str]) -> Path:
    """Return where ``config.toml`` is looked for."""
    told = environment.get(CONFIG_DIRECTORY)
    return Path(told) if told else Path(platformdirs.user_config_dir("jobfs"))


def load(chosen: Chosen, environment: Mapping[str, str]) -> Settings:
    """Decide server and key.

    :raises SettingsError: where there is no key, or a file or profile is missing or cannot be read.
    """
    profile = _profile(chosen, environment)
    url = chosen.url or environment.get(URL) or profile.url
    key, warnings = _key(chosen, environment, profile, url)
    return Settings(
        url=(url or DEFAULT_BASE).strip().removesuffix("/"),
        api_key=key,
        system_key=environment.get(SYSTEM_KEY) or None,
        is_default_url=url is None,
        warnings=warnings,
    )


def server_url(chosen: Chosen, environment: Mapping[str, str]) -> str:
    """Return the server alone, for what needs no key."""
    url = chosen.url or environment.get(URL) or _profile(chosen, environment).url or DEFAULT_BASE
    return url.strip().removesuffix("/")


def _key(
    chosen: Chosen, environment: Mapping[str, str], profile: _Profile, url: str | None
) -> tuple[str, tuple[str, ...]]:
    if chosen.api_key_file is not None:
        return _read_key(chosen.api_key_file)
    for name in (API_KEY, SECOND_API_KEY):
        if environment.get(name):
            return environment[name], ()
    if profile.api_key_file is None:
        raise SettingsError("there is no API key", _KEY_REMEDY)
    if url != profile.url:
        raise SettingsError(f"the key of profile {profile.name!r} is not for the server {url}", _KEY_REMEDY)
    return _read_key(profile.api_key_file)


def _read_key(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the first line of a key file that holds something, and a warning where others can read the file."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MOST_KEY_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise SettingsError(f"the key file {path} cannot be read: {error.strerror}", _KEY_REMEDY) from error
    key = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if not key:
        raise SettingsError(f"the key file {path} is empty", "write the key into it, on one line")
    is_open = sys.platform != "win32" and bool(mode & (stat.S_IRGRP | stat.S_IROTH))
    return key, (f"other users can read the key file {path}: chmod 600 it",) if is_open else ()


def _profile(chosen: Chosen, environment: Mapping[str, str]) -> _Profile:
    path = config_directory(environment) / "config.toml"
    name = chosen.profile or environment.get(PROFILE)
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except FileNotFoundError:
        if name:
            raise SettingsError(f"there is no profile {name!r}, for there is no {path}", "write that file") from None
        return _Profile()
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", "correct it, or move it away") from error
    return _read_profile(path, document, name)


def _read_profile(path: Path, document: Mapping[str, Any], name: str | None) -> _Profile:
    name = name or document.get("default")
    if name is None:
        return _Profile()
    profiles = document.get("profiles", {})
    table = profiles.get(name) if isinstance(profiles, dict) else None
    if not isinstance(table, dict):
        known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) and profiles else "none"
        raise SettingsError(f"{path} has no profile {name!r}", f"profiles there: {known}")
    wrong = [key for key, value in table.items() if key not in ("url", "api-key-file") or not isinstance(value, str)]
    if wrong:
        remedy = "a profile has url and api-key-file, both texts; keys themselves belong into a file of their own"
        raise SettingsError(f"{path}: profile {name!r}: {', '.join(wrong)} is not understood", remedy)
    file = table.get("api-key-file")
    return _Profile(str(name), table.get("url"), path.parent / Path(file).expanduser() if file else None)

"""Which server, and with which key: options, environment, profile, default, in this order.

Profiles are those of ``config.toml`` (``profiles``).

Keys come from files, the environment and the keyring of the system, never from arguments, which every process of the
machine can read. A profile's key is only used for the profile's own server: ``--url`` cannot send it to another one.
"""

from __future__ import annotations

import os
import stat
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jobfs.api.address import DEFAULT_BASE
from jobfs.errors import SettingsError
from jobfs.workspace.keystore import from_keyring
from jobfs.workspace.profiles import Pacing, Profile, read_profile
from jobfs.workspace.variables import API_KEY, CONFIG_DIRECTORY, PROFILE, SECOND_API_KEY, SYSTEM_KEY, URL

_MOST_KEY_BYTES = 4096
_KEY_REMEDY = f"log in once: jobfs login; or set {API_KEY}, or name a file that holds the key with --api-key-file"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the command line says about all commands."""

    url: str | None = None
    api_key_file: Path | None = None
    profile: str | None = None
    is_debug: bool = False
    pacing: Pacing = field(default_factory=Pacing)


@dataclass(frozen=True, slots=True)
class Settings:
    """A server and the keys for it. Its ``repr`` shows no key.

    :param is_default_url: nobody named a server.
    :param warnings: lines for the user.
    :param is_read_only: nothing may be changed: so the profile says.
    """

    url: str
    api_key: str = field(repr=False)
    system_key: str | None = field(default=None, repr=False)
    is_default_url: bool = False
    warnings: tuple[str, ...] = ()
    pacing: Pacing = field(default_factory=Pacing)
    is_read_only: bool = False


def config_directory(environment: Mapping[str, str]) -> Path:
    """Return where ``config.toml`` and the keys are looked for."""
    told = environment.get(CONFIG_DIRECTORY)
    if told:
        return Path(told)
    import platformdirs  # a process that has its order does not need it

    return Path(platformdirs.user_config_dir("jobfs"))


def load(chosen: Chosen, environment: Mapping[str, str], api_key: str | None = None) -> Settings:
    """Decide server and key.

    :param api_key: of a script that has one of its own.
    :raises SettingsError: where there is no key, or a file or profile is missing or cannot be read.
    """
    profile = _profile(chosen, environment)
    url = chosen.url or environment.get(URL) or profile.url
    key, told = _key(chosen, environment, profile, url) if api_key is None else (api_key, ())
    return Settings(
        url=(url or DEFAULT_BASE).strip().removesuffix("/"),
        api_key=key,
        system_key=environment.get(SYSTEM_KEY) or None,
        is_default_url=url is None,
        warnings=told,
        pacing=chosen.pacing.over(profile.pacing),
        is_read_only=profile.is_read_only,
    )


def of_script(chosen: Chosen, api_key: str | None = None) -> Settings:
    """Decide server and key for a script, which may have a key of its own; warnings are Python's.

    :raises SettingsError: as ``load``.
    """
    found = load(chosen, os.environ, api_key)
    for warning in found.warnings:
        warnings.warn(warning, stacklevel=3)
    return found


def _key(
    chosen: Chosen, environment: Mapping[str, str], profile: Profile, url: str | None
) -> tuple[str, tuple[str, ...]]:
    if chosen.api_key_file is not None:
        return _read_key(chosen.api_key_file)
    for name in (API_KEY, SECOND_API_KEY):
        if environment.get(name):
            return environment[name], ()
    if profile.api_key_file is None and not profile.has_keyring:
        raise SettingsError("there is no API key", _KEY_REMEDY)
    if (url or "").rstrip("/") != (profile.url or "").rstrip("/"):
        raise SettingsError(f"the key of profile {profile.name!r} is not for the server {url}", _KEY_REMEDY)
    if profile.api_key_file is not None:
        return _read_key(profile.api_key_file)
    return from_keyring(url or DEFAULT_BASE), ()


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


def _profile(chosen: Chosen, environment: Mapping[str, str]) -> Profile:
    return read_profile(config_directory(environment), chosen.profile or environment.get(PROFILE))

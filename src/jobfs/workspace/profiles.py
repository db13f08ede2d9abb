"""Profiles: what ``config.toml`` in the user's configuration folder says about each server.

::

    default = "work"                      # used where no profile is named

    [profiles.work]
    url = "https://studio.example"
    api-key-file = "work.key"             # beside config.toml, or an absolute path, or ~/...
    limit-up = "1M"                       # bytes a second; limit-down likewise
    connections = 8                       # requests at once
    read-only = true                      # refuse every change

In place of ``api-key-file`` there may be ``keyring = true``: the key is in the keyring of the system (``keystore``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobfs.errors import SettingsError

CONFIG_NAME = "config.toml"
_REMEDY = "a profile has url, api-key-file or keyring, limit-up, limit-down, connections and read-only"
_KINDS: dict[str, tuple[type, ...]] = {
    "url": (str,),
    "api-key-file": (str,),
    "keyring": (bool,),
    "limit-up": (str, int),
    "limit-down": (str, int),
    "connections": (int,),
    "read-only": (bool,),
}


@dataclass(frozen=True, slots=True)
class Pacing:
    """How much of the line may be used.

    :param up: bytes a second that contents may be sent with; None: any number. ``down``: received, likewise.
    :param connections: requests at once; None: as many as the server takes well.
    """

    up: int | None = None
    down: int | None = None
    connections: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("limit-up", self.up), ("limit-down", self.down), ("connections", self.connections)):
            if value is not None and value < 1:
                raise SettingsError(f"{name} must be 1 or more", "leave it out for no limit")

    @classmethod
    def of_words(cls, up: str | None, down: str | None, connections: int | None) -> Pacing:
        """Read limits as users write them.

        :raises SettingsError: one of them cannot be understood.
        """
        return cls(None if up is None else parse_size(up), None if down is None else parse_size(down), connections)

    def over(self, other: Pacing) -> Pacing:
        """Return this one, with what it leaves open as another one says."""
        return Pacing(
            other.up if self.up is None else self.up,
            other.down if self.down is None else self.down,
            other.connections if self.connections is None else self.connections,
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """One table of ``config.toml``; all empty where no profile is used."""

    name: str = ""
    url: str | None = None
    api_key_file: Path | None = None
    has_keyring: bool = False
    pacing: Pacing = field(default_factory=Pacing)
    is_read_only: bool = False


def read_profile(directory: Path, name: str | None) -> Profile:
    """Return a profile, or the default one.

    :param directory: of ``config.toml``.
    :raises SettingsError: it is not there, or cannot be read.
    """
    path = directory / CONFIG_NAME
    document = read_config(directory)
    if document is None:
        if name:
            remedy = f"make one: jobfs login --profile {name}"
            raise SettingsError(f"there is no profile {name!r}, for there is no {path}", remedy)
        return Profile()
    name = name or document.get("default")
    if name is None:
        return Profile()
    profiles = document.get("profiles", {})
    table = profiles.get(name) if isinstance(profiles, dict) else None
    if not isinstance(table, dict):
        known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) and profiles else "none"
        raise SettingsError(f"{path} has no profile {name!r}", f"profiles there: {known}")
    return _profile(path, str(name), table)


def read_config(directory: Path) -> Mapping[str, Any] | None:
    """Return ``config.toml`` as a document; None where there is none.

    :raises SettingsError: it cannot be read.
    """
    path = directory / CONFIG_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    import tomllib  # not needed where there are no profiles, nor by a process that has its order

    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> SettingsError:
    return SettingsError(f"{path} cannot be read: {error}", "correct it, or move it away")


def _profile(path: Path, name: str, table: Mapping[str, Any]) -> Profile:
    wrong = [key for key, value in table.items() if not _fits(value, _KINDS.get(key, ()))]
    if wrong:
        remedy = f"{_REMEDY}; keys themselves belong into a file of their own"
        raise SettingsError(f"{path}: profile {name!r}: {', '.join(wrong)} is not understood", remedy)
    file = table.get("api-key-file")
    up, down = (str(table[key]) if key in table else None for key in ("limit-up", "limit-down"))
    return Profile(
        name,
        table.get("url"),
        path.parent / Path(file).expanduser() if file else None,
        table.get("keyring", False),
        Pacing.of_words(up, down, table.get("connections")),
        table.get("read-only", False),
    )


def _fits(value: object, kinds: tuple[type, ...]) -> bool:
    """Tell whether a value is of one of these kinds; to Python a truth is a number, to the user it is none."""
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


def parse_size(text: str) -> int:
    """Read a number of bytes, with K, M, G or T for powers of 1024.

    :raises SettingsError: it is none.
    """
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)(?:i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise SettingsError(f"{text!r} is no size", "write a number with K, M, G or T, such as 500M")
    return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")

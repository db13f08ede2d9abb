"""What a mount or sync is told to do: values that travel from the command to the process that does it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jobfs.cli.terminal import tell
from jobfs.engine.patience import DEFAULT_DEADLINE_S
from jobfs.workspace.profiles import Pacing
from jobfs.workspace.settings import Chosen, Settings, load

CRASH_NAME = "crash.txt"
"""The file in the folder of all states that keeps the last complaints of a process in the background."""

_TUPLES = ("ignore",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One mount or synced folder. Goes through a pipe, never through arguments, for it holds the key.

    :param directory: absolute.
    :param kind: ``mount`` or ``folder``.
    :param transport: ``auto``, ``kernel`` or ``fusepy``.
    :param wake: ``auto``, ``on`` or ``off``: see ``fuse.wakes``; of a mount.
    :param may_fall_back: whether a folder is kept in step where FUSE cannot be used.
    :param max_deletions: see ``engine.session.Options``.
    :param deletes: whether a deletion on one side is one on the other; of a folder.
    :param cache_bytes: see ``engine.session.Options``; of a mount.
    :param history_bytes: what old versions may take. :param history_days: how long they stay. None: as said last.
    :param timeout_s: how long a program waits for a server that gives nothing; of a mount.
    :param is_held: hold changes from now on; else it is as it was, held or not.
    :param log_level: see ``logbook.logged_to``.
    :param drain_timeout_s: how long an end may take to send what is left.
    """

    job: str
    directory: str
    url: str
    api_key: str = field(repr=False)
    is_default_url: bool = False
    pacing: Pacing = field(default_factory=Pacing)
    state_root: str = ""
    kind: str = "mount"
    transport: str = "auto"
    may_fall_back: bool = True
    is_read_only: bool = False
    allow_other: bool = False
    wake: str = "auto"
    ignore: tuple[str, ...] = ()
    conflict: str = "keep-both"
    prefetch: str = "small"
    direction: str = "both"
    deletes: bool = True
    fsync_remote: bool = False
    write_through: bool = False
    max_deletions: int | None = 0
    timeout_s: float = DEFAULT_DEADLINE_S
    drain_timeout_s: float = 30.0
    cache_bytes: int | None = None
    history_bytes: int | None = None
    history_days: float | None = None
    is_held: bool = False
    log_level: str = "info"

    @property
    def path(self) -> Path:
        """The directory."""
        return Path(self.directory)

    @property
    def settings(self) -> Settings:
        """The server and its key."""
        return Settings(self.url, self.api_key, is_default_url=self.is_default_url, pacing=self.pacing)

    def to_line(self) -> bytes:
        """Return it as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Order:
        """Read what ``to_line`` gave."""
        values: dict[str, Any] = json.loads(line)
        tuples = {name: tuple(values[name]) for name in _TUPLES}
        return cls(**{**values, **tuples, "pacing": Pacing(**values["pacing"])})


def settings_of(general: Chosen) -> Settings:
    """Decide server and key, and tell the warnings.

    :raises SettingsError: there is no key, or a file or profile is missing or cannot be read.
    """
    found = load(general, os.environ)
    for warning in found.warnings:
        tell(f"jobfs: warning: {warning}")
    return found


def server_of(settings: Settings) -> dict[str, Any]:
    """Return what an order says about the server, as its values by name."""
    names = ("url", "api_key", "is_default_url", "pacing")
    return {name: getattr(settings, name) for name in names}

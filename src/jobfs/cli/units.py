"""What systemd and launchd are told to keep a workspace mounted or in step: the texts, and the commands to run.

A unit runs ``jobfs mount --foreground`` (or ``sync --watch``) as the user, and begins again where that fails. It does
not where trying again cannot help: no key, a wrong key, no such job. The end of a session drains: the service manager's
SIGTERM is what Ctrl-C is.
"""

from __future__ import annotations

import hashlib
import os
import plistlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jobfs.workspace.states import STATE_DIRECTORY
from jobfs.workspace.variables import CONFIG_DIRECTORY

_FINAL_CODES = (2, 3, 4, 9)
"""Exit codes after which another try would end the same way."""

_UNSENT_CODE = 11
_DRAIN_S = 30
_KILL_AFTER_S = 60
_PASSED_ON = (CONFIG_DIRECTORY, STATE_DIRECTORY)
_PREFIX = "jobfs-"


@dataclass(frozen=True, slots=True)
class Task:
    """What a service does.

    :param words: the command line after ``jobfs``.
    :param environment: what it needs of the present one; never a key.
    """

    job: str
    directory: str
    words: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """The service's name: always the same for a directory."""
        return name_of(self.directory)


def name_of(directory: str) -> str:
    """Return the name of the service for a directory, as ``real_directory`` spells it."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", Path(directory).name).strip("-").lower()[:32] or "root"
    return f"{_PREFIX}{plain}-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:6]}"


def task_of(job: str, directory: str, *, is_sync: bool, profile: str | None, options: Sequence[str]) -> Task:
    """Return what a service is to do for a directory."""
    start = ("sync", "--watch") if is_sync else ("mount", "--foreground")
    chosen = ("--profile", profile) if profile else ()
    words = (*start, *chosen, "--drain-timeout", str(_DRAIN_S), *options, "--", job, directory)
    return Task(job, directory, words, {name: os.environ[name] for name in _PASSED_ON if name in os.environ})


def own_command() -> list[str]:
    """Return how this jobfs is called from anywhere."""
    return [sys.executable, "-P", "-m", "jobfs"]


class Manager(Protocol):
    """A service manager."""

    def path(self, name: str) -> Path:
        """Return where a service is written."""

    def text(self, task: Task, command: Sequence[str]) -> str:
        """Return what is written there."""

    def start(self, name: str) -> list[list[str]]:
        """Return the commands after which it runs, now and after each login."""

    def stop(self, name: str) -> list[list[str]]:
        """Return the commands after which it does not."""

    def probe(self) -> list[str]:
        """Return the command that says ``offline`` where no manager of this user runs."""

    def begins_later(self) -> bool:
        """Tell whether one will run when the user logs in, although none does now."""

    def enable(self, name: str) -> list[list[str]]:
        """Return the commands after which it runs once the manager does."""

    def disable(self, name: str) -> list[list[str]]:
        """Return the commands that undo that."""

    def forget(self) -> list[list[str]]:
        """Return the commands to run once the file is deleted."""

    def ask(self, name: str) -> list[str]:
        """Return the command that tells whether it runs, in one word or by its exit code."""

    def installed(self) -> list[str]:
        """Return the names of all services of jobfs."""


class Systemd:
    """The user's own systemd.

    :param home: the configuration folder of the user (XDG_CONFIG_HOME). :param booted: is there where systemd has
        started this machine (sd_booted(3)).
    """

    def __init__(self, home: Path, booted: Path = Path("/run/systemd/system")) -> None:
        self._folder = home / "systemd" / "user"
        self._booted = booted

    def path(self, name: str) -> Path:
        """Return where a service is written."""
        return self._folder / f"{name}.service"

    def text(self, task: Task, command: Sequence[str]) -> str:
        """Return the unit (systemd.service(5))."""
        variables = [f"Environment={_systemd_word(f'{name}={value}')}" for name, value in task.environment.items()]
        lines = [
            "[Unit]",
            f"Description=jobfs: {_systemd_plain(task.job)} at {_systemd_plain(task.directory)}",
            "After=network-online.target",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            *variables,
            "ExecStart=" + " ".join(map(_systemd_word, [*command, *task.words])),
            "Restart=on-failure",
            "RestartSec=10",
            f"RestartPreventExitStatus={' '.join(map(str, _FINAL_CODES))}",
            f"SuccessExitStatus={_UNSENT_CODE}",
            "KillMode=mixed",
            f"TimeoutStopSec={_KILL_AFTER_S}",
            "",
            "[Install]",
            "WantedBy=default.target",
        ]
        return "\n".join(lines) + "\n"

    def start(self, name: str) -> list[list[str]]:
        """Return the commands after which it runs."""
        return [_systemctl("daemon-reload"), _systemctl("enable", "--now", f"{name}.service")]

    def stop(self, name: str) -> list[list[str]]:
        """Return the commands after which it does not."""
        return [_systemctl("disable", "--now", f"{name}.service")]

    def probe(self) -> list[str]:
        """Return the command that says ``offline`` where no systemd of this user runs: systemctl(1)."""
        return _systemctl("is-system-running")

    def begins_later(self) -> bool:
        """Tell whether one runs when the user logs in."""
        return self._booted.is_dir()

    def enable(self, name: str) -> list[list[str]]:
        """Return the command that links the unit, which needs no running systemd."""
        return [_systemctl("enable", f"{name}.service")]

    def disable(self, name: str) -> list[list[str]]:
        """Return the command that takes the link away."""
        return [_systemctl("disable", f"{name}.service")]

    def forget(self) -> list[list[str]]:
        """Return the commands to run once the file is deleted."""
        return [_systemctl("daemon-reload")]

    def ask(self, name: str) -> list[str]:
        """Return the command that tells whether it runs."""
        return _systemctl("is-active", f"{name}.service")

    def installed(self) -> list[str]:
        """Return the names of all services of jobfs."""
        return sorted(path.stem for path in self._folder.glob(f"{_PREFIX}*.service"))


class Launchd:
    """The user's own launchd.

    :param home: the user's home directory. :param uid: the user's number.
    """

    def __init__(self, home: Path, uid: int) -> None:
        self._folder = home / "Library" / "LaunchAgents"
        self._logs = home / "Library" / "Logs"
        self._domain = f"gui/{uid}"

    def path(self, name: str) -> Path:
        """Return where a service is written."""
        return self._folder / f"{name}.plist"

    def text(self, task: Task, command: Sequence[str]) -> str:
        """Return the property list (launchd.plist(5))."""
        values = {
            "Label": task.name,
            "ProgramArguments": [*command, *task.words],
            "EnvironmentVariables": dict(task.environment),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": _KILL_AFTER_S,
            "StandardErrorPath": str(self._logs / f"{task.name}.log"),
        }
        return plistlib.dumps(values, sort_keys=False).decode()

    def start(self, name: str) -> list[list[str]]:
        """Return the commands after which it runs."""
        return [["launchctl", "bootstrap", self._domain, str(self.path(name))]]

    def stop(self, name: str) -> list[list[str]]:
        """Return the commands after which it does not."""
        return [["launchctl", "bootout", f"{self._domain}/{name}"]]

    def probe(self) -> list[str]:
        """Return a command that never says ``offline``: launchd always runs."""
        return ["launchctl", "version"]

    def begins_later(self) -> bool:
        """Return True: see ``probe``."""
        return True

    def enable(self, name: str) -> list[list[str]]:
        """Return no command: what is written there is read at the next login."""
        return []

    def disable(self, name: str) -> list[list[str]]:
        """Return no command, likewise."""
        return []

    def forget(self) -> list[list[str]]:
        """Return the commands to run once the file is deleted."""
        return []

    def ask(self, name: str) -> list[str]:
        """Return the command that tells whether it runs."""
        return ["launchctl", "print", f"{self._domain}/{name}"]

    def installed(self) -> list[str]:
        """Return the names of all services of jobfs."""
        return sorted(path.stem for path in self._folder.glob(f"{_PREFIX}*.plist"))


def _systemctl(*words: str) -> list[str]:
    return ["systemctl", "--user", *words]


def _systemd_plain(text: str) -> str:
    """Return a text for a line of a unit: on one line, without specifiers."""
    return " ".join(text.split()).replace("%", "%%")


def _systemd_word(text: str) -> str:
    """Return one word of a command line (systemd.service(5), "Command lines")."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = escaped.replace("\n", "\\n")
    return escaped if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", escaped) else f'"{escaped}"'

"""The record of a mount or synced folder in its state folder: ``instance.json``.

It is written when one begins and stays when it ends, so that ``jobfs push`` and ``jobfs status`` know later whose state
that is. Whether one runs is told by its answer or by the lock on the state, never by the record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobfs.cli.control import Address, NotAnswering, ask
from jobfs.cli.states import all_states, state_root
from jobfs.errors import JobfsError, MountError, StateLocked
from jobfs.store.lock import DirectoryLock

RECORD_NAME = "instance.json"
MOUNT = "mount"
FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Instance:
    """A mount or synced folder.

    :param state: its state folder. :param kind: ``mount`` or ``folder``.
    :param transport: what serves a mount: ``kernel`` or ``fusepy``; for a folder ``sync``.
    :param started: seconds since the epoch.
    :param address: of its control socket; None once it has ended.
    """

    state: Path
    kind: str
    directory: str
    url: str
    job: str
    transport: str
    pid: int
    started: float
    address: Address | None = None

    def write(self) -> None:
        """Put the record in its place, as a whole."""
        names = ("kind", "directory", "url", "job", "transport", "pid", "started")
        value = {name: getattr(self, name) for name in names}
        value["address"] = self.address.as_json() if self.address is not None else None
        temporary = self.state / f"{RECORD_NAME}.new"
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(value, file, indent=2)
            file.write("\n")
        temporary.replace(self.state / RECORD_NAME)

    def write_ended(self) -> None:
        """Note that it has ended."""
        replace(self, pid=0, address=None).write()

    def is_running(self) -> bool:
        """Tell whether a process has this state open now."""
        if self.address is not None:
            with suppress(NotAnswering):
                ask(self.address, "ping", timeout_s=5.0)
                return True
        return is_locked(self.state)

    def ask(self, do: str, **options: Any) -> Any:
        """Ask the running process; see ``control.ask``.

        :raises NotAnswering: it does not run.
        """
        if self.address is None:
            raise NotAnswering(f"nothing of jobfs runs at {self.directory}", "see 'jobfs status'")
        return ask(self.address, do, **options)


def read_instance(state: Path) -> Instance | None:
    """Return the record in a state folder, or None where there is none that can be read."""
    try:
        value = json.loads((state / RECORD_NAME).read_text(encoding="utf-8"))
        address = Address.from_json(value["address"]) if value["address"] else None
        texts = {name: str(value[name]) for name in ("kind", "directory", "url", "job", "transport")}
        return Instance(state, **texts, pid=int(value["pid"]), started=float(value["started"]), address=address)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def instances() -> Iterator[Instance]:
    """Yield every record, running or not."""
    for state in all_states(state_root()):
        found = read_instance(state)
        if found is not None:
            yield found


def is_locked(state: Path) -> bool:
    """Tell whether a process has a state open. Only for where nobody answers: it takes the lock for a moment."""
    try:
        DirectoryLock.take(state).release()
    except StateLocked:
        return True
    return False


def real_directory(directory: Path) -> str:
    """Return a directory as records spell it. What is mounted there is not touched: it might not answer."""
    absolute = Path(os.path.abspath(directory))  # noqa: PTH100  (resolve() would look into the mount)
    return str(absolute.parent.resolve() / absolute.name)


def running_at(directory: Path) -> Instance:
    """Return the mount or synced folder that runs at a directory.

    :raises MountError: none does.
    """
    wanted = real_directory(directory)
    for found in instances():
        if found.directory == wanted and found.is_running():
            return found
    raise MountError(f"nothing of jobfs is mounted or synchronised at {directory}", "see 'jobfs status'")


def tell_mounts(url: str, job: str, do: str, *, timeout_s: float = 10.0) -> None:
    """Have every mount and synced folder of a job look at the server, as far as they answer.

    :param do: ``poke`` returns at once, ``refresh`` when they have looked.
    """
    for found in instances():
        if (found.url, found.job) == (url, job) and found.address is not None:
            with suppress(JobfsError):  # a mount that does not answer is no failure of the command that tells it
                found.ask(do, timeout_s=timeout_s)

"""The record of a mount or synced folder in its state folder: ``instance.json``.

It is written when one begins and stays when it ends, so that ``jobfs push`` and ``jobfs status`` know later whose state
that is. Whether one runs is told by its answer or by the lock on the state, never by the record.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobfs.errors import DeadlineExceeded, JobfsError, MountError, SettingsError, StateLocked
from jobfs.store.blobs import FULL, disk_errors
from jobfs.store.lock import DirectoryLock
from jobfs.store.reserve import Reserve
from jobfs.workspace.control import Address, NotAnswering, ask
from jobfs.workspace.states import all_states, real_directory, state_root

RECORD_NAME = "instance.json"
MOUNT = "mount"
FOLDER = "folder"

_END_S = 10.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Instance:
    """A mount or synced folder.

    :param state: its state folder. :param kind: ``mount`` or ``folder``.
    :param transport: what serves a mount: ``kernel`` or ``fusepy``; for a folder ``sync``.
    :param started: seconds since the epoch.
    :param address: of its control socket; None once it has ended.
    :param unsent: how many changes were not sent, or are held, once it has ended.
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
    unsent: int = 0

    def write(self) -> None:
        """Put the record in its place, as a whole: on a full disk with the room of the reserve, or of the old record.

        :raises StateFull: there is not even that.
        """
        names = ("kind", "directory", "url", "job", "transport", "pid", "started", "unsent")
        value = {name: getattr(self, name) for name in names}
        value["address"] = self.address.as_json() if self.address is not None else None
        text = f"{json.dumps(value, indent=2)}\n".encode()
        with disk_errors():
            if not self._replace(text):
                with Reserve(self.state).lent():
                    is_there = self._replace(text)
                if not is_there:
                    self._write_over(text)

    def _replace(self, text: bytes) -> bool:
        """Write a new file and give it the place of the old one, or tell that there is no room for it."""
        temporary = self.state / f"{RECORD_NAME}.new"
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(text)
        except OSError as error:
            if error.errno not in FULL:
                raise
            return False
        temporary.replace(self.state / RECORD_NAME)
        return True

    def _write_over(self, text: bytes) -> None:
        """Write into the room of the old record, in one call that the death of the process cannot cut.

        That an end is recorded is worth more than that a power cut leaves either record: an end has none of the address
        of what ran, so that it fits; blanks fill the rest.
        """
        with (self.state / RECORD_NAME).open("r+b", buffering=0) as file:
            file.write(text.ljust(os.fstat(file.fileno()).st_size))

    def write_ended(self, unsent: int = 0) -> None:
        """Note that it has ended.

        :param unsent: how many changes are not sent, or held.
        """
        replace(self, pid=0, address=None, unsent=unsent).write()

    def answers(self) -> bool:
        """Tell whether its process runs and answers, within some seconds."""
        if self.address is not None:
            with suppress(NotAnswering, DeadlineExceeded):
                ask(self.address, "ping", timeout_s=5.0)
                return True
        return False

    @property
    def is_broken_off(self) -> bool:
        """Whether it has begun and not ended in order; of what does not run, that its process died."""
        return self.address is not None

    def is_running(self) -> bool:
        """Tell whether a process has this state open now, even if it does not answer."""
        return self.answers() or is_locked(self.state)

    def kill(self) -> None:
        """End its process at once, and return when it has let go of the state. Nothing that was closed is lost.

        :raises DeadlineExceeded: it does not end.
        """
        with suppress(ProcessLookupError):
            os.kill(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        until = time.monotonic() + _END_S
        while is_locked(self.state):
            if time.monotonic() > until:
                raise DeadlineExceeded(f"process {self.pid} does not end", f"end it yourself: kill -9 {self.pid}")
            time.sleep(_LOOK_S)  # nothing tells that a lock is free but taking it

    def ask(self, do: str, **options: Any) -> Any:
        """Ask the running process; see ``control.ask``.

        :raises NotAnswering: it does not run.
        """
        if self.address is None:
            raise NotAnswering(f"nothing of jobfs runs at {self.directory}", "see 'jobfs status'")
        return ask(self.address, do, **options)


def identity(instance: Instance) -> dict[str, object]:
    """Return what is known of an instance without asking it."""
    return {
        "kind": instance.kind,
        "directory": instance.directory,
        "job": instance.job,
        "url": instance.url,
        "transport": instance.transport,
        "pid": instance.pid,
        "started": instance.started,
        "state": str(instance.state),
    }


def read_instance(state: Path) -> Instance | None:
    """Return the record in a state folder, or None where there is none that can be read."""
    try:
        value = json.loads((state / RECORD_NAME).read_text(encoding="utf-8"))
        address = Address.from_json(value["address"]) if value["address"] else None
        kind, directory, url, job, transport = (
            str(value[name]) for name in ("kind", "directory", "url", "job", "transport")
        )
        pid, started, unsent = int(value["pid"]), float(value["started"]), int(value.get("unsent", 0))
        return Instance(state, kind, directory, url, job, transport, pid, started, address, unsent)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def telling_whose(directory: Path) -> Iterator[None]:
    """Where the state of a mount or folder turns out to be in use, say which process has it, and where.

    :param directory: the state folder. :raises StateLocked: it is in use.
    """
    try:
        yield
    except StateLocked as error:
        found = read_instance(directory)
        if found is None or found.address is None:
            raise
        how = "mounted on" if found.kind == MOUNT else "kept in step with"
        raise StateLocked(
            f"{found.job} is already {how} {found.directory} by process {found.pid}",
            f"end that first: jobfs umount {found.directory}",
        ) from error


def instances(root: Path | None = None) -> Iterator[Instance]:
    """Yield every record, running or not.

    :param root: the folder of all states; by default the one that the command line uses.
    """
    for state in all_states(root or state_root()):
        found = read_instance(state)
        if found is not None:
            yield found


def holding(path: Path, root: Path | None = None) -> tuple[Instance, str] | None:
    """Return the mount or synchronised folder that a path is in, and the path from its root; None: there never was one.

    The innermost one; of several at one directory the one that runs, or else that began last. What is mounted there is
    not touched if it can be helped: it might not answer.
    """
    known = defaultdict(list)
    for found in instances(root):
        known[found.directory].append(found)
    wanted = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would look into the mount)
    for above in (*reversed(wanted.parents), wanted):
        whole = Path(real_directory(above), wanted.relative_to(above))
        for place in (whole, *whole.parents):
            if here := known.get(str(place)):
                inner = whole.relative_to(place).as_posix()
                return _current(here), "" if inner == "." else inner
    return None


def find(path: Path, root: Path | None = None) -> tuple[Instance, str]:
    """Return the mount or synchronised folder that a path is in, and the path from its root.

    :param root: the folder of all states; by default the one that the command line uses.
    :raises MountError: there never was one.
    """
    found = holding(path, root)
    if found is None:
        what = "the current directory" if path == Path() else f"{path}"
        raise MountError(f"{what} is in no mount or synchronised folder of jobfs", "see 'jobfs status'")
    return found


def check_apart(folder: str, root: Path | None = None) -> None:
    """Refuse to keep a folder in step that lies in a mount, or in another such folder, which is served now.

    :param folder: as ``real_directory`` gives it.
    :raises SettingsError:
    """
    outer = holding(Path(folder).parent, root)
    if outer is not None and outer[0].is_running():
        raise SettingsError(
            f"{folder} is in {outer[0].directory}, which is itself mounted or kept in step", "name a folder elsewhere"
        )


def _current(records: list[Instance]) -> Instance:
    if len(records) == 1:
        return records[0]
    return max(records, key=lambda one: (one.is_running(), one.started))


def is_locked(state: Path) -> bool:
    """Tell whether a process has a state open. Only for where nobody answers: it takes the lock for a moment."""
    try:
        DirectoryLock.take(state).release()
    except StateLocked:
        return True
    return False


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

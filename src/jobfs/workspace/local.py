"""``jobfs.LocalCopy``: a mount or synchronised folder of this machine, for scripts that do not await.

Everything is done by an ``AsyncLocalCopy`` on a loop of its own, which lasts for one call; what each method promises is
said there.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar, Unpack

from jobfs.workspace.answers import Difference, Pushed, Restored, Version
from jobfs.workspace.awaiting import Server
from jobfs.workspace.copies import PUSH_S, AsyncLocalCopy
from jobfs.workspace.portal import Portal

_T = TypeVar("_T")


class LocalCopy:
    """What this machine has of a workspace: a mount, or a folder kept in step. It may be running, or have ended.

    Paths are written with slashes, from its root, as in ``Workspace``; "" is all of it. Nothing stays open between two
    calls. Server and key are needed only where nobody serves it and the server has to be asked.

    :param path: the mount point, the folder, or any path in it.
    :param server: ``url``, ``api_key`` or ``api_key_file``, ``profile``, ``state``; see ``awaiting.Server``.
    :raises MountError: it is in none.
    """

    def __init__(self, path: Path | str, **server: Unpack[Server]) -> None:
        self._copy = AsyncLocalCopy(path, **server)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r})"

    @property
    def directory(self) -> str:
        """The mount point, or the folder."""
        return self._copy.directory

    @property
    def job(self) -> str:
        """The id of the job, or ``run:RUN``."""
        return self._copy.job

    @property
    def is_mount(self) -> bool:
        """Whether it is a mount, and not a folder."""
        return self._copy.is_mount

    @property
    def is_running(self) -> bool:
        """Whether a process serves it now."""
        return self._copy.is_running

    # -- how it stands

    def status(self) -> dict[str, Any]:
        """Return what ``jobfs status --json`` shows of it. :raises MountError: nobody serves it."""
        return _run(self._copy.status())

    def refresh(self, *, max_deletions: int | None = 0) -> None:
        """Look at the server now, and return when what it has is shown here; see ``AsyncLocalCopy.refresh``.

        :param max_deletions: so many deletions here are never asked about; None: any number.
        """
        _run(self._copy.refresh(max_deletions=max_deletions))

    def conflicts(self) -> list[str]:
        """Return the paths of the conflict copies."""
        return _run(self._copy.conflicts())

    # -- changes

    def hold(self, *, is_on: bool = True) -> int:
        """Keep changes here until they are pushed, or let them go; return how many wait, or are sent now. Durable."""
        return _run(self._copy.hold(is_on=is_on))

    def differences(self, path: str = "") -> list[Difference]:
        """Return what is otherwise here than on the server, at or below a path; see ``AsyncLocalCopy.differences``."""
        return _run(self._copy.differences(path))

    def diff(self, path: str = "") -> bytes:
        """Return the same as a patch, which ``git apply`` and ``patch -p1`` take; empty where nothing differs."""
        return _run(self._copy.diff(path))

    def push(self, path: str = "", *, timeout_s: float = PUSH_S, max_deletions: int | None = 0) -> Pushed:
        """Send what differs at or below a path, with what that relies on, held or not; see ``AsyncLocalCopy.push``.

        :param max_deletions: so many deletions of a folder are never asked about; None: any number.
        """
        return _run(self._copy.push(path, timeout_s=timeout_s, max_deletions=max_deletions))

    def revert(self, path: str = "") -> list[str]:
        """Make everything at or below a path what the server has; return what was changed; the history keeps it."""
        return _run(self._copy.revert(path))

    # -- history

    def history(self, path: str = "") -> list[Version]:
        """Return the kept versions of a file, or of all in a directory, the newest first.

        :raises NoSuchVersion: there is nothing, and nothing is kept.
        """
        return _run(self._copy.history(path))

    def deleted(self, path: str = "") -> list[Version]:
        """Return what was deleted at or below a path and can come back."""
        return _run(self._copy.deleted(path))

    def restore(self, path: str, number: int, *, to: str | None = None) -> Restored:
        """Bring a version of a file back, or put it at another path; what it replaces becomes a version itself."""
        return _run(self._copy.restore(path, number, to=to))

    def undelete(self, path: str = "") -> list[Restored]:
        """Bring back a deleted file, or what was deleted in a directory last, in one go. Nothing is replaced."""
        return _run(self._copy.undelete(path))


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    with closing(Portal("jobfs-local-copy")) as portal:
        return portal.run(work)

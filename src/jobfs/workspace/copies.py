"""``jobfs.AsyncLocalCopy``: a mount or synchronised folder of this machine, its changes and its history.

What a workspace is on the server, ``AsyncWorkspace`` knows; here is what a machine has of one. The process that serves
it is asked through its control socket; where none does, its state is opened and the same handlers answer. The command
line asks through this class as well.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, Self, Unpack

from jobfs.errors import MountError, Refused, SettingsError
from jobfs.folder.report import SyncEvent
from jobfs.folder.sync import Direction, FolderSync, SyncOptions
from jobfs.workspace import ended, resting
from jobfs.workspace.answering import ask_async
from jobfs.workspace.answers import (
    Difference,
    Pushed,
    Restored,
    Version,
    difference_of,
    pushed_of,
    restored_of,
    unsent_of,
    version_of,
)
from jobfs.workspace.arguments import NUMBER, TEXT, WHOLE_NUMBER, check
from jobfs.workspace.awaiting import Server, check_server, connect, state_of
from jobfs.workspace.connection import Connection
from jobfs.workspace.differences import patch_of
from jobfs.workspace.instance import FOLDER, Instance, find, read_instance
from jobfs.workspace.line import check_changes
from jobfs.workspace.past import answer
from jobfs.workspace.places import RUN_PREFIX
from jobfs.workspace.settings import Settings

PUSH_S = 120.0
"""So long a push may take unless something else is said."""

OnProgress = Callable[[Any], None]


class Ask(Protocol):
    """Asks a workspace for something; see ``review.handlers_of``."""

    async def __call__(self, do: str, *, on_progress: OnProgress = ..., **options: Any) -> Any:
        """Return the answer, as values of JSON."""


@asynccontextmanager
async def asking(instance: Instance, settings: Callable[[], Settings], *, starts: bool = False) -> AsyncIterator[Ask]:
    """Give the means to ask about changes, whether a workspace is served or not.

    :param settings: asked for only where nobody serves it.
    :param starts: whether something is to be sent, for which a session has to run; of a mount.
    :raises JobfsError: the state cannot be opened, there is no key, ...
    """
    instance = read_instance(instance.state) or instance  # it may have begun or ended since
    if await asyncio.to_thread(instance.is_running):
        address = instance.address
        if address is None:
            raise MountError(f"{instance.directory} is used by a process that does not answer", "see 'jobfs doctor'")

        async def ask(do: str, *, on_progress: OnProgress = lambda left: None, **options: Any) -> Any:
            return await ask_async(address, do, on_progress=on_progress, **options)

        yield ask
        return
    async with resting.changes_of(settings(), instance, starts=starts) as handlers:

        async def answer_here(do: str, *, on_progress: OnProgress = lambda left: None, **options: Any) -> Any:
            async def send(left: object) -> None:
                on_progress(left)

            return await handlers[do](options, send)

        yield answer_here


class AsyncLocalCopy:
    """What this machine has of a workspace: a mount, or a folder kept in step. It may be running, or have ended.

    Paths are written with slashes, from its root, as in ``AsyncWorkspace``; "" is all of it. Nothing stays open between
    two calls. Server and key are needed only where nobody serves it and the server has to be asked.

    :param path: the mount point, the folder, or any path in it.
    :param server: see ``awaiting.Server``.
    :raises MountError: it is in none. :raises SettingsError: an argument means nothing.
    """

    def __init__(self, path: Path | str, **server: Unpack[Server]) -> None:
        check_server(server)
        if not isinstance(path, str | os.PathLike):
            raise SettingsError(f"{path!r} is no path", "name a mount point, a folder, or a path in one")
        self._open(Path(path).expanduser(), lambda: connect(server).settings, state_of(server))

    def _open(self, path: Path, settings: Callable[[], Settings], root: Path | None) -> None:
        self._instance, self._inner = find(path, root)
        self._settings = settings

    @classmethod
    def holding(cls, path: Path, settings: Callable[[], Settings]) -> tuple[Self, str]:
        """Return what holds a path, and that path from its root.

        :param settings: says which server, with which key, where that is needed.
        :raises MountError: nothing does.
        """
        self = cls.__new__(cls)
        self._open(path, settings, None)
        return self, self._inner

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r})"

    @property
    def instance(self) -> Instance:
        """Its record, as it is now."""
        return read_instance(self._instance.state) or self._instance

    @property
    def directory(self) -> str:
        """The mount point, or the folder."""
        return self._instance.directory

    @property
    def job(self) -> str:
        """The id of the job, or ``run:RUN``."""
        return self._instance.job

    @property
    def is_mount(self) -> bool:
        """Whether it is a mount, and not a folder."""
        return self._instance.kind != FOLDER

    @property
    def is_running(self) -> bool:
        """Whether a process serves it now."""
        return self.instance.is_running()

    # -- how it stands

    async def status(self) -> dict[str, Any]:
        """Return what ``jobfs status --json`` shows of it.

        :raises MountError: nobody serves it.
        """
        told: dict[str, Any] = await self._ask_running("status")
        return told

    async def refresh(self, *, max_deletions: int | None = 0) -> None:
        """Look at the server now, and return when what it has is shown here.

        :param max_deletions: so many deletions here are never asked about; None: any number.
        :raises MountError: nobody serves it. :raises ApiError: the server cannot be asked. :raises GuardTripped: most
            of what is here would be deleted, for it is gone on the server.
        """
        check("max_deletions", max_deletions, WHOLE_NUMBER, or_none=True)
        await self._ask_running("refresh", allow=max_deletions)

    async def conflicts(self) -> list[str]:
        """Return the paths of the conflict copies."""
        found = await self._ask_running("conflicts") if self.is_running else ended.conflicts_of(self._instance)
        return [one["path"] for one in found]

    async def _ask_running(self, do: str, *, on_progress: OnProgress = lambda value: None, **options: Any) -> Any:
        address = self.instance.address
        if address is None:
            raise MountError(f"nothing of jobfs runs at {self.directory}", "see 'jobfs status'")
        return await ask_async(address, do, on_progress=on_progress, **options)

    # -- changes

    async def hold(self, *, is_on: bool = True) -> int:
        """Keep changes here until they are pushed, or let them go; return how many wait, or are sent now. Durable.

        :raises Refused: nothing is sent from here: it is a run, or read-only.
        """
        if is_on and self.job.startswith(RUN_PREFIX):
            raise Refused("the files of a run cannot be changed, so there is nothing to hold", "copy them elsewhere")
        if not self.is_running:
            return ended.hold(self._instance, is_on=is_on)
        number: int = await self._ask_running("hold", on=is_on)
        return number

    async def differences(self, path: str = "") -> list[Difference]:
        """Return what is otherwise here than on the server, at or below a path.

        :raises NotFound: there is nothing at the path, and was nothing.
        """
        check("path", path, TEXT)
        async with self.asking() as ask:
            return [difference_of(one) for one in await ask("differences", path=path)]

    async def diff(self, path: str = "") -> bytes:
        """Return the same as a patch, which ``git apply`` and ``patch -p1`` take; empty where nothing differs.

        :raises NotFound: there is nothing at the path, and was nothing.
        """
        check("path", path, TEXT)
        async with self.asking() as ask:
            return b"".join([line async for line in patch_of(ask, path)])

    async def push(self, path: str = "", *, timeout_s: float = PUSH_S, max_deletions: int | None = 0) -> Pushed:
        """Send what differs at or below a path, as it is now, with what that relies on; held or not.

        :param max_deletions: so many deletions of a folder are never asked about; None: any number.
        :raises NotFound: there is nothing at the path, and was nothing. :raises GuardTripped: it would delete most of
            the server's side. :raises ApiError: nobody serves it, and the server does not answer.
        """
        check("path", path, TEXT)
        check("timeout_s", timeout_s, NUMBER)
        check("max_deletions", max_deletions, WHOLE_NUMBER, or_none=True)
        if not self.is_mount and not self.is_running:
            return await self._push_folder(path, max_deletions)
        async with self.asking(starts=True) as ask:
            return pushed_of(await ask("publish", path=path, deadline_s=timeout_s, allow=max_deletions))

    async def revert(self, path: str = "") -> list[str]:
        """Make everything at or below a path what the server has; return what was changed.

        The bytes that go are in the history before.

        :raises NotFound: there is nothing at the path, and was nothing.
        """
        check("path", path, TEXT)
        async with self.asking() as ask:
            reverted: list[str] = await ask("revert", path=path)
            return reverted

    @asynccontextmanager
    async def asking(self, *, starts: bool = False) -> AsyncIterator[Ask]:
        """Give the means to ask several times, with answers as values of JSON; see ``review.handlers_of``.

        :param starts: whether something of a mount is to be sent.
        """
        async with asking(self._instance, self._settings, starts=starts) as ask:
            yield ask

    async def _push_folder(self, path: str, max_deletions: int | None) -> Pushed:
        """Send a folder that nobody keeps in step just now."""
        settings = self._settings()
        check_changes(is_read_only=settings.is_read_only)
        async with resting.changes_of(settings, self._instance, starts=False) as handlers:
            await handlers["approve"]({"path": path}, _tell_nobody)
        done: list[str] = []

        def note(event: SyncEvent) -> None:
            done.append(event.path)

        options = SyncOptions(direction=Direction.PUSH, max_deletions=max_deletions)
        async with aclosing(Connection(settings)) as connection:
            with ended.changing(self._instance) as state:
                remote = connection.remote(self.job)
                summary = await FolderSync(state, remote, Path(self.directory), options=options, progress=note).run()
        return Pushed(tuple(sorted(done)), (), unsent_of(summary.skipped))

    # -- history

    async def history(self, path: str = "") -> list[Version]:
        """Return the kept versions of a file, or of all in a directory, the newest first.

        :raises NoSuchVersion: there is nothing, and nothing is kept.
        """
        return [version_of(one) for one in (await self.ask_past("story", path))["versions"]]

    async def deleted(self, path: str = "") -> list[Version]:
        """Return what was deleted at or below a path and can come back."""
        return [version_of(one) for one in await self.ask_past("deleted", path)]

    async def restore(self, path: str, number: int, *, to: str | None = None) -> Restored:
        """Bring a version of a file back; what it replaces becomes a version itself.

        :param to: put it at this path instead.
        :raises NoSuchVersion: it is none of that file. :raises HistoryError: it cannot be put there.
        """
        check("number", number, WHOLE_NUMBER)
        check("to", to, TEXT, or_none=True)
        return restored_of(await self.ask_past("restore", path, version=number, target=path if to is None else to))

    async def undelete(self, path: str = "") -> list[Restored]:
        """Bring back a deleted file, or what was deleted in a directory last, in one go. Nothing is replaced.

        :raises NoSuchVersion: nothing is kept of it. :raises HistoryError: the file is there, or cannot be.
        """
        return [restored_of(one) for one in await self.ask_past("undelete", path)]

    async def ask_past(
        self, what: str, path: str, *, on_progress: OnProgress = lambda value: None, **more: object
    ) -> Any:
        """Ask for something of the history, with the answer as values of JSON; see ``past.answer``."""
        check("path", path, TEXT)
        request: Mapping[str, Any] = {"what": what, "path": path, **more}
        if self.is_running:
            return await self._ask_running("history", on_progress=on_progress, **request)

        async def tell(value: object) -> None:
            on_progress(value)

        with resting.past_of(self._instance) as past:
            return await answer(past, request, tell)


async def _tell_nobody(value: object) -> None:
    """Take progress that nobody waits for."""

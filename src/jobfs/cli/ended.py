"""The changes of a mount or folder that nobody serves: its state is opened, and answers as the process would."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from jobfs.cli.context import open_remote
from jobfs.cli.mounted import start_session
from jobfs.cli.terminal import tell
from jobfs.engine.compose import mirror_session
from jobfs.engine.review import Review
from jobfs.engine.session import Options, Session
from jobfs.errors import SettingsError
from jobfs.folder.sync import FolderSync
from jobfs.planner.ignore import Ignore
from jobfs.store.state import State
from jobfs.workspace.connection import check_changes
from jobfs.workspace.control import Handler
from jobfs.workspace.instance import FOLDER, Instance
from jobfs.workspace.review import handlers_of
from jobfs.workspace.settings import Settings


class _Notes:
    def note(self, line: str) -> None:
        """Tell something that is no failure."""
        tell(f"jobfs: {line}")


@asynccontextmanager
async def opened(settings: Settings, instance: Instance, *, starts: bool) -> AsyncIterator[Mapping[str, Handler]]:
    """Open the state of a mount or folder that has ended, and answer requests about its changes from it.

    :param starts: whether something is to be sent, for which a session has to run; of a mount.
    :raises SettingsError: its server is another one. :raises JobfsError: the state cannot be opened, ...
    """
    if settings.url != instance.url:
        # The key belongs to the server of the settings; it is not sent to another one.
        remedy = f"use --url {instance.url}"
        raise SettingsError(f"{instance.directory} belongs to another server than {settings.url}", remedy)
    if starts:
        check_changes(is_read_only=settings.is_read_only)
    async with AsyncExitStack() as stack:
        state = State.open(instance.state)
        stack.callback(state.close)
        remote = await stack.enter_async_context(open_remote(settings, instance.job))
        look: Callable[[], Awaitable[None]] | None = None
        if instance.kind == FOLDER:
            sync = FolderSync(state, remote, Path(instance.directory))
            session: Session = sync.session
            look = sync.record
        else:
            session = mirror_session(state, remote, ignore=Ignore(), host=socket.gethostname(), options=Options())
        stack.push_async_callback(session.stop)
        if starts:
            await start_session(session, remote, _Notes())
        yield handlers_of(Review(session, look))

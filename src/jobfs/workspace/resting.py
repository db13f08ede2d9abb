"""What was mounted or kept in step and is served by nobody just now: its state is opened, and answers as one would."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path

from jobfs.engine.compose import mirror_session
from jobfs.engine.restore import TreeRestorer
from jobfs.engine.review import Review
from jobfs.engine.session import Options, Session, random_token
from jobfs.engine.workspace import SystemClock, Workspace
from jobfs.errors import SettingsError
from jobfs.folder.arrivals import Arrivals
from jobfs.folder.disk import Disk
from jobfs.folder.restore import FolderRestorer
from jobfs.folder.sync import FolderSync
from jobfs.planner.ignore import Ignore
from jobfs.workspace.answering import Handler
from jobfs.workspace.connection import Connection
from jobfs.workspace.ended import changing
from jobfs.workspace.instance import FOLDER, Instance
from jobfs.workspace.line import check_changes
from jobfs.workspace.past import Past
from jobfs.workspace.places import RUN_PREFIX
from jobfs.workspace.review import handlers_of
from jobfs.workspace.settings import Settings


@asynccontextmanager
async def changes_of(settings: Settings, instance: Instance, *, starts: bool) -> AsyncIterator[Mapping[str, Handler]]:
    """Open the state of a mount or folder, and answer requests about its changes from it.

    :param starts: whether something is to be sent, for which a session has to run; of a mount.
    :raises SettingsError: its server is another one. :raises JobfsError: the state cannot be opened, ...
    :raises ApiError: something is to be sent, and the server does not say what it has.
    """
    check_server(settings, instance)
    if starts:
        check_changes(is_read_only=settings.is_read_only)
    async with AsyncExitStack() as stack:
        state = stack.enter_context(changing(instance))
        connection = await stack.enter_async_context(aclosing(Connection(settings)))
        remote = connection.remote(instance.job)
        look: Callable[[], Awaitable[None]] | None = None
        if instance.kind == FOLDER:
            sync = FolderSync(state, remote, Path(instance.directory))
            session: Session = sync.session
            look = sync.record
        else:
            session = mirror_session(state, remote, ignore=Ignore(), host=platform.node(), options=Options())
        stack.push_async_callback(session.stop)
        if starts:
            await session.start(wait_for_listing=True)
        yield handlers_of(Review(session, look))


def check_server(settings: Settings, instance: Instance) -> None:
    """Refuse to ask another server than that of a workspace: the key belongs to the server of the settings.

    :raises SettingsError:
    """
    if settings.url != instance.url:
        remedy = f"use --url {instance.url}"
        raise SettingsError(f"{instance.directory} belongs to another server than {settings.url}", remedy)


@contextmanager
def past_of(instance: Instance) -> Iterator[Past]:
    """Open the history of a mount or folder."""
    with changing(instance) as state:
        is_read_only = instance.job.startswith(RUN_PREFIX)
        workspace = Workspace(state, Ignore(), SystemClock(), host=platform.node(), is_read_only=is_read_only)
        if instance.kind == FOLDER:
            disk = Disk(Path(instance.directory))
            yield Past(state, FolderRestorer(workspace, disk, Arrivals(random_token), lambda place: None))
        else:
            yield Past(state, TreeRestorer(workspace))

"""``jobfs push``: send what earlier mounts could not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.cli.context import load_settings, open_remote, run
from jobfs.cli.failures import UNSENT
from jobfs.cli.instance import FOLDER, Instance, instances, real_directory
from jobfs.cli.mounted import start_session
from jobfs.cli.service import drained
from jobfs.cli.serving import name_left
from jobfs.cli.settings import Settings
from jobfs.cli.terminal import Progress, progress, say, tell
from jobfs.engine.compose import mirror_session
from jobfs.engine.session import Options, Unsynced
from jobfs.errors import MountError
from jobfs.folder.report import SyncEvent
from jobfs.model import ROOT
from jobfs.planner.ignore import Ignore
from jobfs.store.state import State


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("push", epilog="Example: jobfs push")(push)


def push(
    context: typer.Context,
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Only of this mount or folder.")] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that it may take.")] = 120.0,
) -> None:
    """Send everything that is not yet on the server: of mounts that have ended, and of running ones."""
    left: list[Unsynced] = []
    for instance in _wanted(directory):
        with progress(f"sending what is left of {instance.job}") as display:
            if instance.is_running():
                told = instance.ask("drain", deadline_s=timeout, timeout_s=None, on_progress=_shower(display))
                left += [Unsynced(ROOT, str(one["path"]), str(one["reason"])) for one in told]
            elif instance.kind == FOLDER:
                tell(f"{instance.directory}: left to 'jobfs sync {instance.job} {instance.directory} --once'")
            else:
                left += _push_ended(context, instance, timeout, display)
    name_left(left)
    if left:
        raise typer.Exit(UNSENT)
    say("everything is sent")


def _shower(display: Progress) -> Any:
    return lambda left: display.show(f"sending {left} changes")


def _wanted(directory: Path | None) -> Iterator[Instance]:
    place = None if directory is None else real_directory(directory)
    found = [instance for instance in instances() if place in (None, instance.directory)]
    if place is not None and not found:
        raise MountError(f"nothing of jobfs was ever mounted or synchronised at {directory}", "see 'jobfs status'")
    yield from found


def _push_ended(context: typer.Context, instance: Instance, timeout_s: float, display: Progress) -> list[Unsynced]:
    """Send what is left in a state; no server is asked, and no key needed, where nothing is."""
    if not _has_work(instance):
        return []
    settings = load_settings(context)
    if settings.url != instance.url:
        # The key belongs to the server of the settings; it is not sent to another one.
        reason = f"it belongs to another server: use --url {instance.url}"
        return [Unsynced(ROOT, instance.directory, reason)]
    return run(_drain(settings, instance, timeout_s, display))


def _has_work(instance: Instance) -> bool:
    state = State.open(instance.state)
    try:
        local, base = state.synced, state.base
        return any(entry.is_dirty for entry in state.local.entries() if not entry.is_local_only) or any(
            (known := base.get(node)) is None
            or (entry := local.get(node)) is None
            or (known.parent, known.name, known.permission) != (entry.parent, entry.name, entry.permission)
            for node in {*local, *base}
        )
    finally:
        state.close()


class _Notes:
    """Satisfies ``service.Front`` as far as the start of a session tells something."""

    def note(self, line: str) -> None:
        """Tell something that is no failure."""
        tell(f"jobfs: {line}")

    def ready(self, instance: Instance) -> None:
        """Say nothing: nobody is served."""

    def happened(self, event: SyncEvent) -> None:
        """Say nothing: this is no folder."""

    def draining(self, left: int) -> None:
        """Say nothing: ``drained`` has listeners of its own."""


async def _drain(settings: Settings, instance: Instance, timeout_s: float, display: Progress) -> list[Unsynced]:
    async with AsyncExitStack() as stack:
        state = State.open(instance.state)
        stack.callback(state.close)
        remote = await stack.enter_async_context(open_remote(settings, instance.job))
        session = mirror_session(state, remote, ignore=Ignore(), host=socket.gethostname(), options=Options())
        stack.push_async_callback(session.stop)
        await start_session(session, remote, _Notes())

        async def show(left: object) -> None:
            display.show(f"sending {left} changes")

        return await drained(session, session.drain(timeout_s), asyncio.Event(), [show])

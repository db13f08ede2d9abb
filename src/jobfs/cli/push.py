"""``jobfs push``: send what the server does not have yet: of mounts, or of a folder."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.context import open_remote, run
from jobfs.cli.failures import UNSENT
from jobfs.cli.fronts import front_of
from jobfs.cli.instance import FOLDER, Instance, instances
from jobfs.cli.mount import IgnoreOption, MaxDeleteOption, YesOption, allowed_deletions
from jobfs.cli.mounted import start_session
from jobfs.cli.once import end_with, folder_order, synchronise, try_out
from jobfs.cli.order import Order
from jobfs.cli.outcome import Outcome
from jobfs.cli.service import drained
from jobfs.cli.serving import name_left
from jobfs.cli.sync import DeleteOption, DryRunOption, EventsOption
from jobfs.cli.terminal import Progress, progress, say, tell
from jobfs.engine.compose import mirror_session
from jobfs.engine.session import Options, Unsynced
from jobfs.errors import MountError, SettingsError
from jobfs.folder.report import SyncEvent
from jobfs.folder.sync import FolderSync
from jobfs.model import ROOT
from jobfs.planner.ignore import Ignore
from jobfs.store.state import State
from jobfs.workspace.connection import check_changes
from jobfs.workspace.meter import Meter
from jobfs.workspace.settings import Settings
from jobfs.workspace.states import real_directory


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("push", epilog="Example: jobfs push ~/job")(push)


def push(
    context: typer.Context,
    what: Annotated[
        str | None, typer.Argument(metavar="JOB|DIR", help="Only of this job, or of this mount or folder.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="After a job: send this folder, also one that is new.")
    ] = None,
    delete: DeleteOption = True,
    dry_run: DryRunOption = False,
    ignore: IgnoreOption = None,
    max_delete: MaxDeleteOption = None,
    yes: YesOption = False,
    timeout: Annotated[float, typer.Option(min=0, help="Of a mount: seconds that it may take.")] = 120.0,
    json: EventsOption = False,
) -> None:
    """Send everything that is not yet on the server, and bring nothing here.

    Without arguments: what ended mounts have left, and what running mounts and folders have not sent yet. A folder that
    nobody keeps in step just now is sent where it or its job is named; the options are for such folders.
    """

    def send(order: Order) -> Outcome:
        check_changes(is_read_only=order.is_read_only)
        allowed = allowed_deletions(max_delete, is_any=yes)
        order = replace(order, direction="push", ignore=tuple(ignore or ()), deletes=delete, max_deletions=allowed)
        return (try_out if dry_run else synchronise)(order, front_of(order, as_json=json))

    if what is not None and directory is not None:
        end_with(send(folder_order(load_settings(context), what, directory, command="push")))
        return
    found = _wanted(what)
    folders = [one for one in found if what is not None and one.kind == FOLDER and not one.is_running()]
    mounts = [one for one in found if one not in folders]
    if mounts and (dry_run or json):
        raise SettingsError("--dry-run and --json are for folders", "name a folder that is not kept in step just now")
    codes = {send(_order(context, one)).code for one in folders}
    if mounts or not folders:
        codes.add(_push_all(context, mounts, timeout))
    if code := max(codes):
        raise typer.Exit(code)


def _order(context: typer.Context, instance: Instance) -> Order:
    """Return the order to send a folder that was kept in step before.

    :raises SettingsError: its server is another one; the key belongs to the server of the settings.
    """
    settings = load_settings(context)
    if settings.url != instance.url:
        remedy = f"use --url {instance.url}"
        raise SettingsError(f"{instance.directory} belongs to another server than {settings.url}", remedy)
    return folder_order(settings, instance.job, Path(instance.directory), command="push")


def _push_all(context: typer.Context, found: list[Instance], timeout_s: float) -> int:
    """Send what mounts, and folders that are kept in step just now, have not sent; return the exit code."""
    left: list[Unsynced] = []
    for instance in found:
        with progress(f"sending what is left of {instance.job}") as display:
            if instance.is_running():
                told = instance.ask("drain", deadline_s=timeout_s, timeout_s=None, on_progress=_shower(display))
                left += [Unsynced(ROOT, str(one["path"]), str(one["reason"])) for one in told]
            elif instance.kind == FOLDER:
                tell(f"{instance.directory}: left to 'jobfs push {instance.directory}'")
            else:
                left += _push_ended(context, instance, timeout_s, display)
    name_left(left)
    if not left:
        say("everything is sent")
    return UNSENT if left else 0


def _shower(display: Progress) -> Any:
    return lambda left: display.show(f"sending {left} changes")


def _wanted(what: str | None) -> list[Instance]:
    """Return what was mounted or kept in step: all of it, at one directory, or of one job.

    :raises MountError: nothing was.
    """
    every = list(instances())
    if what is None:
        return every
    place = real_directory(Path(what))
    found = [one for one in every if one.directory == place] or [one for one in every if one.job == what.rstrip(":")]
    if not found:
        raise MountError(
            f"nothing of jobfs was ever mounted or synchronised at {what}, and no job {what}",
            "see 'jobfs status'; to send a folder to a job: jobfs push JOB DIR",
        )
    return found


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

    def working(self, sync: FolderSync, meter: Meter) -> AbstractAsyncContextManager[None]:
        """Show nothing: this is no folder."""
        return nullcontext()

    def ended(self, outcome: Outcome) -> None:
        """Say nothing: this is no folder."""


async def _drain(settings: Settings, instance: Instance, timeout_s: float, display: Progress) -> list[Unsynced]:
    check_changes(is_read_only=settings.is_read_only)
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

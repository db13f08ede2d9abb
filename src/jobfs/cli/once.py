"""Synchronise a real folder once: what ``sync --once``, ``push``, ``pull`` and ``outputs`` have in common.

Also how such a folder is ordered, which watching and waiting share.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import typer

from jobfs.cli.beginning import hold_first
from jobfs.cli.logbook import logged_to
from jobfs.cli.order import Order, server_of
from jobfs.cli.outcome import Outcome, check_complete, outcome_of
from jobfs.cli.remote import open_remote, run
from jobfs.cli.synced import FolderFront, sync_options
from jobfs.cli.terminal import progress
from jobfs.engine.hold import is_held
from jobfs.engine.remote import Remote
from jobfs.engine.review import Review
from jobfs.errors import SettingsError
from jobfs.folder.root import stand_in
from jobfs.folder.sync import FolderSync
from jobfs.store.state import State
from jobfs.workspace.ended import note_unsent
from jobfs.workspace.forgetting import unbegun_forgotten
from jobfs.workspace.instance import FOLDER, Instance, check_apart, telling_whose
from jobfs.workspace.line import meter_of
from jobfs.workspace.meter import Meter
from jobfs.workspace.places import parse_place
from jobfs.workspace.settings import Settings
from jobfs.workspace.states import check_folder, folder_state, real_directory, state_root


def folder_order(settings: Settings, job: str, directory: Path, *, command: str = "sync") -> Order:
    """Return the order to keep a folder in step, with every choice at its default.

    :param command: what the user has typed, for messages.
    :raises SettingsError: it is not a whole workspace, or the folder holds what jobfs itself writes all the time.
    """
    place = parse_place(job)
    if place.path:
        raise SettingsError("only a whole workspace can be kept in step", f"write jobfs {command} {place.job} DIR")
    folder = real_directory(directory)
    check_folder(state_root(), folder)
    check_apart(folder)
    return Order(
        job=place.job,
        directory=folder,
        **server_of(settings),
        is_read_only=settings.is_read_only,
        state_root=str(state_root().absolute()),
        kind=FOLDER,
    )


def synchronise(order: Order, front: FolderFront) -> Outcome:
    """Bring a folder and a workspace in step, as far as the order says.

    :raises JobfsError: it could not; what was done until then stays, and the next time goes on from there.
    """
    outcome = run(_synchronise(order, front))
    front.ended(outcome)
    check_complete(outcome)
    return outcome


def try_out(order: Order, front: FolderFront) -> Outcome:
    """Find out what ``synchronise`` would do."""
    with progress("comparing"):
        outcome = run(_try_out(order))
    front.ended(outcome)
    return outcome


def approve_folder(order: Order, path: str = "") -> None:
    """Where the folder is held, have what differs at or below a path sent: by the next synchronisation.

    :raises FolderError: it is not the folder that its state knows. :raises NotFound: there is nothing, and was nothing.
    """
    directory = folder_state(Path(order.state_root), order.url, order.job, order.path)
    if (directory / "state.db").exists():
        run(_approve(order, path))


async def _approve(order: Order, path: str) -> None:
    async with open_folder(order, Meter(), is_trial=True) as (state, remote):
        if is_held(state):
            sync = FolderSync(state, remote, order.path, options=sync_options(order))
            await Review(sync.session, sync.record).approve(path)


def end_with(outcome: Outcome) -> None:
    """End the command with the exit code of an outcome."""
    if outcome.code:
        raise typer.Exit(outcome.code)


async def _synchronise(order: Order, front: FolderFront) -> Outcome:
    meter = meter_of(order.settings)
    async with open_folder(order, meter) as (state, remote):
        hold_first(order, state, front)
        sync = FolderSync(state, remote, order.path, options=sync_options(order), progress=front.happened)
        async with front.working(sync, meter):
            return outcome_of(order, sync, await sync.run())


async def _try_out(order: Order) -> Outcome:
    async with open_folder(order, Meter(), is_trial=True) as (state, remote):
        with stand_in(order.path, state) as folder:
            sync = FolderSync(state, remote, folder, options=sync_options(order, is_trial=True))
            return outcome_of(order, sync, await sync.run())


@asynccontextmanager
async def open_folder(order: Order, meter: Meter, *, is_trial: bool = False) -> AsyncIterator[tuple[State, Remote]]:
    """Open the state of a folder and its workspace.

    :param is_trial: leave no record that the folder belongs to the workspace: it does not.
    """
    directory = folder_state(Path(order.state_root), order.url, order.job, order.path)
    began = Instance(directory, FOLDER, order.directory, order.url, order.job, "sync", 0, time.time())
    async with AsyncExitStack() as stack:
        stack.enter_context(unbegun_forgotten(began))
        with telling_whose(directory):
            state = State.open(directory)
        stack.callback(state.close)
        stack.enter_context(logged_to(directory, order.log_level))
        if not is_trial:
            began.write()
            stack.callback(note_unsent, began, state)
        yield state, await stack.enter_async_context(open_remote(order.settings, order.job, meter))

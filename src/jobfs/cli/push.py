"""``jobfs push``: send what the server does not have yet: of mounts, or of a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.failures import UNSENT
from jobfs.cli.fronts import front_of
from jobfs.cli.left import tell_left
from jobfs.cli.mount import IgnoreOption, MaxDeleteOption, YesOption
from jobfs.cli.once import approve_folder, end_with, folder_order, synchronise, try_out
from jobfs.cli.order import Order
from jobfs.cli.outcome import Outcome
from jobfs.cli.remote import run
from jobfs.cli.sync import DeleteOption, DryRunOption, EventsOption
from jobfs.cli.terminal import Progress, many, progress, say, shown, tell
from jobfs.cli.wishes import allowed_deletions
from jobfs.engine.leftover import Unsynced, unsynced_of
from jobfs.errors import MountError, SettingsError
from jobfs.model import ROOT
from jobfs.workspace.copies import asking
from jobfs.workspace.ended import unsent_of
from jobfs.workspace.instance import FOLDER, Instance, find, instances
from jobfs.workspace.line import check_changes
from jobfs.workspace.places import RUN_PREFIX
from jobfs.workspace.states import real_directory


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("push", epilog="Example: jobfs push ~/job")(push)


def push(
    context: typer.Context,
    what: Annotated[
        str | None, typer.Argument(metavar="JOB|PATH", help="Only of this job, mount or folder, or of a path in one.")
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

    Where changes are held (jobfs hold), those at or below the named path are sent as they are now, with the directories
    that they need; the others stay held.
    """

    def send(order: Order) -> Outcome:
        check_changes(is_read_only=order.is_read_only)
        allowed = allowed_deletions(max_delete, is_any=yes)
        order = replace(order, direction="push", ignore=tuple(ignore or ()), deletes=delete, max_deletions=allowed)
        return (try_out if dry_run else synchronise)(order, front_of(order, as_json=json))

    if what is not None and directory is not None:
        order = folder_order(load_settings(context), what, directory, command="push")
        _check_is_no_run(order)
        if not dry_run:
            approve_folder(order)
        end_with(send(order))
        return
    found = _wanted(what)
    folders = [place for place in found if what is not None and place.is_resting_folder]
    others = [place for place in found if place not in folders]
    if others and (dry_run or json):
        raise SettingsError("--dry-run and --json are for folders", "name a folder that is not kept in step just now")
    codes = {_push_folder(context, place, send, is_trial=dry_run) for place in folders}
    if others or not folders:
        allowed = allowed_deletions(max_delete, is_any=yes)
        codes.add(_push_all(context, others, timeout, allowed))
    if code := max(codes):
        raise typer.Exit(code)


def _check_is_no_run(order: Order) -> None:
    """Refuse to send a folder where nothing can be sent.

    :raises SettingsError:
    """
    if order.job.startswith(RUN_PREFIX):
        remedy = f"jobfs pull {order.job} {order.directory} brings them here"
        raise SettingsError("the files of a run cannot be changed", remedy)


@dataclass(frozen=True, slots=True)
class _Place:
    """What is to be sent.

    :param path: in the workspace; "" for all of it. :param is_named: whether the user named it: then what is held there
        is approved.
    """

    instance: Instance
    path: str
    is_named: bool

    @property
    def is_resting_folder(self) -> bool:
        """Whether it is a folder that nobody keeps in step just now."""
        return self.instance.kind == FOLDER and not self.instance.is_running()


def _push_folder(context: typer.Context, place: _Place, send: Callable[[Order], Outcome], *, is_trial: bool) -> int:
    order = _order(context, place.instance)
    if not is_trial:
        approve_folder(order, place.path)
    return send(order).code


def _order(context: typer.Context, instance: Instance) -> Order:
    """Return the order to send a folder that was kept in step before.

    :raises SettingsError: its server is another one; the key belongs to the server of the settings.
    """
    settings = load_settings(context)
    if settings.url != instance.url:
        remedy = f"use --url {instance.url}"
        raise SettingsError(f"{instance.directory} belongs to another server than {settings.url}", remedy)
    return folder_order(settings, instance.job, Path(instance.directory), command="push")


def _push_all(context: typer.Context, found: list[_Place], timeout_s: float, allowed: int | None) -> int:
    """Send what mounts, and folders that are kept in step just now, have not sent; return the exit code.

    :param allowed: so many deletions of a folder are not asked about.
    :raises GuardTripped: a folder would delete more.
    """
    left: list[Unsynced] = []
    for place in found:
        with progress(f"sending what is left of {place.instance.job}") as display:
            left += _push_one(context, place, display, deadline_s=timeout_s, allow=allowed)
    if not left and not any(place.path for place in found):
        say("everything is sent")
    return UNSENT if tell_left(left) else 0


def _push_one(context: typer.Context, place: _Place, display: Progress, **terms: float | None) -> list[Unsynced]:
    """Send what one has not sent; no server is asked, and no key needed, where nothing is left.

    :param terms: see ``_ask``.
    """
    instance = place.instance
    if place.is_resting_folder:
        tell(f"{instance.directory}: left to 'jobfs push {instance.directory}'")
        return []
    if not instance.is_running():
        if not unsent_of(instance):
            return []
        if load_settings(context).url != instance.url:
            # The key belongs to the server of the settings; it is not sent to another one.
            reason = f"it belongs to another server: use --url {instance.url}"
            return [Unsynced(ROOT, instance.directory, reason)]
    told = run(_ask(context, place, display, **terms))
    if place.path:
        sent = len(told["sent"])
        say(f"sent: {many(sent, 'change')}" if sent else f"nothing to send at {shown(place.path)}")
    for path in told["along"]:
        say(f"sent along, since the rest relies on it: {shown(path)}")
    return unsynced_of(told["left"])


async def _ask(context: typer.Context, place: _Place, display: Progress, **terms: float | None) -> dict[str, Any]:
    """Ask one to send what it has.

    :param terms: ``deadline_s``, and how many deletions to ``allow``.
    """
    do = "publish" if place.is_named else "drain"
    async with asking(place.instance, lambda: load_settings(context), starts=True) as ask:
        told: dict[str, Any] = await ask(do, path=place.path, on_progress=_shower(display), **terms)
        return told


def _shower(display: Progress) -> Any:
    return lambda left: display.show(f"sending {many(left, 'change')}")


def _wanted(what: str | None) -> list[_Place]:
    """Return what was mounted or kept in step: all of it, of one job, or what is at one path.

    :raises MountError: nothing was.
    """
    every = list(instances())
    if what is None:
        return [_Place(one, "", False) for one in every]
    place = real_directory(Path(what))
    found = [one for one in every if one.directory == place] or [one for one in every if one.job == what.rstrip(":")]
    if found:
        return [_Place(one, "", True) for one in found]
    try:
        return [_Place(*find(Path(what)), is_named=True)]
    except MountError:
        raise MountError(
            f"nothing of jobfs was ever mounted or synchronised at {what}, and no job {what}",
            "see 'jobfs status'; to send a folder to a job: jobfs push JOB DIR",
        ) from None

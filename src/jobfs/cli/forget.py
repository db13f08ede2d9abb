"""``jobfs forget``: remove what this machine keeps of mounts and folders that have ended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.points import is_mounted
from jobfs.cli.terminal import human_size, many, say
from jobfs.errors import GuardTripped, MountError, MountPointBusy, StateCorrupt
from jobfs.workspace.forgetting import forget as remove
from jobfs.workspace.forgetting import leave_nothing, loss_of
from jobfs.workspace.instance import MOUNT, Instance, instances
from jobfs.workspace.states import real_directory

__all__ = ["forget", "leave_nothing", "register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("forget", epilog="Example: jobfs forget ~/job")(forget)


def forget(
    what: Annotated[str, typer.Argument(metavar="DIR|JOB", help="What has ended there, or of this job; see status.")],
    yes: Annotated[bool, typer.Option("--yes", help="Also what is on no server: it is lost.")] = False,
) -> None:
    """Remove what this machine keeps of an ended mount or folder: local copies, history, log, its line in status.

    The server is not asked, and keeps everything; so does a folder that was kept in step. Refused while it runs, and,
    without --yes, where changes were not sent, or files with ignored names, such as .git, are in a mount.
    """
    found = _wanted(what)
    for one in found:
        _check_ended(one)
    if not yes:
        for one in found:
            _check_nothing_lost(one)
    for one in found:
        freed = remove(one)
        say(f"{one.job} at {one.directory} is forgotten; {human_size(freed)} freed")


def _wanted(what: str) -> list[Instance]:
    """Return what was mounted or kept in step at a directory, or else of a job.

    :raises MountError: nothing was.
    """
    every, place = list(instances()), real_directory(Path(what))
    found = [one for one in every if one.directory == place] or [one for one in every if one.job == what.rstrip(":")]
    if not found:
        cause = f"nothing of jobfs was ever mounted or synchronised at {what}, and no job {what}"
        raise MountError(cause, "see 'jobfs status'")
    return found


def _check_ended(one: Instance) -> None:
    """Refuse while it runs, or while its dead mount hides the directory.

    :raises MountPointBusy:
    """
    if one.is_running():
        how = "mounted on" if one.kind == MOUNT else "kept in step with"
        raise MountPointBusy(f"{one.job} is {how} {one.directory}", f"end that first: jobfs umount {one.directory}")
    if one.kind == MOUNT and one.is_broken_off and is_mounted(Path(one.directory)):
        cause = f"the mount of {one.job} at {one.directory} was broken off, and is still there"
        raise MountPointBusy(cause, f"take it away first: jobfs umount {one.directory}")


def _check_nothing_lost(one: Instance) -> None:
    """Refuse where something is kept that is nowhere else.

    :raises GuardTripped:
    """
    where = f"{one.job} at {one.directory}"
    try:
        loss = loss_of(one)
    except StateCorrupt as error:
        cause = f"nobody can tell what of {where} was not sent: {error.cause}"
        raise GuardTripped(cause, f"{error.remedy}; to lose it: --yes") from error
    if loss.unsent:
        remedy = f"send it: jobfs push {one.directory}; to lose it: --yes"
        raise GuardTripped(f"{many(loss.unsent, 'change')} of {where} not sent", remedy)
    if loss.local_only:
        files = many(loss.local_only, "file")
        remedy = "mount it again to copy them; to lose them: --yes"
        raise GuardTripped(f"{files} of {where} with ignored names, such as .git, would be lost", remedy)

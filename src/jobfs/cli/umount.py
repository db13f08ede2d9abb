"""``jobfs umount``: end a mount or the sync of a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.cli.failures import UNSENT
from jobfs.cli.left import tell_left
from jobfs.cli.points import is_mounted
from jobfs.cli.terminal import Progress, many, progress, say, tell
from jobfs.engine.leftover import unsynced_of
from jobfs.errors import DeadlineExceeded, Interrupted, MountError
from jobfs.fuse.mounting import detach
from jobfs.workspace.instance import MOUNT, Instance, instances, is_locked
from jobfs.workspace.states import real_directory


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("umount", epilog="Example: jobfs umount ~/job")(umount)


def umount(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The mount point, or the synchronised folder.", parser=Path)
    ],
    force: Annotated[bool, typer.Option("--force", help="Even while programs use it.")] = False,
) -> None:
    """End a mount, or the sync of a folder, when everything is sent. What cannot be sent is named and kept."""
    place = real_directory(directory)
    there = [one for one in instances() if one.directory == place]
    found = next((one for one in there if one.answers()), None)
    if found is None:
        silent = next((one for one in there if is_locked(one.state)), None)
        if silent is not None:
            _end_silent(silent, is_forced=force)
        else:
            _take_away_dead(Path(place))
            for one in there:
                if one.is_broken_off:
                    one.write_ended()
        return
    with progress("sending what is left") as display:
        try:
            told = found.ask("stop", force=force, timeout_s=None, until_end=True, on_progress=_shower(display))
        except KeyboardInterrupt:
            raise Interrupted("stopped waiting; it goes on sending, and ends then", "see 'jobfs status'") from None
    is_left = tell_left(unsynced_of(told))
    _say_done(found)
    if is_left:
        raise typer.Exit(UNSENT)


def _shower(display: Progress) -> Any:
    def show(left: object) -> None:
        display.show(f"sending {many(left, 'change')}" if isinstance(left, int) else "sending what is left")

    return show


def _say_done(instance: Instance) -> None:
    how = "mounted on" if instance.kind == MOUNT else "kept in step with"
    say(f"{instance.job} is no longer {how} {instance.directory}")


def _end_silent(instance: Instance, *, is_forced: bool) -> None:
    """End a process that does not answer, by force.

    :raises DeadlineExceeded: that was not asked for.
    """
    if not is_forced:
        raise DeadlineExceeded(
            f"process {instance.pid} does not answer",
            "wait, or end it with --force: what it has not sent is kept",
        )
    instance.kill()
    point = Path(instance.directory)
    if instance.kind == MOUNT and is_mounted(point):
        _take_away_dead(point)
    else:
        _say_done(instance)


def _take_away_dead(point: Path) -> None:
    """Take away a mount whose process is gone.

    :raises MountError: there is none.
    """
    if not is_mounted(point):
        raise MountError(f"nothing of jobfs is mounted or synchronised at {point}", "see 'jobfs status'")
    if sys.platform == "linux":
        detach(point, lazy=True)
    tell("its process was gone; what it had not sent is kept: send it with 'jobfs push', or mount again")
    say(f"{point} is unmounted")

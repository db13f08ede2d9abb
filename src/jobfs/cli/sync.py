"""``jobfs sync``: a real folder kept in step with a workspace, for machines without FUSE."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import Enum, unique
from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.fronts import front_of
from jobfs.cli.mount import (
    ConflictChoice,
    ConflictOption,
    DrainOption,
    HistoryDaysOption,
    HistorySizeOption,
    HoldOption,
    IgnoreOption,
    LevelChoice,
    LevelOption,
    MaxDeleteOption,
    PrefetchChoice,
    YesOption,
)
from jobfs.cli.once import end_with, folder_order, synchronise, try_out
from jobfs.cli.overview import tell_ready
from jobfs.cli.serving import serve
from jobfs.cli.starting import start_in_background
from jobfs.cli.wishes import allowed_deletions, kept_for
from jobfs.errors import SettingsError


@unique
class DirectionChoice(Enum):
    """Which side may change."""

    BOTH = "both"
    PUSH = "push"
    PULL = "pull"


JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job; run:RUN for the files of a run.")]
DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder; made where it is missing.")]
DeleteOption = Annotated[bool, typer.Option(help="A deletion on one side is one on the other.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; code 12 if anything.")]
EventsOption = Annotated[bool, typer.Option("--json", help="For programs: each event is a line of JSON.")]
WholeOption = Annotated[PrefetchChoice, typer.Option(help="A real folder has every file: all is the only choice.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sync", epilog="Example: jobfs sync abc123 ~/job --once")(sync)


def sync(
    context: typer.Context,
    job: JobArgument,
    directory: DirectoryArgument,
    watch: Annotated[
        bool | None, typer.Option("--watch/--once", help="Go on, or end when both agree. On a terminal: watch.")
    ] = None,
    background: Annotated[bool, typer.Option("--background", help="Watch as a process of its own.")] = False,
    direction: Annotated[DirectionChoice, typer.Option(help="Which side may change.")] = DirectionChoice.BOTH,
    delete: DeleteOption = True,
    dry_run: DryRunOption = False,
    conflict: ConflictOption = ConflictChoice.KEEP_BOTH,
    ignore: IgnoreOption = None,
    prefetch: WholeOption = PrefetchChoice.ALL,
    hold: HoldOption = False,
    history_size: HistorySizeOption = None,
    history_days: HistoryDaysOption = None,
    max_delete: MaxDeleteOption = None,
    yes: YesOption = False,
    drain_timeout: DrainOption = 30.0,
    log_level: LevelOption = LevelChoice.INFO,
    json: EventsOption = False,
) -> None:
    """Keep a folder in step with the workspace of a job: ordinary files, on any machine."""
    _check_whole(prefetch)
    _check_ways(watch, is_background=background, is_trial=dry_run, as_json=json)
    order = replace(
        folder_order(load_settings(context), job, directory),
        ignore=tuple(ignore or ()),
        conflict=conflict.value,
        direction=direction.value,
        deletes=delete,
        **kept_for(history_size, history_days),
        max_deletions=allowed_deletions(max_delete, is_any=yes),
        drain_timeout_s=drain_timeout,
        is_held=hold,
        log_level=log_level.value,
    )
    if background:
        tell_ready(start_in_background(order))
        return
    front = front_of(order, as_json=json)
    if dry_run:
        end_with(try_out(order, front))
    elif watch if watch is not None else sys.stdout.isatty():
        raise typer.Exit(serve(order, front))
    else:
        end_with(synchronise(order, front))


def _check_whole(prefetch: PrefetchChoice) -> None:
    """Refuse to leave files out.

    :raises SettingsError:
    """
    if prefetch is not PrefetchChoice.ALL:
        raise SettingsError(
            f"a real folder has every file, so --prefetch {prefetch.value} cannot be", "'jobfs mount' fetches on demand"
        )


def _check_ways(watch: bool | None, *, is_background: bool, is_trial: bool, as_json: bool) -> None:
    """Refuse options that contradict each other: none is better than another to be left out.

    :raises SettingsError:
    """
    chosen = {"--once": watch is False, "--watch": watch is True, "--background": is_background}
    contradictions = [("--dry-run", "--watch"), ("--dry-run", "--background"), ("--background", "--once")]
    contradictions.append(("--json", "--background"))
    chosen |= {"--dry-run": is_trial, "--json": as_json}
    for one, other in contradictions:
        if chosen[one] and chosen[other]:
            raise SettingsError(f"{one} and {other} contradict each other", "leave one of them out")

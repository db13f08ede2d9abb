"""``jobfs mount``: a workspace as a folder."""

from __future__ import annotations

from enum import Enum, unique
from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.choices import chosen
from jobfs.cli.wishes import Wishes, begin
from jobfs.engine.patience import DEFAULT_DEADLINE_S
from jobfs.fuse.options import Wake


@unique
class TransportName(Enum):
    """What speaks FUSE."""

    AUTO = "auto"
    KERNEL = "kernel"
    FUSEPY = "fusepy"


@unique
class ConflictChoice(Enum):
    """Who keeps the name where both sides changed a file."""

    KEEP_BOTH = "keep-both"
    LOCAL = "local"
    REMOTE = "remote"


@unique
class PrefetchChoice(Enum):
    """What is brought here before it is read."""

    NONE = "none"
    SMALL = "small"
    ALL = "all"


@unique
class FsyncChoice(Enum):
    """What fsync waits for."""

    LOCAL = "local"
    REMOTE = "remote"


@unique
class LevelChoice(Enum):
    """What is written into the log: this, and what is more important."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LevelOption = Annotated[LevelChoice, typer.Option("--log-level", help="What goes into the log: see jobfs logs.")]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="PATTERN", help="Names that stay local, as in .gitignore; may be repeated."),
]
ConflictOption = Annotated[ConflictChoice, typer.Option(help="Who keeps the name where both sides changed a file.")]
MaxDeleteOption = Annotated[
    int | None, typer.Option(min=0, help="So many deletions at once need no question.", metavar="N")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Any number of deletions needs no question.")]
PrefetchOption = Annotated[PrefetchChoice, typer.Option(help="What is brought here before it is read.")]
CacheOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="What content may take here, such as 500M or 10G.")
]
HistorySizeOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="What old versions may take here; at first 1G, then as said last. 0: keep none."),
]
HistoryDaysOption = Annotated[
    float | None, typer.Option(min=0, metavar="DAYS", help="How long they are kept; at first 30, then as said last.")
]
TimeoutOption = Annotated[
    float, typer.Option(min=1, help="Seconds that a program waits for a server that gives nothing, before it fails.")
]
DrainOption = Annotated[float, typer.Option(min=0, help="Seconds that the end may take to send what is left.")]
HoldOption = Annotated[
    bool, typer.Option("--hold", help="Keep changes here until 'jobfs push'; it stays so until 'jobfs hold --off'.")
]
ForegroundOption = Annotated[bool, typer.Option("--foreground", help="Stay here; Ctrl-C ends it.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mount", epilog="Example: jobfs mount abc123 ~/job && ls ~/job && jobfs umount ~/job")(mount)


def mount(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job; run:RUN for the files of a run, read-only.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty directory.", parser=Path)],
    foreground: ForegroundOption = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every change.")] = False,
    fallback: Annotated[bool, typer.Option(help="Where FUSE cannot be used, keep the folder in step instead.")] = True,
    transport: Annotated[TransportName, typer.Option(help="What speaks FUSE.")] = TransportName.AUTO,
    allow_other: Annotated[bool, typer.Option("--allow-other", help="Other users may use the mount.")] = False,
    wake: Annotated[Wake, typer.Option(help="Whether remote changes wake programs that watch.")] = Wake.AUTO,
    ignore: IgnoreOption = None,
    conflict: ConflictOption = ConflictChoice.KEEP_BOTH,
    prefetch: PrefetchOption = PrefetchChoice.SMALL,
    fsync: Annotated[FsyncChoice, typer.Option(help="What fsync waits for.")] = FsyncChoice.LOCAL,
    write_through: Annotated[bool, typer.Option("--write-through", help="close waits for the server.")] = False,
    cache_size: CacheOption = None,
    hold: HoldOption = False,
    history_size: HistorySizeOption = None,
    history_days: HistoryDaysOption = None,
    max_delete: MaxDeleteOption = None,
    yes: YesOption = False,
    timeout: TimeoutOption = DEFAULT_DEADLINE_S,
    drain_timeout: DrainOption = 30.0,
    log_level: LevelOption = LevelChoice.INFO,
) -> None:
    """Mount the workspace of a job. When this returns it is ready; it is served in the background until umount."""
    wishes = Wishes(
        job=job,
        directory=directory,
        is_foreground=foreground,
        is_read_only=read_only,
        may_fall_back=fallback,
        transport=transport.value,
        allow_other=allow_other,
        wake=wake.value,
        ignore=tuple(ignore or ()),
        conflict=conflict.value,
        prefetch=prefetch.value,
        fsync=fsync.value,
        write_through=write_through,
        cache_size=cache_size,
        is_held=hold,
        history_size=history_size,
        history_days=history_days,
        max_delete=max_delete,
        may_delete=yes,
        timeout_s=timeout,
        drain_timeout_s=drain_timeout,
        log_level=log_level.value,
    )
    raise typer.Exit(begin(chosen(context), wishes))

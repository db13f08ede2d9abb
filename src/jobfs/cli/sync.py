"""``jobfs sync``: a real folder kept in step with a workspace, for machines without FUSE."""

from __future__ import annotations

import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict
from enum import Enum, unique
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.cli.context import load_settings, open_remote, run
from jobfs.cli.daemon import start_in_background
from jobfs.cli.failures import TO_DO, UNSENT
from jobfs.cli.instance import FOLDER, Instance, real_directory
from jobfs.cli.mount import (
    ConflictChoice,
    ConflictOption,
    DrainOption,
    IgnoreOption,
    MaxDeleteOption,
    Terminal,
    YesOption,
    allowed_deletions,
    tell_ready,
)
from jobfs.cli.order import Order
from jobfs.cli.places import parse_place
from jobfs.cli.service import logged_to
from jobfs.cli.serving import name_left, serve
from jobfs.cli.states import folder_state, state_root
from jobfs.cli.synced import describe, sync_options
from jobfs.cli.terminal import Progress, human_size, progress, say, say_json, shown, tell
from jobfs.errors import SettingsError
from jobfs.folder.report import Summary, SyncEvent, What
from jobfs.folder.sync import FolderSync
from jobfs.store.state import State


@unique
class DirectionChoice(Enum):
    """Which side may change."""

    BOTH = "both"
    PUSH = "push"
    PULL = "pull"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sync", epilog="Example: jobfs sync abc123 ~/job --once")(sync)


def sync(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job; run:RUN for the files of a run.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; made where it is missing.")],
    watch: Annotated[
        bool | None, typer.Option("--watch/--once", help="Go on, or end when both agree. On a terminal: watch.")
    ] = None,
    background: Annotated[bool, typer.Option("--background", help="Watch as a process of its own.")] = False,
    direction: Annotated[DirectionChoice, typer.Option(help="Which side may change.")] = DirectionChoice.BOTH,
    delete: Annotated[bool, typer.Option(help="A deletion on one side is one on the other.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    conflict: ConflictOption = ConflictChoice.KEEP_BOTH,
    ignore: IgnoreOption = None,
    max_delete: MaxDeleteOption = None,
    yes: YesOption = False,
    drain_timeout: DrainOption = 30.0,
    json: Annotated[bool, typer.Option("--json", help="For programs; with --once or --dry-run.")] = False,
) -> None:
    """Keep a folder in step with the workspace of a job: ordinary files, on any machine."""
    place = parse_place(job)
    if place.path:
        raise SettingsError("only a whole workspace can be kept in step", f"write jobfs sync {place.job} DIR")
    settings = load_settings(context)
    order = Order(
        job=place.job,
        directory=real_directory(directory),
        url=settings.url,
        api_key=settings.api_key,
        is_default_url=settings.is_default_url,
        state_root=str(state_root().absolute()),
        kind=FOLDER,
        ignore=tuple(ignore or ()),
        conflict=conflict.value,
        direction=direction.value,
        deletes=delete,
        max_deletions=allowed_deletions(max_delete, is_any=yes),
        drain_timeout_s=drain_timeout,
    )
    if background:
        tell_ready(start_in_background(order))
    elif dry_run:
        _try_out(order, as_json=json)
    elif watch if watch is not None else sys.stdout.isatty():
        raise typer.Exit(serve(order, Terminal()))
    else:
        _once(order, as_json=json)


def _once(order: Order, *, as_json: bool) -> None:
    with progress("synchronising") as display:
        summary = run(_run(order, display, is_trial=False))
    if as_json:
        say_json(_as_json(summary))
    else:
        _say(summary)
    name_left(list(summary.skipped))
    if summary.skipped:
        raise typer.Exit(UNSENT)


def _try_out(order: Order, *, as_json: bool) -> None:
    with progress("comparing") as display:
        summary = run(_run(order, display, is_trial=True))
    if as_json:
        say_json(_as_json(summary))
    else:
        for step in summary.steps:
            say(shown(describe(step)))
        if not summary.steps:
            say("both sides agree")
    if summary.guard:
        tell(f"jobfs: it would be stopped: {summary.guard}")
    if summary.steps:
        raise typer.Exit(TO_DO)


async def _run(order: Order, display: Progress, *, is_trial: bool) -> Summary:
    directory = folder_state(Path(order.state_root), order.url, order.job, order.path)
    async with AsyncExitStack() as stack:
        state = State.open(directory)
        stack.callback(state.close)
        stack.enter_context(logged_to(directory))
        Instance(directory, FOLDER, order.directory, order.url, order.job, "sync", 0, time.time()).write()
        remote = await stack.enter_async_context(open_remote(order.settings, order.job))
        options = sync_options(order, is_trial=is_trial)

        def told(event: SyncEvent) -> None:
            display.show(describe(event))

        return await FolderSync(state, remote, order.path, options=options, progress=told).run()


def _say(summary: Summary) -> None:
    counts = [
        f"{number} {what.value}" for what, number in summary.counts.items() if what is not What.COMPARED and number
    ]
    sizes = f" ({human_size(summary.sent)} sent, {human_size(summary.received)} received)" if counts else ""
    say((", ".join(counts) or "nothing to do: both sides agree") + sizes)
    for conflict in summary.conflicts:
        say(shown(f"conflict: {conflict.path}: the version from here is now {conflict.copy or 'in the history'}"))
    for problem in summary.problems:
        tell(shown(f"problem: {problem.path}: {problem.detail}"))


def _as_json(summary: Summary) -> dict[str, Any]:
    return {
        "counts": {what.value: number for what, number in summary.counts.items()},
        "sentBytes": summary.sent,
        "receivedBytes": summary.received,
        "conflicts": [{"path": one.path, "copy": one.copy} for one in summary.conflicts],
        "skipped": [{"path": one.path, "reason": one.reason} for one in summary.skipped],
        "problems": [
            {"path": one.path, "trouble": one.trouble.value, "detail": one.detail} for one in summary.problems
        ],
        "steps": [{**asdict(step), "what": step.what.value} for step in summary.steps],
        "guard": summary.guard or None,
    }

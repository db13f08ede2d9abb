"""``jobfs pull``: bring a folder up to date with a workspace, and leave the workspace alone."""

from __future__ import annotations

from dataclasses import replace

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.fronts import front_of
from jobfs.cli.mount import (
    ConflictChoice,
    ConflictOption,
    IgnoreOption,
    MaxDeleteOption,
    YesOption,
)
from jobfs.cli.once import end_with, folder_order, synchronise, try_out
from jobfs.cli.sync import DeleteOption, DirectoryArgument, DryRunOption, EventsOption, JobArgument
from jobfs.cli.wishes import allowed_deletions


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("pull", epilog="Example: jobfs pull abc123 ~/job")(pull)


def pull(
    context: typer.Context,
    job: JobArgument,
    directory: DirectoryArgument,
    delete: DeleteOption = True,
    dry_run: DryRunOption = False,
    conflict: ConflictOption = ConflictChoice.KEEP_BOTH,
    ignore: IgnoreOption = None,
    max_delete: MaxDeleteOption = None,
    yes: YesOption = False,
    json: EventsOption = False,
) -> None:
    """Bring a folder up to date with the workspace of a job, once; nothing is sent. What you changed here stays."""
    order = replace(
        folder_order(load_settings(context), job, directory, command="pull"),
        ignore=tuple(ignore or ()),
        conflict=conflict.value,
        direction="pull",
        deletes=delete,
        max_deletions=allowed_deletions(max_delete, is_any=yes),
    )
    end_with((try_out if dry_run else synchronise)(order, front_of(order, as_json=json)))

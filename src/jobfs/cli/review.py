"""What the commands about mounts and folders have in common: which one a path is in."""

from __future__ import annotations

from pathlib import Path

import typer

from jobfs.cli.choices import load_settings
from jobfs.workspace.copies import AsyncLocalCopy


def copy_of(context: typer.Context, path: Path | None) -> tuple[AsyncLocalCopy, str]:
    """Return the mount or synchronised folder that a path is in, and the path from its root.

    :param path: None: the current directory's, all of it.
    :raises MountError: nothing of jobfs was ever there.
    """
    found, inner = AsyncLocalCopy.holding(path or Path(), lambda: load_settings(context))
    return found, inner if path is not None else ""

"""The general options of the command that runs, and the server and key that they lead to."""

from __future__ import annotations

import typer

from jobfs.cli.order import settings_of
from jobfs.workspace.settings import Chosen, Settings


def chosen(context: typer.Context) -> Chosen:
    """Return the general options of the command that runs."""
    found = context.find_root().obj
    return found if isinstance(found, Chosen) else Chosen()


def load_settings(context: typer.Context) -> Settings:
    """Decide server and key, and tell the warnings."""
    return settings_of(chosen(context))

"""Load parts of the command line when they are needed: all of them together take longer than most commands.

This is the only place where the command line imports while it runs; ``tests/cli/test_cli_loading.py`` says what each
command may load.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load(part: str) -> Any:
    """Return a module of this room.

    :param part: its name: a command's (``app``), ``serving`` for what serves, ``pictures`` for what draws.
    """
    return import_module(f"jobfs.cli.{part}")

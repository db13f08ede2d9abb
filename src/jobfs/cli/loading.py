"""Load parts of the command line when they are needed: all of them together take longer than most commands.

This is the only place where the command line imports while it runs; ``tests/cli/test_cli_loading.py`` says what each
command may load.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

_SWITCH_S = 0.0005
"""How long the loading thread may go on while the loop waits for its turn, at each answer that comes."""


def load(part: str) -> ModuleType:
    """Return a module of this room.

    :param part: its name: a command's (``app``), ``serving`` for what serves, ``pictures`` for what draws.
    """
    name = f"jobfs.cli.{part}"
    if name in sys.modules:
        return import_module(name)
    with _undisturbed():
        return import_module(name)


async def load_aside(part: str) -> ModuleType:
    """Return a module of this room; the loop goes on while it is loaded, in a thread.

    :param part: see ``load``.
    """
    from asyncio import to_thread

    before_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        return await to_thread(load, part)
    finally:
        sys.setswitchinterval(before_s)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let the cyclic collector rest while modules are made, and leave them out of its rounds: they stay.

    Its rounds over what has been loaded so far were a tenth of the time that loading takes.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

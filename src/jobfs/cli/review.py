"""What ``diff``, ``push``, ``revert`` and ``hold`` have in common: which workspace a path is in, and how to ask it.

A running mount or folder is asked through its control socket; of one that has ended the state itself is opened. Both
ways the same requests are answered by the same handlers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.loading import load
from jobfs.errors import MountError
from jobfs.workspace.control import Handler
from jobfs.workspace.instance import Instance, holding


class Ask(Protocol):
    """Asks a workspace for something; see ``changes.handlers_of``."""

    async def __call__(self, do: str, **options: Any) -> Any:
        """Return the answer."""


def place_of(path: Path | None) -> tuple[Instance, str]:
    """Return the mount or synchronised folder that a path is in, and the path from its root.

    :param path: None: the current directory.
    :raises MountError: nothing of jobfs was ever there.
    """
    found = holding(path or Path())
    if found is not None:
        return found
    what = "the current directory" if path is None else f"{path}"
    raise MountError(f"{what} is in no mount or synchronised folder of jobfs", "see 'jobfs status'")


@asynccontextmanager
async def asking(context: typer.Context, instance: Instance, *, starts: bool = False) -> AsyncIterator[Ask]:
    """Give the means to ask a workspace, whether it is served or not.

    :param starts: whether something is to be sent, for which a session has to run; of a mount.
    :raises JobfsError: the state cannot be opened, there is no key, ...
    """
    if instance.is_running():

        async def ask(do: str, *, on_progress: Callable[[Any], None] = lambda left: None, **options: Any) -> Any:
            return instance.ask(do, timeout_s=None, on_progress=on_progress, **options)

        yield ask
        return
    opened: AbstractAsyncContextManager[Mapping[str, Handler]] = load("ended").opened(
        load_settings(context), instance, starts=starts
    )
    async with opened as handlers:

        async def answer(do: str, *, on_progress: Callable[[Any], None] = lambda left: None, **options: Any) -> Any:
            async def send(left: object) -> None:
                on_progress(left)

            return await handlers[do](options, send)

        yield answer

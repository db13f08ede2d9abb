"""Which mount or folder a path is in, and its local history: asked of the process that serves it, or of its state."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jobfs.cli.context import run
from jobfs.engine.restore import TreeRestorer
from jobfs.engine.session import random_token
from jobfs.engine.workspace import SystemClock, Workspace
from jobfs.errors import MountError
from jobfs.folder.disk import Disk
from jobfs.folder.restore import FolderRestorer
from jobfs.planner.ignore import Ignore
from jobfs.store.state import State
from jobfs.workspace.instance import FOLDER, Instance, holding
from jobfs.workspace.past import Past, answer
from jobfs.workspace.places import RUN_PREFIX


@dataclass(frozen=True, slots=True)
class Spot:
    """A path within a mount or folder.

    :param path: from its root, without a leading slash; "" is the root.
    """

    instance: Instance
    path: str


def spot_of(path: Path) -> Spot:
    """Return which mount or folder a path is in; what is mounted need not run.

    :raises MountError: none that was ever here.
    """
    found = holding(path)
    if found is None:
        raise MountError(f"{path} is in no mount or folder of jobfs", "see 'jobfs status'")
    return Spot(*found)


def ask_past(spot: Spot, what: str, *, on_progress: Callable[[Any], None] = lambda value: None, **more: object) -> Any:
    """Ask the process that runs, or answer from the state where none does.

    :raises JobfsError: as ``answer``; the state is in use by what does not answer.
    """
    request = {"what": what, "path": spot.path, **more}
    if spot.instance.is_running():
        return spot.instance.ask("history", timeout_s=None, on_progress=on_progress, **request)

    async def tell(value: object) -> None:
        on_progress(value)

    with _opened(spot.instance) as past:
        return run(answer(past, request, tell))


@contextmanager
def _opened(instance: Instance) -> Iterator[Past]:
    """Open the history of what does not run."""
    state = State.open(instance.state)
    try:
        is_read_only = instance.job.startswith(RUN_PREFIX)
        workspace = Workspace(state, Ignore(), SystemClock(), host=platform.node(), is_read_only=is_read_only)
        if instance.kind == FOLDER:
            disk = Disk(Path(instance.directory))
            yield Past(state, FolderRestorer(workspace, disk, random_token, lambda place: None))
        else:
            yield Past(state, TreeRestorer(workspace))
    finally:
        state.close()


def local_time(told: object) -> str:
    """Return a time of ``as_json`` as a user of this machine reads it."""
    if not isinstance(told, str):
        return ""
    return datetime.fromisoformat(told).astimezone().strftime("%Y-%m-%d %H:%M:%S")

"""Remove what this machine keeps of a mount or folder that has ended: its record, its content, its history.

**A state leaves its place in one step, while nobody else can have it open, and is deleted after that.** Cut off in
between, it is the state of nothing; the next time deletes what is left of it. What the server has, and the files of a
synchronised folder, are not touched.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobfs.errors import StateCorrupt
from jobfs.folder.disk import Disk
from jobfs.folder.root import Root
from jobfs.model import Kind
from jobfs.store.lock import DirectoryLock
from jobfs.workspace.ended import count_unsent, opened
from jobfs.workspace.instance import FOLDER, MOUNT, Instance

_LEAVING = "forgotten"
"""Where states are while they are deleted: beside the folder of all states, so on the same disk."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What is nowhere but in a state.

    :param unsent: changes that the server does not have. :param local_only: files with ignored names.
    """

    unsent: int
    local_only: int


def loss_of(instance: Instance) -> Loss:
    """Return what would be lost with a state. A folder has its files itself, those with ignored names too.

    :raises StateLocked: it is in use. :raises StateCorrupt: it cannot be told.
    """
    with opened(instance) as state:
        local_only = sum(one.is_local_only and one.kind is Kind.FILE for one in state.local.entries())
        return Loss(count_unsent(state), local_only if instance.kind == MOUNT else 0)


def forget(instance: Instance) -> int:
    """Delete a state, whatever is in it; return how many bytes that frees.

    :raises StateLocked: it is in use. :raises FolderError: the folder's mark cannot be taken off.
    """
    state, leaving = instance.state, instance.state.parents[1] / _LEAVING
    _untie(instance)
    leaving.mkdir(mode=0o700, exist_ok=True)
    lock = DirectoryLock.take(state)
    try:
        if sys.platform == "win32":
            lock.release()  # there no directory is moved that holds an open file
        state.rename(leaving / f"{state.name}-{secrets.token_hex(4)}")
    finally:
        if sys.platform != "win32":
            lock.release()
    freed = _size(leaving)
    shutil.rmtree(leaving)
    return freed


def _untie(instance: Instance) -> None:
    """Take the mark off a folder, so that it can be kept in step anew. A damaged state does not tell which is its."""
    if instance.kind == FOLDER:
        with suppress(StateCorrupt), opened(instance) as state:
            Root(Disk(Path(instance.directory)), state).untie()


def _size(directory: Path) -> int:
    """Return what the files below a directory take on the disk."""
    every = (Path(place, name) for place, _, names in os.walk(directory) for name in names)
    return sum(_blocks(path.lstat()) for path in every)


def _blocks(found: os.stat_result) -> int:
    return getattr(found, "st_blocks", -(-found.st_size // 512)) * 512

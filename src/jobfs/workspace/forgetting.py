"""Remove what this machine keeps of a mount or folder that has ended: its record, its content, its history.

**A state leaves its place in one step, while nobody else can have it open, and is deleted after that.** Cut off in
between, it is the state of nothing; the next time deletes what is left of it. What the server has, and the files of a
synchronised folder, are not touched.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jobfs.errors import JobfsError, StateCorrupt
from jobfs.folder.disk import Disk
from jobfs.folder.root import Root
from jobfs.model import Kind
from jobfs.store.lock import DirectoryLock
from jobfs.store.state import LISTED, State
from jobfs.workspace.ended import count_unsent, opened
from jobfs.workspace.instance import FOLDER, MOUNT, Instance
from jobfs.workspace.states import STATE_NAME, missing

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
    _untie(instance)
    return _remove(instance.state, DirectoryLock.take(instance.state))


FAILURES = (JobfsError, OSError, asyncio.CancelledError, KeyboardInterrupt)
"""After these nothing stays of what never began; after a bug its log does."""


@contextmanager
def unbegun_forgotten(instance: Instance) -> Iterator[None]:
    """Where the context fails and the folder was never in step, leave nothing of it: ``leave_nothing``."""
    made = missing(Path(instance.directory))
    try:
        yield
    except FAILURES:
        leave_nothing(instance, made)
        raise


def leave_nothing(instance: Instance, made: Iterable[Path]) -> None:
    """Delete the state of what has failed, unless it worked before, take its mark off its folder, and the folder away.

    :param made: the directories that were made for it, the innermost first. What others put into them stays.
    """
    with suppress(JobfsError, OSError):  # the user is to hear of what has failed
        _forget_unbegun(instance)
    for place in made:
        with suppress(OSError):  # something is in it, or it was not made
            place.rmdir()


def _forget_unbegun(instance: Instance) -> None:
    """Delete a state that never had a listing: nothing was ever in step with it.

    :raises StateLocked: it is in use. :raises JobfsError: it cannot be told, or the folder's mark not be taken off.
    """
    if not instance.state.exists():
        return
    if not (instance.state / STATE_NAME).exists():
        _remove(instance.state, DirectoryLock.take(instance.state))
        return
    state, is_free = State.open(instance.state), False
    try:
        if state.setting(LISTED) is None and len(state.base) <= 1:
            if instance.kind == FOLDER:
                Root(Disk(Path(instance.directory)), state).untie()  # else the folder is still this state's
            is_free = True
    finally:
        lock = state.hand_over()
        if is_free:
            _remove(instance.state, lock)
        else:
            lock.release()


def _remove(state: Path, lock: DirectoryLock) -> int:
    """Delete a state that is locked; return how many bytes that frees."""
    leaving = state.parents[1] / _LEAVING
    try:
        leaving.mkdir(mode=0o700, exist_ok=True)
        if sys.platform == "win32":
            lock.release()  # there no directory is moved that holds an open file
        state.rename(leaving / f"{state.name}-{secrets.token_hex(4)}")
    finally:
        if sys.platform != "win32":
            lock.release()
    return sum(map(_delete, leaving.iterdir()))


def _delete(place: Path) -> int:
    """Delete the state of nothing, which others may be doing at the same time; return how many bytes that frees.

    What cannot be deleted stays for the next time.
    """
    size = _size(place)
    shutil.rmtree(place, ignore_errors=True)
    return size - _size(place)


def _untie(instance: Instance) -> None:
    """Take the mark off a folder, so that it can be kept in step anew. A damaged state does not tell which is its."""
    if instance.kind == FOLDER:
        with suppress(StateCorrupt), opened(instance) as state:
            Root(Disk(Path(instance.directory)), state).untie()


def _size(directory: Path) -> int:
    """Return what the files below a directory take on the disk."""
    every = (Path(place, name) for place, _, names in os.walk(directory) for name in names)
    return sum(map(_blocks, every))


def _blocks(path: Path) -> int:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0
    return getattr(found, "st_blocks", -(-found.st_size // 512)) * 512

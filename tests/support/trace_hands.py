"""How the edits of a trace (``edit_traces``) are done: by programs in a mount or a folder, and by another client.

``Careful`` stands between the programs and either of them: it keeps from what a scan, which sees only how things are by
then, cannot tell as a mount can, which saw it happen.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edit_traces import Edit, Verb, is_in, moved
from engine_harness import Mounted
from model_remote import ModelRemote
from virtual_loop import VirtualClock

from jobfs.model import Item, Kind, Permission
from jobfs.planner.ignore import Ignore
from jobfs.planner.naming import OWN_FOLDER

_RULES = Ignore()


class Hand(Protocol):
    """What a program can do to files; failures are OSError."""

    async def write(self, path: str, data: bytes) -> None:
        """Write a file anew in place, or create it."""

    async def append(self, path: str, data: bytes) -> None: ...

    async def rename(self, old: str, new: str) -> None: ...

    async def unlink(self, path: str) -> None: ...

    async def mkdir(self, path: str) -> None: ...

    async def rmdir(self, path: str) -> None: ...

    async def chmod(self, path: str, mode: int) -> None: ...

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory, sorted."""

    def is_directory(self, path: str) -> bool | None:
        """Tell what is at a path; None where nothing is."""

    def is_writable(self, path: str) -> bool:
        """Tell whether the owner's write bit is set."""


# -- edits here


async def perform(edit: Edit, hand: Hand) -> None:
    """Do one edit as programs do it.

    :raises OSError: it cannot be done.
    """
    match edit.verb:
        case Verb.WRITE:
            await hand.write(edit.path, edit.data)
        case Verb.APPEND:
            await hand.append(edit.path, edit.data)
        case Verb.SAVE:
            await _save(hand, edit.path, edit.data)
        case Verb.BACKUP:
            await hand.rename(edit.path, edit.other)
            await hand.write(edit.path, edit.data)
        case Verb.ADOPT:
            await hand.rename(_copy_of(hand, edit.path), edit.path)
        case Verb.DELETE:
            await _delete(hand, edit.path)
        case Verb.RENAME:
            await hand.rename(edit.path, edit.other)
        case Verb.MKDIR:
            await hand.mkdir(edit.path)
        case Verb.RMDIR:
            await hand.rmdir(edit.path)
        case Verb.LOCK:
            await hand.chmod(edit.path, 0o444)
        case Verb.UNLOCK:
            await hand.chmod(edit.path, 0o644)


async def _save(hand: Hand, path: str, data: bytes) -> None:
    temporary = f"{path}.new"
    await hand.write(temporary, data)
    try:
        await hand.rename(temporary, path)
    except OSError:
        await hand.unlink(temporary)
        raise


def _copy_of(hand: Hand, path: str) -> str:
    """Return the first conflict copy of a file; ENOENT where there is none."""
    above, slash, name = path.rpartition("/")
    stem = name.partition(".")[0]
    copies = [one for one in hand.names(above) if one.startswith(f"{stem} (conflict from ")]
    if not copies:
        raise OSError(errno.ENOENT, path)
    return f"{above}{slash}{copies[0]}"


async def _delete(hand: Hand, path: str) -> None:
    if not hand.is_directory(path):
        await hand.unlink(path)
        return
    for name in hand.names(path):
        await _delete(hand, f"{path}/{name}")
    await hand.rmdir(path)


# -- what cannot be equal


@dataclass
class _Scanned:
    """A directory that was there when both sides were last equal.

    :param path: where it is; None once it is removed. :param home: where it would be if it had not itself been moved
        or removed. :param names: what was in it.
    """

    path: str | None
    home: str
    names: frozenset[str]


class Careful:
    """A hand that refuses, for mount and folder alike, what they cannot have in common. Made anew for each batch.

    An inode number is given out again once it is free, so a scan trusts it only along with something else
    (``folder.settle``):

    - a file with size and time: one that was both moved and written in place is another file to it;
    - a directory with a name that is still in it, and not an ignored one: one that was moved and emptied is another
      directory to it;
    - and a directory that was removed and made again at the same place is the same one to it.

    In a mount permissions are kept, also for root and for directories, and a read-only file is not replaced by
    renaming; a folder is the system's, which asks only the directory, and what keeps it in step must itself be able to
    write there. So no directory is made read-only.
    """

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._fresh: set[str] = set()
        self._written: set[str] = set()
        self._moved: set[str] = set()
        self._directories = list(self._scanned(""))

    def _scanned(self, path: str) -> list[_Scanned]:
        above = f"{path}/" if path else ""
        kinds = {name: bool(self.is_directory(above + name)) for name in self._hand.names(path)}
        kept = {name: kind for name, kind in kinds.items() if not _RULES.is_ignored(above + name, kind)}
        found = [_Scanned(path, path, frozenset(kept))]
        for name, is_directory in kept.items():
            found += self._scanned(above + name) if is_directory else ()
        return found

    async def write(self, path: str, data: bytes) -> None:
        is_new = self.is_directory(path) is None
        self._check_writing(path)
        await self._hand.write(path, data)
        (self._fresh if is_new else self._written).add(path)

    async def append(self, path: str, data: bytes) -> None:
        self._check_writing(path)
        await self._hand.append(path, data)
        self._written.add(path)

    def _check_writing(self, path: str) -> None:
        _refuse(path in self._moved - self._fresh)
        _refuse(self.is_directory(path) is False and not self.is_writable(path))  # as the system, to all but root

    async def rename(self, old: str, new: str) -> None:
        is_directory = self.is_directory(old)
        _refuse(self.is_directory(new) is False and not self.is_writable(new))
        _refuse(old in self._written - self._fresh)
        _refuse(bool(is_directory) and not self._is_recognised(old, leaving=""))
        _refuse(bool(is_directory) and old in self._fresh and self._is_home(new))
        self._check_leaving(old)
        await self._hand.rename(old, new)
        if old != new:
            self._follow(old, new)

    def _follow(self, old: str, new: str) -> None:
        for marks in (self._fresh, self._written, self._moved):
            kept = {path for path in marks if path != new and not is_in(path, old)}
            carried = {moved(path, old, new) for path in marks if is_in(path, old)}
            marks.clear()
            marks |= kept | carried
        self._moved.add(new)
        for one in self._directories:
            if one.path == new:
                one.path = None
            elif one.path is not None and is_in(one.path, old):
                one.path = moved(one.path, old, new)
            if one.home.startswith(old + "/"):
                one.home = moved(one.home, old, new)

    async def unlink(self, path: str) -> None:
        self._check_leaving(path)
        await self._hand.unlink(path)
        self._forget(path)

    async def mkdir(self, path: str) -> None:
        _refuse(self._is_home(path))
        await self._hand.mkdir(path)
        self._fresh.add(path)

    async def rmdir(self, path: str) -> None:
        self._check_leaving(path)
        await self._hand.rmdir(path)
        self._forget(path)

    def _forget(self, path: str) -> None:
        for marks in (self._fresh, self._written, self._moved):
            marks.discard(path)
        for one in self._directories:
            if one.path == path:
                one.path = None

    def _check_leaving(self, path: str) -> None:
        above, _, name = path.rpartition("/")
        _refuse(above in self._moved and not self._is_recognised(above, leaving=name))

    def _is_recognised(self, directory: str, *, leaving: str) -> bool:
        """Tell whether a scan knows a directory again by its names, once one of them has left."""
        names = next((one.names for one in self._directories if one.path == directory), frozenset())
        return not names or not names.isdisjoint({*self.names(directory)} - {leaving})

    def _is_home(self, path: str) -> bool:
        """Tell whether a directory stood at a path that is removed, or would be by what comes there."""
        return any(one.home == path and one.path in (None, path) for one in self._directories)

    async def chmod(self, path: str, mode: int) -> None:
        _refuse(bool(self.is_directory(path)))
        await self._hand.chmod(path, mode)

    def names(self, directory: str) -> list[str]:
        return self._hand.names(directory)

    def is_directory(self, path: str) -> bool | None:
        return self._hand.is_directory(path)

    def is_writable(self, path: str) -> bool:
        return self._hand.is_writable(path)


def _refuse(condition: bool) -> None:
    if condition:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


# -- the two kinds of hands


class MountHand:
    """Programs in a mount."""

    def __init__(self, mount: Mounted) -> None:
        self._mount = mount
        self._vfs = mount.vfs

    async def write(self, path: str, data: bytes) -> None:
        await self._mount.write(path, data)

    async def append(self, path: str, data: bytes) -> None:
        handle = self._vfs.open(self._mount.node(path), os.O_WRONLY | os.O_APPEND)
        await self._vfs.write(handle, data, 0)
        await self._vfs.flush(handle)
        self._vfs.release(handle)

    async def rename(self, old: str, new: str) -> None:
        await self._mount.rename(old, new)

    async def unlink(self, path: str) -> None:
        self._vfs.unlink(*self._mount.place(path))

    async def mkdir(self, path: str) -> None:
        self._vfs.make(*self._mount.place(path), Kind.DIRECTORY, mode=0o755)

    async def rmdir(self, path: str) -> None:
        self._vfs.rmdir(*self._mount.place(path))

    async def chmod(self, path: str, mode: int) -> None:
        self._vfs.set_mode(self._mount.node(path), mode)

    def names(self, directory: str) -> list[str]:
        return self._mount.names(directory)

    def is_directory(self, path: str) -> bool | None:
        with suppress(OSError):
            return self._vfs.attributes(self._mount.node(path)).kind is Kind.DIRECTORY
        return None

    def is_writable(self, path: str) -> bool:
        return bool(self._vfs.attributes(self._mount.node(path)).mode & stat.S_IWUSR)


class FolderHand:
    """Programs in a real folder. What they write gets the simulated time, so that no two versions have the same."""

    def __init__(self, root: Path, clock: VirtualClock) -> None:
        self._root = root
        self._clock = clock

    async def write(self, path: str, data: bytes) -> None:
        self._put(path, data, "wb")

    async def append(self, path: str, data: bytes) -> None:
        self._put(path, data, "r+b")

    def _put(self, path: str, data: bytes, mode: str) -> None:
        with (self._root / path).open(mode) as file:
            file.seek(0, os.SEEK_END)
            file.write(data)
        now_ns = self._clock.wall_ns()
        os.utime(self._root / path, ns=(now_ns, now_ns))

    async def rename(self, old: str, new: str) -> None:
        os.rename(self._root / old, self._root / new)

    async def unlink(self, path: str) -> None:
        os.unlink(self._root / path)

    async def mkdir(self, path: str) -> None:
        os.mkdir(self._root / path)

    async def rmdir(self, path: str) -> None:
        os.rmdir(self._root / path)

    async def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._root / path, mode)

    def names(self, directory: str) -> list[str]:
        return sorted(name for name in os.listdir(self._root / directory) if name != OWN_FOLDER)

    def is_directory(self, path: str) -> bool | None:
        with suppress(OSError):
            return stat.S_ISDIR(os.stat(self._root / path).st_mode)
        return None

    def is_writable(self, path: str) -> bool:
        return bool(os.stat(self._root / path).st_mode & stat.S_IWUSR)


# -- edits there


async def perform_there(edit: Edit, remote: ModelRemote) -> None:
    """Do one edit as another client does it, as far as it can be done."""
    item = remote.at(edit.path)
    is_file = item is not None and item.kind is Kind.FILE
    can_be_file = is_file or (item is None and _has_place(edit.path, remote))
    match edit.verb:
        case Verb.WRITE if can_be_file:
            remote.put(edit.path, edit.data)
        case Verb.SAVE if can_be_file:
            remote.remove(edit.path)
            remote.put(edit.path, edit.data)
        case Verb.DELETE:
            remote.remove(edit.path)
        case Verb.MKDIR if item is None and _has_place(edit.path, remote):
            remote.put(edit.path, None)
        case Verb.RENAME if item is not None and _has_place(edit.other, remote):
            await _rename_there(item, edit.other, remote)
        case Verb.LOCK if item is not None and is_file:
            await remote.update(item.id, permission=Permission.READ_ONLY)
        case Verb.UNLOCK if item is not None and is_file:
            await remote.update(item.id, permission=Permission.READ_WRITE)
        case _:
            pass


def _has_place(path: str, remote: ModelRemote) -> bool:
    above = remote.at(path.rpartition("/")[0])
    return "/" not in path or (above is not None and above.kind is Kind.DIRECTORY)


async def _rename_there(item: Item, path: str, remote: ModelRemote) -> None:
    """Move an item, over another one only as rename(2) would."""
    target = remote.at(path)
    if is_in(path, item.path):
        return
    if target is not None:
        is_empty = not any(is_in(other.path, path) for other in remote.items.values() if other is not target)
        if target.kind is not item.kind or not is_empty:
            return
        remote.remove(path)
    await remote.update(item.id, path=path)

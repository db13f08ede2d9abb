"""Know the folder again: a vanished, unmounted or exchanged folder must never read as "everything was deleted".

The folder holds ``.jobfs/folder`` with an identity that the state remembers, and the state remembers the directory's
inode. Either one proves the folder: the file travels with a folder that is moved or restored, the inode survives a
``git clean``. Where neither fits, nothing is done at all.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from jobfs.errors import FolderError
from jobfs.folder.disk import PROBE, Disk, reason_of
from jobfs.model import Kind
from jobfs.planner.naming import OWN_FOLDER
from jobfs.store.state import State

MARKER = f"{OWN_FOLDER}/folder"

_IDENTITY = "folder_identity"
_INODE = "folder_inode"
_PATH = "folder_path"


class Root:
    """The root of a synchronised folder, tied to one state."""

    def __init__(self, disk: Disk, state: State) -> None:
        self._disk = disk
        self._state = state

    def attach(self, *, is_trial: bool = False) -> None:
        """Tie the folder to the state, or check that it is the one.

        :param is_trial: change nothing, neither here nor in the state.
        :raises FolderError: it is another folder, or not there; the message says what to do.
        """
        if self._state.setting(_IDENTITY) is not None:
            self.check()
            if not is_trial:
                self._mark(self._state.setting(_IDENTITY) or "")
            return
        self._refuse_foreign()
        if is_trial:
            if not self._disk.root.is_dir():
                raise FolderError(f"{self._disk.root} is not there yet", "make the directory first, for a trial")
            return
        try:
            self._disk.root.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise FolderError(f"{self._disk.root} is no directory, or lies in none", "name a directory") from None
        except OSError as error:
            raise FolderError(f"{self._disk.root} cannot be used: {error.strerror}", "name a directory") from error
        self._mark(secrets.token_hex(16))

    def _refuse_foreign(self) -> None:
        if self._identity() is not None:
            raise FolderError(
                f"{self._disk.root} is kept in step with another workspace, or its state was removed",
                f"name another folder, or remove {OWN_FOLDER} in it if that is no longer so",
            )

    def _mark(self, identity: str) -> None:
        inode = self._disk.identity()
        try:
            if self._identity() != identity:
                self._disk.write_own(MARKER, f"{identity}\n".encode("ascii"))
        except OSError as error:
            raise FolderError(
                f"{self._disk.root} cannot be written: {error.strerror}", "make it writable, or name another folder"
            ) from error
        if self._state.setting(_INODE) != inode or self._state.setting(_IDENTITY) != identity:
            with self._state.transaction():
                self._state.remember(_IDENTITY, identity)
                self._state.remember(_INODE, inode or "")
                self._state.remember(_PATH, str(self._disk.root))

    def check(self) -> None:
        """Make sure that the folder is there and is the one.

        :raises FolderError: it is not; nothing may be taken for deleted.
        """
        inode = self._disk.identity()
        if inode is None:
            raise FolderError(
                f"the folder {self._disk.root} is gone",
                "mount or restore it, or begin anew: jobfs forget DIR; nothing was deleted on the server",
            )
        found = self._identity()
        if found == self._state.setting(_IDENTITY):
            return
        if found is None and inode == self._state.setting(_INODE):
            return
        raise FolderError(
            f"{self._disk.root} is not the folder that this workspace is kept in step with"
            f" ({self._state.setting(_PATH)})",
            "mount or restore that one, or begin anew: jobfs forget DIR; nothing was deleted on the server",
        )

    def untie(self) -> None:
        """Take the mark off the folder where it is this state's: another state may have the folder then.

        :raises FolderError: it cannot be taken off.
        """
        mark = self._identity()
        if mark is None or mark != self._state.setting(_IDENTITY):
            return
        try:
            if self._disk.look(PROBE) is not None:
                self._disk.remove_file(PROBE)
            self._disk.remove_file(MARKER)
            self._disk.remove_directory(OWN_FOLDER)
        except OSError as error:
            raise FolderError(
                f"{self._disk.root} cannot be written: {reason_of(error)}",
                f"make it writable, or remove {OWN_FOLDER} in it",
            ) from error

    def learn_folding(self) -> None:
        """Find out which names are one here, once the folder is attached.

        :raises FolderError: it cannot be told.
        """
        try:
            self._disk.learn_folding()
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> FolderError:
        reason = reason_of(error)
        return FolderError(f"{self._disk.root} cannot be read: {reason}", "look after the disk; nothing was deleted")

    def _identity(self) -> str | None:
        """Return what the marker says, or None where there is none.

        :raises FolderError: it cannot be told.
        """
        try:
            seen = self._disk.look(MARKER)
            if seen is None or seen.kind is not Kind.FILE:
                return None
            return self._disk.read(MARKER).decode("ascii", "replace").strip()
        except OSError as error:
            raise self._unreadable(error) from error


@contextmanager
def stand_in(folder: Path, state: State) -> Iterator[Path]:
    """Give a folder to try out on: the folder itself, or an empty one where it would be made."""
    if folder.exists() or state.setting(_IDENTITY) is not None:
        yield folder
        return
    with TemporaryDirectory(prefix="jobfs-trial-") as empty:
        yield Path(empty)


def real_root(folder: Path) -> Path:
    """Return the absolute path of a folder; a link to the folder itself is followed, once, here."""
    return Path(os.path.realpath(folder))

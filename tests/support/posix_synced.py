"""The POSIX model where a mount is synchronised (``posix_model``), with remote changes between the operations.

What differs from a plain directory on purpose (SEMANTICS.md) is here and in ``LocalOnlyModel``, and nowhere else:

- modes of what is synchronised come down to the owner's write bit and the execute bit;
- there are no links and no special files there;
- names that no workspace can hold are refused there, and a read-only file is not replaced by renaming;
- a program that goes on writing where a remote version took the name writes a conflict copy.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import rule
from live_mount import look_until
from posix_model import DATA, PATHS, Ground, PosixModel
from posix_sides import Refused, Shown, Side, attempt, is_within

from jobfs.model import Permission

CONFLICT = re.compile(r".* \(conflict from testhost [0-9-]+ [0-9]{6}( [0-9]+)?\).*", re.DOTALL)


class SyncedModel(PosixModel):
    """The model in a synchronised place, with remote changes."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._aside = ground.plain / f"{self.name}-aside"
        self._aside.mkdir()
        self._displaced: dict[int, Path] = {}
        """Files of the plain directory that a remote version displaced, by inode: where they are kept."""

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            shutil.rmtree(self._aside)

    # -- what differs from a plain directory

    def kept_mode(self, mode: int, *, is_new: bool, is_directory: bool = False) -> int:
        writable = is_new or mode & 0o200
        return (0o644 if writable else 0o444) | (0o111 if is_directory or mode & 0o111 else 0)

    def is_refused_replacement(self, old: str, new: str) -> bool:
        try:
            source, target = os.stat(self.plain.at(old)), os.stat(self.plain.at(new))
        except OSError:
            return False
        are_files = stat.S_ISREG(source.st_mode) and stat.S_ISREG(target.st_mode)
        return are_files and source.st_ino != target.st_ino and not target.st_mode & 0o200

    def refusal_of(self, name: str) -> int | None:
        return super().refusal_of(name) or (None if len(name) > 255 else errno.EINVAL)

    def make_special(self, path: str, action: Callable[[Side], object]) -> None:
        above = self.plain.at(path.rpartition("/")[0])

        def and_undo(side: Side) -> object:
            if side is self.mount:
                return action(side)
            before = attempt(lambda: os.stat(above))
            action(side)
            os.unlink(side.at(path))
            assert isinstance(before, os.stat_result)
            os.utime(above, ns=(before.st_atime_ns, before.st_mtime_ns))
            return None

        self.both(and_undo, lambda found: found if isinstance(found, Refused) else Refused("EPERM"))

    def change(self, number: int, action: Callable[[Side], object]) -> None:
        is_done = self.both(action)
        kept = self._displaced.get(os.fstat(self.plain.files[number]).st_ino)
        if kept is None or os.fstat(self.mount.files[number]).st_nlink == 0:
            return
        look_until(lambda: self.mount.path_of(number) is not None)  # the kernel is told after the write is answered
        path = self.mount.path_of(number) or ""
        self.check(is_done and CONFLICT.fullmatch(path) is not None, f"what was written on became {path!r}")
        del self._displaced[os.fstat(self.plain.files[number]).st_ino]
        self.rename_plainly(kept, path)

    def expected_stat(self, number: int, found: object) -> object:
        is_displaced = os.fstat(self.plain.files[number]).st_ino in self._displaced
        return found._replace(links=0) if is_displaced and isinstance(found, Shown) else found

    @rule(path=PATHS)
    def look_at_attributes(self, path: str) -> None:
        found = attempt(lambda: self.plain.stat(path))
        if not isinstance(found, Shown):
            self.both(lambda side: os.listxattr(side.at(path)))
            return
        permission = b"readWrite" if found.mode & 0o200 else b"readOnly"
        mine = self.mount.at(path)
        self.check(os.getxattr(mine, "user.jobfs.permission") == permission, "the permission is another one")
        self.check("user.jobfs.state" in os.listxattr(mine), "the state is missing")
        self.check(attempt(lambda: os.getxattr(mine, "user.other")) == Refused("ENODATA"), "a foreign attribute")
        refused = attempt(lambda: os.setxattr(mine, "user.other", b"x"))
        self.check(refused == Refused("ENOTSUP") or refused == Refused("EOPNOTSUPP"), f"a foreign attribute: {refused}")

    # -- what others change

    @contextmanager
    def changed_remotely(self) -> Iterator[Callable[[Callable[[], object]], None]]:
        """Let the server change something while nothing waits to be pushed; then wait until the mount shows it."""
        self.ground.live.settle()
        yield self.ground.live.do
        self.ground.live.pull()
        look_until(self.shows_the_same)

    @rule(path=PATHS, data=DATA)
    def remote_write(self, path: str, data: bytes) -> None:
        if not self.has_place(path) or os.path.isdir(self.plain.at(path)):
            return
        before = attempt(lambda: os.stat(self.mount.at(path)).st_ino)
        with self.changed_remotely() as do:
            do(lambda: self.ground.remote.put(self.remotely(path), self.fresh(data)))
            mode = stat.S_IMODE(os.stat(self.plain.at(path)).st_mode) if os.path.lexists(self.plain.at(path)) else 0o644
            self.displace(path)
            self.write_plainly(path, self.fresh(data), mode)
        look_until(lambda: os.stat(self.mount.at(path)).st_ino != before)
        self.check(self.mount.read(path) == self.fresh(data), "the remote version is not what is read")

    @rule(path=PATHS)
    def remote_mkdir(self, path: str) -> None:
        if self.has_place(path) and not os.path.lexists(self.plain.at(path)):
            with self.changed_remotely() as do:
                do(lambda: self.ground.remote.put(self.remotely(path), None))
                os.mkdir(self.plain.at(path))

    @rule(path=PATHS)
    def remote_delete(self, path: str) -> None:
        if os.path.lexists(self.plain.at(path)):
            with self.changed_remotely() as do:
                do(lambda: self.ground.remote.remove(self.remotely(path)))
                self.displace(path)
                self._displaced.clear()

    @rule(old=PATHS, new=PATHS)
    def remote_rename(self, old: str, new: str) -> None:
        is_free = self.has_place(new) and not os.path.lexists(self.plain.at(new))
        if is_free and os.path.lexists(self.plain.at(old)) and not is_within(new, old):
            before = self.inode(old)
            with self.changed_remotely():
                self.update(old, place=self.remotely(new))
                os.rename(self.plain.at(old), self.plain.at(new))
                self.renew(new)
            self.wait_for_renewal(new, before)

    @rule(path=PATHS, is_protected=st.booleans())
    def remote_chmod(self, path: str, is_protected: bool) -> None:
        if os.path.lexists(self.plain.at(path)):
            before = self.inode(path)
            mode = os.stat(self.plain.at(path)).st_mode
            wanted = mode & ~0o222 if is_protected else mode | 0o200
            with self.changed_remotely():
                self.update(path, permission=Permission.READ_ONLY if is_protected else Permission.READ_WRITE)
                self.renew(path)
                os.chmod(self.plain.at(path), stat.S_IMODE(wanted))
            self.wait_for_renewal(path, before)

    def inode(self, path: str) -> int:
        return os.stat(self.mount.at(path)).st_ino

    def renew(self, path: str) -> None:
        """Put a file with the same bytes in a file's place: an item that changed in any way may have other bytes."""
        if self.has_bytes(path):
            data, mode = self.plain.read(path), stat.S_IMODE(os.stat(self.plain.at(path)).st_mode)
            self.displace(path)
            self.write_plainly(path, data, mode)

    def wait_for_renewal(self, path: str, before: int) -> None:
        look_until(lambda: self.inode(path) != before or not self.has_bytes(path))

    def has_bytes(self, path: str) -> bool:
        """Tell whether there is a file, and not an empty one, of which no bytes can be other ones."""
        found = os.stat(self.plain.at(path))
        return stat.S_ISREG(found.st_mode) and found.st_size > 0

    @rule(path=PATHS, mine=DATA, theirs=DATA)
    def change_on_both_sides(self, path: str, mine: bytes, theirs: bytes) -> None:
        if not os.path.isfile(self.plain.at(path)) or not os.stat(self.plain.at(path)).st_mode & 0o200:
            return
        theirs = b"%d " % self.number() + theirs  # written again with the same bytes it is no conflict
        self.ground.live.settle()
        self.ground.live.pull()
        self.ground.live.do(lambda: self.ground.remote.put(self.remotely(path), self.fresh(theirs)))
        self.save(path, b"mine %d: " % self.number() + mine, os.O_TRUNC)
        self.forget_mappings(path)
        self.ground.live.settle()
        self.ground.live.pull()
        look_until(lambda: len(self.mount.tree()) > len(self.plain.tree()))
        (copy,) = self.mount.tree().keys() - self.plain.tree().keys()
        self.check(CONFLICT.fullmatch(copy) is not None, f"the copy of a conflict is {copy!r}")
        times = os.stat(self.plain.at(path)).st_mtime_ns
        self.rename_plainly(Path(self.plain.at(path)), copy)
        self.write_plainly(path, self.fresh(theirs), stat.S_IMODE(os.stat(self.plain.at(copy)).st_mode))
        os.utime(self.plain.at(copy), ns=(times, times))
        look_until(self.shows_the_same)
        look_until(lambda: self.mount.read(path) == self.fresh(theirs))

    @rule(path=PATHS, mine=DATA)
    def edit_what_is_deleted_remotely(self, path: str, mine: bytes) -> None:
        if not os.path.isfile(self.plain.at(path)) or not os.stat(self.plain.at(path)).st_mode & 0o200:
            return
        self.ground.live.settle()
        self.ground.live.pull()
        self.ground.live.do(lambda: self.ground.remote.remove(self.remotely(path)))
        self.save(path, b"mine %d: " % self.number() + mine, os.O_TRUNC)
        self.ground.live.settle()
        self.ground.live.pull()

    # -- pieces

    def shows_the_same(self) -> bool:
        """Tell whether the mount shows what the plain directory does; while it changes, names may go between looks."""
        return attempt(self.mount.tree) == self.plain.tree()

    def fresh(self, data: bytes) -> bytes:
        """Return bytes that no other version of this step has."""
        return b"theirs: " + data

    def remotely(self, path: str) -> str:
        return f"{self.name}/{path}"

    def has_place(self, path: str) -> bool:
        """Tell whether there is a directory for a path."""
        return os.path.isdir(os.path.dirname(self.plain.at(path)))

    def update(self, path: str, *, permission: Permission | None = None, place: str | None = None) -> None:
        """Change an item as another client does."""
        remote = self.ground.remote
        item = self.ground.live.do(lambda: remote.at(self.remotely(path)))
        assert item is not None
        self.ground.live.call(lambda: remote.update(item.id, permission=permission, path=place))

    def displace(self, path: str) -> None:
        """Take a file or directory of the plain directory away, and keep it for whoever has it open."""
        if os.path.lexists(self.plain.at(path)):
            self.forget_mappings(path)
            kept = self._aside / str(self.number())
            os.rename(self.plain.at(path), kept)
            self._displaced[os.stat(kept).st_ino] = kept

    def forget_mappings(self, path: str) -> None:
        """Give all mappings up: whose writes make a conflict copy, the other process cannot tell."""
        for number in list(self.plain.mapped):
            self.plain.unmap(number)
            self.mount.unmap(number)

    def write_plainly(self, path: str, data: bytes, mode: int = 0o644) -> None:
        Path(self.plain.at(path)).write_bytes(data)
        os.chmod(self.plain.at(path), mode)

    def rename_plainly(self, kept: Path, path: str) -> None:
        """Give a file of the plain directory the name that the mount gave its own."""
        os.rename(kept, self.plain.at(path))

    def compare_with_server(self) -> None:
        expected = {
            path: None if found.kind == "directory" else self.plain.read(path)
            for path, found in self.plain.tree().items()
        }
        assert self.on_server() == expected

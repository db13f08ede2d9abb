"""The POSIX model: random operations on a mount and on a plain directory, which must come to the same.

``PosixModel`` has what holds everywhere in a mount; ``LocalOnlyModel`` takes place where names stay local and there are
links, ``posix_synced.SyncedModel`` where the mount is synchronised.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import file_calls
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from live_mount import DEADLINE_S, Live, served
from mapping_child import MappingChild
from model_remote import ModelRemote
from posix_sides import Refused, Side, attempt, shown

LONG = "é" * 127 + "x"
"""A name of 255 bytes, the most there can be."""

PATHS = st.sampled_from(["a", "b", "d", "e", "d/a", "d/b", "d/e", "d/e/a", "e/a", "e/d", "a b\\", f"d/{LONG}"])
DIRECTORIES = st.sampled_from(["", "d", "e", "d/e", "e/d"])
DATA = st.sampled_from([b"x", b"hello", b"0123456789", b"y" * 4096, b"z" * 5000])
OFFSETS = st.sampled_from([0, 1, 7, 4095, 4096, 9000])
SIZES = st.sampled_from([0, 1, 5, 4096, 10_000, -1, 1 << 62])
MODES = [0o644, 0o600, 0o755, 0o700, 0o777, 0o640]
PROTECTING = [0o444, 0o400, 0o555, 0o500]
TIMES = st.sampled_from([None, 0, 1, 123_456_789_123_456_789, -1_000_000_001, 999_999_999])
ACCESS = st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
OPENINGS = st.sampled_from(
    [
        0,
        os.O_CREAT,
        os.O_CREAT | os.O_EXCL,
        os.O_CREAT | os.O_TRUNC,
        os.O_CREAT | os.O_APPEND,
        os.O_TRUNC,
        os.O_APPEND,
        os.O_DIRECTORY,
        os.O_NOFOLLOW,
    ]
)
WRITINGS = st.sampled_from([os.O_TRUNC, os.O_TRUNC, os.O_APPEND, os.O_EXCL])
ALLOCATIONS = st.sampled_from(
    [
        0,
        file_calls.FALLOC_KEEP_SIZE,
        file_calls.FALLOC_KEEP_SIZE | file_calls.FALLOC_PUNCH_HOLE,
        file_calls.FALLOC_ZERO_RANGE,
        file_calls.FALLOC_ZERO_RANGE | file_calls.FALLOC_KEEP_SIZE,
    ]
)
RENAMES = st.sampled_from([0, 0, 0, file_calls.RENAME_NOREPLACE, file_calls.RENAME_EXCHANGE])
HOSTILE = st.sampled_from(
    ["new\nline", "tab\t", "\x7f", "not utf-8 \udcff", ".a.jobfs-abcdefgh.new", ".a.jobfs-abcdefgh.old", "x" * 256]
)


class Ground:
    """Where the examples take place: one mount for all of them, and a plain directory beside it.

    :param folder: for the mount, its state, and the plain directory.
    """

    def __init__(self, folder: Path, transport: str) -> None:
        self._folder = folder
        self._transport = transport
        self._stack = ExitStack()
        self._examples = 0
        self.remote = ModelRemote()
        self.live: Live
        self.mappings = (MappingChild(), MappingChild())
        self.plain = folder / "plain"
        self.plain.mkdir()

    def __enter__(self) -> Ground:
        self._mount()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._stack.close()
        finally:
            for child in self.mappings:
                child.end()

    def _mount(self) -> None:
        self.live = self._stack.enter_context(served(self._transport, self._folder, self.remote))

    def mount_again(self) -> None:
        """End the session with its mount, and begin a new one on the same state."""
        self._stack.close()
        self._mount()

    def next_example(self) -> str:
        """Return a name for the directory of an example, which has its own time to end in."""
        faulthandler.dump_traceback_later(DEADLINE_S, exit=True)
        self._examples += 1
        return f"e{self._examples}"


class PosixModel(RuleBasedStateMachine):
    """Operations that must come to the same on both sides, everywhere in a mount."""

    handles = Bundle("handles")
    mappings = Bundle("mappings")
    place = ""
    """The directory of the mount in which the examples' directories are made; the root by default."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.name = ground.next_example()
        self.is_sound = True
        self._numbers = 0
        self._umask = os.umask(0o022)
        self.mount = Side(str(ground.live.path / self.place / self.name), ground.mappings[0])
        self.plain = Side(str(ground.plain / self.name), ground.mappings[1])
        for side in (self.mount, self.plain):
            os.mkdir(side.root)

    @initialize(paths=st.sampled_from([(), ("a", "d/", "d/a"), ("a", "b", "d/", "d/e/", "d/e/a", "e/", "e/a")]))
    def begin(self, paths: tuple[str, ...]) -> None:
        """Begin with some files and directories, settled."""
        for path in paths:
            if path.endswith("/"):
                self.mkdir(path.rstrip("/"), 0o755)
            else:
                self.save(path, path.encode(), os.O_TRUNC)
        self.settle()

    # -- comparing

    def rights(self) -> file_calls.Rights:
        """Return the rights with which both sides are used."""
        return file_calls.rights_of_an_owner()

    def both(self, action: Callable[[Side], object], expect: Callable[[object], object] = lambda found: found) -> bool:
        """Do the same on both sides, with the same result; return whether it could be done.

        :param expect: says for the plain directory's result what the mount's must be.
        """
        with self.rights():
            expected = expect(attempt(lambda: action(self.plain)))
            found = attempt(lambda: action(self.mount))
        self.check(found == expected, f"plain directory: {expected!r}, mount: {found!r}")
        return not isinstance(found, Refused)

    def check(self, is_so: bool, complaint: str) -> None:
        """Fail the example unless something is so; its directories are then no longer compared."""
        self.is_sound = self.is_sound and is_so
        assert is_so, complaint

    @invariant()
    def trees_are_equal(self) -> None:
        if self.is_sound:
            plain, mount = self.plain.tree(), self.mount.tree()
            wrong = {path: (plain.get(path), mount.get(path)) for path in plain | mount}
            wrong = {path: pair for path, pair in wrong.items() if pair[0] != pair[1]}
            self.check(not wrong, f"plain directory and mount: {wrong}")
            listed = self.mount.listed_inodes()
            self.check(all(listed.values()), f"listed with another inode number: {listed}")

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def kept_mode(self, mode: int, *, is_new: bool, is_directory: bool = False) -> int:
        """Return the mode that a plain directory must be given to show what the mount shows after ``mode``."""
        return mode

    # -- open files

    @rule(target=handles, path=PATHS, access=ACCESS, flags=OPENINGS, mode=st.sampled_from(MODES + PROTECTING))
    def open(self, path: str, access: int, flags: int, mode: int) -> object:
        number = self.number()
        kept = self.kept_mode(mode, is_new=True)

        def action(side: Side) -> None:
            side.open(number, path, access | flags | os.O_NONBLOCK, kept if side is self.plain else mode)

        return number if self.both(action) else multiple()

    @rule(number=consumes(handles))
    def close(self, number: int) -> None:
        self.both(lambda side: side.close(number))

    @rule(number=handles, size=st.sampled_from([1, 100, 1 << 20]), offset=OFFSETS)
    def pread(self, number: int, size: int, offset: int) -> None:
        self.both(lambda side: os.pread(side.files[number], size, offset))

    @rule(number=handles, size=st.sampled_from([1, 100, 1 << 20]))
    def read(self, number: int, size: int) -> None:
        self.both(lambda side: os.read(side.files[number], size))

    @rule(number=handles, data=DATA)
    def write(self, number: int, data: bytes) -> None:
        self.change(number, lambda side: os.write(side.files[number], data))

    @rule(number=handles, data=DATA, offset=OFFSETS)
    def pwrite(self, number: int, data: bytes, offset: int) -> None:
        self.change(number, lambda side: os.pwrite(side.files[number], data, offset))

    @rule(number=handles, size=SIZES)
    def ftruncate(self, number: int, size: int) -> None:
        self.change(number, lambda side: os.ftruncate(side.files[number], size))

    @rule(number=handles, mode=ALLOCATIONS, offset=OFFSETS, length=st.sampled_from([0, 1, 4096, 6000]))
    def fallocate(self, number: int, mode: int, offset: int, length: int) -> None:
        self.change(number, lambda side: file_calls.allocate(side.files[number], mode, offset, length))

    @rule(number=handles, source=handles, size=st.sampled_from([3, 5000]), offset=OFFSETS, from_offset=OFFSETS)
    def copy_range(self, number: int, source: int, size: int, offset: int, from_offset: int) -> None:
        self.change(
            number,
            lambda side: os.copy_file_range(side.files[source], side.files[number], size, from_offset, offset),
        )

    def change(self, number: int, action: Callable[[Side], object]) -> None:
        """Do on both sides what changes an open file."""
        self.both(action)

    @rule(number=handles, offset=st.sampled_from([0, 3, -2, 9000]), whence=st.sampled_from([0, 1, 2]))
    def lseek(self, number: int, offset: int, whence: int) -> None:
        if not stat.S_ISDIR(os.fstat(self.plain.files[number]).st_mode):  # whose offsets are the file system's own
            self.both(lambda side: os.lseek(side.files[number], offset, whence))

    @rule(number=handles, is_data=st.booleans())
    def fsync(self, number: int, is_data: bool) -> None:
        self.both(lambda side: (os.fdatasync if is_data else os.fsync)(side.files[number]))

    @rule(number=handles)
    def fstat(self, number: int) -> None:
        self.both(lambda side: shown(os.fstat(side.files[number])), lambda found: self.expected_stat(number, found))

    def expected_stat(self, number: int, found: object) -> object:
        """Return what fstat of the mount must show."""
        return found

    @rule(number=handles, mode=st.sampled_from(MODES + PROTECTING))
    def fchmod(self, number: int, mode: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(self.plain.files[number]).st_mode)
        kept = self.kept_mode(mode, is_new=False, is_directory=is_directory)
        self.both(lambda side: os.chmod(side.files[number], kept if side is self.plain else mode))

    @rule(number=handles, moment=st.sampled_from([0, 5, 123_456_789_987_654_321]))
    def futimens(self, number: int, moment: int) -> None:
        self.both(lambda side: os.utime(side.files[number], ns=(moment, moment)))

    # -- mapped files

    @rule(target=mappings, path=PATHS)
    def map(self, path: str) -> object:
        number = self.number()
        with suppress(OSError):
            mode = os.stat(self.plain.at(path)).st_mode
            if not stat.S_ISREG(mode) or not mode & 0o200:
                return multiple()  # another process maps, with rights of its own
        return number if self.both(lambda side: side.map(number, path)) else multiple()

    @rule(number=consumes(mappings))
    def unmap(self, number: int) -> None:
        if number in self.plain.mapped:
            self.both(lambda side: side.unmap(number))

    @rule(number=mappings, offset=OFFSETS, data=DATA)
    def write_mapped(self, number: int, offset: int, data: bytes) -> None:
        if number in self.plain.mapped:
            self.both(lambda side: side.mappings.write(number, offset, data))

    @rule(number=mappings, offset=OFFSETS, size=st.sampled_from([1, 5000]))
    def read_mapped(self, number: int, offset: int, size: int) -> None:
        if number in self.plain.mapped:
            self.both(lambda side: side.mappings.read(number, offset, size))

    # -- whole files

    @rule(path=PATHS, data=DATA, flags=WRITINGS)
    def save(self, path: str, data: bytes, flags: int) -> None:
        self.both(lambda side: side.write(path, data, flags | os.O_NONBLOCK))

    @rule(path=PATHS)
    def load(self, path: str) -> None:
        self.both(lambda side: side.read(path))

    @rule(path=PATHS, size=SIZES)
    def truncate(self, path: str, size: int) -> None:
        if self.is_regular_or_absent(path):
            self.both(lambda side: os.truncate(side.at(path), size))

    def is_regular_or_absent(self, path: str) -> bool:
        """Tell whether there is no special file."""
        try:
            mode = os.stat(self.plain.at(path)).st_mode
        except OSError:
            return True
        return stat.S_ISREG(mode) or stat.S_ISDIR(mode)

    # -- names

    @rule(path=PATHS, mode=st.sampled_from(MODES))
    def mkdir(self, path: str, mode: int) -> None:
        kept = self.kept_mode(mode, is_new=True, is_directory=True)
        self.both(lambda side: os.mkdir(side.at(path), kept if side is self.plain else mode))

    @rule(path=PATHS)
    def rmdir(self, path: str) -> None:
        self.both(lambda side: os.rmdir(side.at(path)))

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        self.both(lambda side: os.unlink(side.at(path)))

    @rule(old=PATHS, new=PATHS, flags=RENAMES)
    def rename(self, old: str, new: str, flags: int) -> None:
        if self.is_refused_replacement(old, new) and flags == 0:
            with self.rights():
                found = attempt(lambda: os.rename(self.mount.at(old), self.mount.at(new)))
            self.check(found == Refused("EACCES"), f"a read-only file was to be replaced: {found!r}")
        else:
            self.both(lambda side: file_calls.rename_with(side.at(old), side.at(new), flags))

    def is_refused_replacement(self, old: str, new: str) -> bool:
        """Tell whether a rename is refused although a plain directory does it."""
        return False

    @rule(path=PATHS, mode=st.sampled_from(MODES + PROTECTING))
    def chmod(self, path: str, mode: int) -> None:
        kept = self.kept_mode(mode, is_new=False, is_directory=os.path.isdir(self.plain.at(path)))
        self.both(lambda side: os.chmod(side.at(path), kept if side is self.plain else mode))

    @rule(path=PATHS, accessed_ns=TIMES, modified_ns=TIMES)
    def utimens(self, path: str, accessed_ns: int | None, modified_ns: int | None) -> None:
        self.both(lambda side: file_calls.set_times(side.at(path), accessed_ns=accessed_ns, modified_ns=modified_ns))

    @rule(path=PATHS)
    def chown(self, path: str) -> None:
        self.both(lambda side: os.chown(side.at(path), os.getuid(), os.getgid()))
        self.both(lambda side: os.chown(side.at(path), 54_321, -1))

    @rule(path=PATHS, new=PATHS)
    def link(self, path: str, new: str) -> None:
        self.make_special(new, lambda side: os.link(side.at(path), side.at(new), follow_symlinks=False))

    @rule(path=PATHS, to=st.sampled_from(["a", "d/a", "d", "../a", ".", "nowhere"]))
    def symlink(self, path: str, to: str) -> None:
        self.make_special(path, lambda side: os.symlink(to, side.at(path)))

    @rule(path=PATHS)
    def mkfifo(self, path: str) -> None:
        self.make_special(path, lambda side: os.mkfifo(side.at(path), 0o644))

    def make_special(self, path: str, action: Callable[[Side], object]) -> None:
        """Make a link or a special file on both sides."""
        self.both(action)

    @rule(path=PATHS)
    def readlink(self, path: str) -> None:
        self.both(lambda side: os.readlink(side.at(path)))

    @rule(name=HOSTILE, path=PATHS, verb=st.sampled_from(["mkdir", "save", "rename", "stat"]))
    def use_hostile_name(self, name: str, path: str, verb: str) -> None:
        actions: dict[str, Callable[[Side], object]] = {
            "mkdir": lambda side: os.mkdir(side.at(name)),
            "save": lambda side: side.write(name, b"", 0),
            "rename": lambda side: os.rename(side.at(path), side.at(name)),
            "stat": lambda side: side.stat(name),
        }
        number = self.refusal_of(name)
        is_missing = verb == "rename" and not os.path.lexists(self.plain.at(path))
        if number is None or verb == "stat" or is_missing:
            self.both(actions[verb])
            return
        with self.rights():
            found = attempt(lambda: actions[verb](self.mount))
        allowed = {Refused(errno.errorcode[number])}
        if verb == "rename":
            allowed.add(Refused("EACCES"))  # its directory is read-only: either may be said
        self.check(found in allowed, f"{verb} {name!r}: {found!r}")

    def refusal_of(self, name: str) -> int | None:
        """Return the errno with which a name is refused that a plain directory takes."""
        return errno.EILSEQ if "\udcff" in name else None

    # -- directories

    @rule(path=DIRECTORIES)
    def list(self, path: str) -> None:
        self.both(lambda side: side.names(path))

    @rule(path=DIRECTORIES, place=st.integers(0, 5))
    def seek_in_directory(self, path: str, place: int) -> None:
        self.both(lambda side: side.scan_from(path, place))

    @rule(path=DIRECTORIES, after=st.integers(1, 3), gone=PATHS, new=PATHS)
    def list_while_it_changes(self, path: str, after: int, gone: str, new: str) -> None:
        if isinstance(attempt(lambda: self.plain.names(path)), Refused):
            return
        before = set(self.mount.names(path))

        def change() -> None:
            self.unlink(gone)
            self.save(new, b"while listed", os.O_EXCL)

        listed = self.mount.scan(path, change, after=after)
        now = set(self.mount.names(path))
        self.check(len(listed) == len(set(listed)), f"a name was listed twice: {listed}")
        self.check(before & now <= set(listed) <= before | now, f"{before} became {now}, and was listed as {listed}")

    # -- the end

    @rule()
    def settle(self) -> None:
        self.ground.live.settle()

    @rule(dice=st.integers(0, 7))
    def mount_again(self, dice: int) -> None:
        if dice == 0 and not self.plain.files and not self.plain.mapped:
            self.ground.mount_again()

    def teardown(self) -> None:
        try:
            self.mount.end()
            self.plain.end()
            if self.is_sound:
                self.is_sound = False
                self.ground.live.settle()
                assert self.mount.contents() == self.plain.contents()
                self.compare_with_server()
                self.is_sound = True
        finally:
            os.umask(self._umask)
            with ExitStack() as stack:
                if not self.is_sound:
                    stack.enter_context(suppress(OSError, AssertionError))  # of what is broken, nothing more is said
                self.mount.remove()
            shutil.rmtree(self.plain.root)

    def on_server(self) -> dict[str, bytes | None]:
        """Return what the server has of this example."""
        tree = self.ground.live.do(self.ground.remote.tree)
        above = f"{self.name}/"
        return {path.removeprefix(above): data for path, data in tree.items() if path.startswith(above)}

    def compare_with_server(self) -> None:
        """Compare with the server what it must have at the end."""


class LocalOnlyModel(PosixModel):
    """The model in a place whose names stay local.

    Permission bits are kept there, and bind nobody, as on a plain disk for root.
    """

    place = ".git"

    def __init__(self, ground: Ground) -> None:
        (ground.live.path / self.place).mkdir(exist_ok=True)
        super().__init__(ground)

    def compare_with_server(self) -> None:
        assert self.ground.live.do(self.ground.remote.tree) == {}

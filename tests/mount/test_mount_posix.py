"""File operations through real mounts, where mounts of this kind fail most often (design, section 6)."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mount

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
FALLOC_KEEP_SIZE = 1
FALLOC_PUNCH_HOLE = 2

_libc = ctypes.CDLL(None, use_errno=True)


def errno_of(action: Callable[[], Any]) -> int:
    """Return the errno that an action fails with; 0 where it succeeds."""
    try:
        action()
    except OSError as error:
        return error.errno or 0
    return 0


def renameat2(old: Path, new: Path, flags: int) -> None:
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    if _libc.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def map_and_write(path: Path, offset: int, data: bytes, *, closes_first: bool = False) -> None:
    """Write through a shared mapping, in a program of its own.

    A page fault holds a lock on its process's memory until the mount answers, so nobody may map files of a mount that
    his own process serves.
    """
    script = """
import mmap, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
mapping = mmap.mmap(descriptor, 0)
if sys.argv[4] == "True":
    os.close(descriptor)
data = sys.argv[3].encode()
mapping[int(sys.argv[2]) : int(sys.argv[2]) + len(data)] = data
mapping.close()
"""
    arguments = [str(path), str(offset), data.decode(), str(closes_first)]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True)


# -- reading and writing


def test_what_is_written_is_read_at_once_by_another_program(mnt: Path) -> None:
    with (mnt / "a").open("wb", buffering=0) as writer:
        writer.write(b"hello")
        assert subprocess.check_output(["cat", mnt / "a"]) == b"hello"
        writer.write(b" world")
        assert subprocess.check_output(["cat", mnt / "a"]) == b"hello world"
    assert (mnt / "a").stat().st_size == 11


def test_an_overwrite_in_the_middle_keeps_the_rest(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"0123456789")
    with (mnt / "a").open("r+b") as file:
        file.seek(4)
        file.write(b"xy")
    assert (mnt / "a").read_bytes() == b"0123xy6789"


def test_two_appending_programs_lose_no_line(mnt: Path) -> None:
    def append(word: str) -> None:
        script = f"for i in $(seq 50); do echo {word}-$i; done >> '{mnt}/log'"
        subprocess.run(["sh", "-c", script], check=True)

    threads = [threading.Thread(target=append, args=(word,)) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = sorted(f"{word}-{i}" for word in ("one", "two") for i in range(1, 51))
    assert sorted((mnt / "log").read_text().splitlines()) == expected


def test_o_excl_lets_exactly_one_of_many_create_a_file(mnt: Path) -> None:
    won: list[int] = []

    def create() -> None:
        number = errno_of(lambda: os.close(os.open(mnt / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)))
        won.append(number)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [0] + [errno.EEXIST] * 7


def test_opening_with_o_trunc_empties_the_file(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"old")
    descriptor = os.open(mnt / "a", os.O_WRONLY | os.O_TRUNC)
    assert os.fstat(descriptor).st_size == 0
    os.close(descriptor)
    assert (mnt / "a").read_bytes() == b""


def test_a_sparse_file_reads_zeros_where_nothing_was_written(mnt: Path) -> None:
    with (mnt / "a").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    assert (mnt / "a").stat().st_size == (1 << 20) + 3
    assert (mnt / "a").read_bytes() == bytes(1 << 20) + b"end"


def test_truncate_cuts_and_grows_with_zeros(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"0123456789")
    os.truncate(mnt / "a", 4)
    assert (mnt / "a").read_bytes() == b"0123"
    os.truncate(mnt / "a", 8)
    assert (mnt / "a").read_bytes() == b"0123\0\0\0\0"


def test_truncate_to_an_absurd_length_is_efbig_at_once(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"x")
    assert errno_of(lambda: os.truncate(mnt / "a", (1 << 63) - 1)) == errno.EFBIG
    assert (mnt / "a").read_bytes() == b"x"


def test_a_shared_mapping_writes_through_to_the_file(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"0123456789")
    map_and_write(mnt / "a", 2, b"abc")
    assert (mnt / "a").read_bytes() == b"01abc56789"


def test_a_mapping_that_outlives_its_descriptor_still_reaches_the_file(mnt: Path) -> None:
    (mnt / "a").write_bytes(bytes(4096))
    map_and_write(mnt / "a", 0, b"late", closes_first=True)
    assert (mnt / "a").read_bytes()[:4] == b"late"


def test_a_mapping_sees_what_is_written_by_write(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"0123456789")
    script = """
import mmap, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
mapping = mmap.mmap(descriptor, 10)
assert mapping[:] == b"0123456789"
os.pwrite(descriptor, b"ab", 3)
assert mapping[:] == b"012ab56789", mapping[:]
"""
    subprocess.run([sys.executable, "-c", script, mnt / "a"], check=True)


def test_fallocate_reserves_and_punches_holes(mnt: Path) -> None:
    with (mnt / "a").open("w+b", buffering=0) as file:
        file.write(b"x" * 12288)
        fallocate(file.fileno(), FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, 4096, 4096)
        assert os.pread(file.fileno(), 12288, 0) == b"x" * 4096 + bytes(4096) + b"x" * 4096
        fallocate(file.fileno(), 0, 0, 20000)
        assert os.fstat(file.fileno()).st_size == 20000
        fallocate(file.fileno(), FALLOC_KEEP_SIZE, 0, 40000)
        assert os.fstat(file.fileno()).st_size == 20000


def test_a_large_file_survives_the_round_trip_through_the_mount(mnt: Path) -> None:
    data = os.urandom(1 << 16) * 80 + b"tail"
    (mnt / "big").write_bytes(data)
    assert (mnt / "big").read_bytes() == data
    assert subprocess.run(["cp", mnt / "big", mnt / "copy"], check=True).returncode == 0
    assert (mnt / "copy").read_bytes() == data


def test_fsync_of_files_and_directories_succeeds(mnt: Path) -> None:
    with (mnt / "a").open("wb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    directory = os.open(mnt, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)


# -- names


def test_a_file_that_is_renamed_over_while_open_keeps_its_bytes(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"old")
    (mnt / "b").write_bytes(b"new!")
    with (mnt / "a").open("rb") as reader:
        (mnt / "b").rename(mnt / "a")
        assert reader.read() == b"old"
    assert (mnt / "a").read_bytes() == b"new!"
    assert os.listdir(mnt) == ["a"]


def test_readers_of_a_file_that_is_replaced_over_and_over_see_whole_versions_only(mnt: Path, live: Any) -> None:
    (mnt / "a").write_bytes(b"0" * 5000)
    versions = {bytes([48 + i % 10]) * (5000 + i % 10) for i in range(60)}
    is_over = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not is_over.is_set():
            try:
                seen.add((mnt / "a").read_bytes())
            except OSError as error:
                # libfuse, which speaks in paths, has none for a file that was replaced between lookup and open.
                if live.transport.name == "kernel" or error.errno != errno.ESTALE:
                    raise

    thread = threading.Thread(target=read)
    thread.start()
    for i in range(60):
        (mnt / "a.tmp").write_bytes(bytes([48 + i % 10]) * (5000 + i % 10))
        (mnt / "a.tmp").rename(mnt / "a")
    is_over.set()
    thread.join()
    assert seen - versions == set()


def test_an_unlinked_file_lives_until_it_is_closed_and_leaves_no_litter(mnt: Path) -> None:
    with (mnt / "a").open("w+b", buffering=0) as file:
        file.write(b"before")
        (mnt / "a").unlink()
        assert os.listdir(mnt) == []
        file.write(b" after")
        assert os.pread(file.fileno(), 100, 0) == b"before after"
    assert os.listdir(mnt) == []


def test_an_open_file_without_a_name_still_has_its_attributes(serving: Callable[..., Any]) -> None:
    # Through the kernel transport only: for fstat the kernel names the inode and not the handle, and libfuse, which
    # speaks in paths, has none for it.
    mnt = serving("kernel").path
    (mnt / "a").write_bytes(b"replaced")
    (mnt / "b").write_bytes(b"other")
    with (mnt / "a").open("r+b", buffering=0) as replaced, (mnt / "b").open("r+b", buffering=0) as unlinked:
        (mnt / "c").write_bytes(b"c")
        (mnt / "c").rename(mnt / "a")
        (mnt / "b").unlink()
        found = [os.fstat(file.fileno()) for file in (replaced, unlinked)]
        assert [(stat_.st_size, stat_.st_nlink) for stat_ in found] == [(8, 0), (5, 0)]
        os.ftruncate(unlinked.fileno(), 2)
        assert unlinked.read() == b"ot"


def test_a_name_is_free_again_while_the_old_file_is_open(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"old")
    with (mnt / "a").open("rb") as reader:
        (mnt / "a").unlink()
        (mnt / "a").write_bytes(b"new")
        assert reader.read() == b"old"
        assert (mnt / "a").read_bytes() == b"new"


def test_a_directory_renamed_over_a_full_one_is_enotempty_and_over_an_empty_one_works(mnt: Path) -> None:
    (mnt / "from").mkdir()
    (mnt / "from" / "x").write_bytes(b"x")
    (mnt / "full").mkdir()
    (mnt / "full" / "y").write_bytes(b"y")
    (mnt / "empty").mkdir()
    assert errno_of(lambda: (mnt / "from").rename(mnt / "full")) == errno.ENOTEMPTY
    (mnt / "from").rename(mnt / "empty")
    assert (mnt / "empty" / "x").read_bytes() == b"x"
    assert sorted(os.listdir(mnt)) == ["empty", "full"]


def test_a_directory_is_renamed_with_an_open_file_inside(mnt: Path) -> None:
    (mnt / "d").mkdir()
    with (mnt / "d" / "f").open("wb", buffering=0) as file:
        file.write(b"one ")
        (mnt / "d").rename(mnt / "e")
        file.write(b"two")
    assert (mnt / "e" / "f").read_bytes() == b"one two"


def test_rename_noreplace_refuses_a_taken_name(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"a")
    (mnt / "b").write_bytes(b"b")
    assert errno_of(lambda: renameat2(mnt / "a", mnt / "b", RENAME_NOREPLACE)) == errno.EEXIST
    renameat2(mnt / "a", mnt / "c", RENAME_NOREPLACE)
    assert (mnt / "c").read_bytes() == b"a"


def test_rename_exchange_swaps_two_files(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"a")
    (mnt / "b").write_bytes(b"bb")
    renameat2(mnt / "a", mnt / "b", RENAME_EXCHANGE)
    assert ((mnt / "a").read_bytes(), (mnt / "b").read_bytes()) == (b"bb", b"a")


def test_errors_of_names_are_those_of_a_local_disk(mnt: Path) -> None:
    (mnt / "file").write_bytes(b"")
    (mnt / "dir").mkdir()
    (mnt / "dir" / "inner").write_bytes(b"")
    cases = {
        "absent": (errno.ENOENT, lambda: (mnt / "absent").stat()),
        "below a file": (errno.ENOTDIR, lambda: (mnt / "file" / "x").stat()),
        "taken": (errno.EEXIST, lambda: (mnt / "dir").mkdir()),
        "rmdir of a file": (errno.ENOTDIR, lambda: (mnt / "file").rmdir()),
        "unlink of a directory": (errno.EISDIR, lambda: os.unlink(mnt / "dir")),
        "rmdir of a full one": (errno.ENOTEMPTY, lambda: (mnt / "dir").rmdir()),
        "into itself": (errno.EINVAL, lambda: (mnt / "dir").rename(mnt / "dir" / "sub")),
        "file over directory": (errno.EISDIR, lambda: os.rename(mnt / "file", mnt / "dir")),
        "directory over file": (errno.ENOTDIR, lambda: os.rename(mnt / "dir", mnt / "file")),
        "writing a directory": (errno.EISDIR, lambda: os.open(mnt / "dir", os.O_WRONLY)),
        "too long": (errno.ENAMETOOLONG, lambda: (mnt / ("x" * 256)).write_bytes(b"")),
        "too long in bytes": (errno.ENAMETOOLONG, lambda: (mnt / ("ä" * 128)).write_bytes(b"")),
    }
    expected = {name: number for name, (number, _) in cases.items()}
    assert {name: errno_of(action) for name, (_, action) in cases.items()} == expected


def test_a_name_of_255_bytes_is_kept(mnt: Path) -> None:
    name = "ä" * 127 + "x"
    (mnt / name).write_bytes(b"x")
    assert os.listdir(mnt) == [name]


def test_links_and_special_files_are_eperm_so_that_programs_fall_back(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"x")
    actions = {
        "symlink": lambda: os.symlink("a", mnt / "s"),
        "link": lambda: os.link(mnt / "a", mnt / "l"),
        "fifo": lambda: os.mkfifo(mnt / "f"),
        "device": lambda: os.mknod(mnt / "n", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    }
    assert {name: errno_of(action) for name, action in actions.items()} == dict.fromkeys(actions, errno.EPERM)


def test_removing_a_tree_leaves_nothing_and_reports_nothing(mnt: Path) -> None:
    for i in range(20):
        (mnt / "t" / str(i)).mkdir(parents=True)
        for j in range(10):
            (mnt / "t" / str(i) / f"f{j}").write_bytes(b"x")
    result = subprocess.run(["rm", "-r", mnt / "t"], capture_output=True, check=True)
    assert (result.stderr, os.listdir(mnt)) == (b"", [])


def test_a_large_directory_is_listed_completely_and_can_be_emptied_while_listed(mnt: Path) -> None:
    (mnt / "d").mkdir()
    names = {f"a-rather-long-file-name-{i:05d}" for i in range(2000)}
    for name in names:
        (mnt / "d" / name).touch()
    listed = os.listdir(mnt / "d")
    assert (len(listed), set(listed)) == (2000, names)
    with os.scandir(mnt / "d") as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(mnt / "d") == []


def test_seeking_in_a_directory_comes_back_to_the_same_entry(mnt: Path) -> None:
    for i in range(500):
        (mnt / f"f{i}").touch()
    _libc.opendir.restype = _libc.telldir.restype = _libc.readdir.restype = ctypes.c_void_p
    _libc.telldir.restype = ctypes.c_long
    directory = ctypes.c_void_p(_libc.opendir(os.fsencode(mnt)))

    def name_at() -> bytes:
        record = _libc.readdir(directory)
        return ctypes.string_at(record + 19) if record else b""

    for _ in range(300):
        name_at()
    place = _libc.telldir(directory)
    following = [name_at() for _ in range(5)]
    _libc.rewinddir(directory)
    while name_at():
        pass
    _libc.seekdir(directory, ctypes.c_long(place))
    assert [name_at() for _ in range(5)] == following
    _libc.closedir(directory)


# -- attributes


def test_inode_numbers_are_those_of_the_directory_and_stay_over_a_rename(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"x")
    (mnt / "d").mkdir()
    with os.scandir(mnt) as entries:
        assert {entry.name: entry.inode() for entry in entries} == {
            name: (mnt / name).stat().st_ino for name in ("a", "d")
        }
    before = (mnt / "a").stat().st_ino
    (mnt / "a").rename(mnt / "d" / "b")
    assert (mnt / "d" / "b").stat().st_ino == before


@pytest.mark.parametrize("times", [(None, 1_234_567_890_123_456_789), (987_654_321_987_654_321, None)])
def test_utimensat_of_one_time_leaves_the_other(mnt: Path, times: tuple[int | None, int | None]) -> None:
    class TimeSpec(ctypes.Structure):
        _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))

    omit = (1 << 30) - 2
    (mnt / "a").write_bytes(b"x")
    os.utime(mnt / "a", ns=(111_111_111_111_111_111, 222_222_222_222_222_222))
    specs = (TimeSpec * 2)(*[TimeSpec(*divmod(t, 10**9)) if t is not None else TimeSpec(0, omit) for t in times])
    assert _libc.utimensat(-100, os.fsencode(mnt / "a"), specs, 0) == 0
    assert (mnt / "a").stat().st_mtime_ns == (times[1] if times[1] is not None else 222_222_222_222_222_222)


def test_mtime_is_kept_to_the_nanosecond_also_before_1970(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"x")
    for mtime in (1_700_000_000_123_456_789, -1_000_000_001):
        os.utime(mnt / "a", ns=(mtime, mtime))
        assert (mnt / "a").stat().st_mtime_ns == mtime


def test_touch_sets_the_time_to_now(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"x")
    os.utime(mnt / "a", ns=(1, 1))
    before = (mnt / "a").stat().st_mtime_ns
    os.utime(mnt / "a")
    assert (mnt / "a").stat().st_mtime_ns > before + 10**18


def test_writing_moves_the_mtime_and_reading_does_not(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"x")
    os.utime(mnt / "a", ns=(1, 1))
    (mnt / "a").read_bytes()
    assert (mnt / "a").stat().st_mtime_ns == 1
    with (mnt / "a").open("ab") as file:
        file.write(b"y")
    assert (mnt / "a").stat().st_mtime_ns > 1


def test_a_file_with_the_execute_bit_can_be_run(mnt: Path) -> None:
    (mnt / "run").write_text("#!/bin/sh\necho ran\n")
    assert (mnt / "run").stat().st_mode & 0o777 == 0o644
    (mnt / "run").chmod(0o755)
    assert (mnt / "run").stat().st_mode & 0o777 == 0o755
    # Through a shell: a process may not wait in exec for a mount that its own parent's interpreter serves.
    assert subprocess.check_output(["sh", "-c", f"'{mnt}/run'"]) == b"ran\n"


def test_chmod_without_the_write_bit_refuses_writers_root_included(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"x")
    (mnt / "a").chmod(0o444)
    assert (mnt / "a").stat().st_mode & 0o777 == 0o444
    assert errno_of(lambda: os.open(mnt / "a", os.O_WRONLY)) == errno.EACCES
    assert errno_of(lambda: os.open(mnt / "a", os.O_RDWR | os.O_TRUNC)) == errno.EACCES
    assert os.access(mnt / "a", os.W_OK) is (os.geteuid() == 0)  # this answer is the kernel's own
    assert (mnt / "a").read_bytes() == b"x"
    (mnt / "a").chmod(0o644)
    (mnt / "a").write_bytes(b"y")


def test_the_umask_is_taken_off_once(mnt: Path) -> None:
    (mnt / ".git").mkdir()
    before = os.umask(0o027)
    try:
        os.close(os.open(mnt / ".git" / "f", os.O_CREAT | os.O_WRONLY, 0o666))
        (mnt / ".git" / "d").mkdir()
    finally:
        os.umask(before)
    assert (mnt / ".git" / "f").stat().st_mode & 0o777 == 0o640
    assert (mnt / ".git" / "d").stat().st_mode & 0o777 == 0o750


def test_a_chown_that_changes_nothing_succeeds_and_any_other_is_eperm(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"x")
    os.chown(mnt / "a", os.getuid(), os.getgid())
    os.chown(mnt / "a", -1, -1)
    assert errno_of(lambda: os.chown(mnt / "a", 12345, -1)) == errno.EPERM
    assert errno_of(lambda: os.chown(mnt / "a", -1, 12345)) == errno.EPERM


def test_extended_attributes_tell_the_push_state_and_refuse_foreign_names(mnt: Path) -> None:
    (mnt / "a").write_bytes(b"x")
    assert "user.jobfs.state" in os.listxattr(mnt / "a")
    assert os.getxattr(mnt / "a", "user.jobfs.permission") == b"readWrite"
    assert errno_of(lambda: os.getxattr(mnt / "a", "user.other")) == errno.ENODATA
    assert errno_of(lambda: os.setxattr(mnt / "a", "user.other", b"x")) == errno.ENOTSUP


def test_ls_learns_at_the_first_file_that_there_are_no_acls_and_labels(serving: Callable[..., Any]) -> None:
    live = serving("kernel")
    for number in range(50):
        (live.path / f"{number}").write_bytes(b"x")
    before = live.transport.requests.get("GETXATTR", 0)
    listed = subprocess.run(["ls", "-l", live.path], check=True, capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1 + 50
    assert live.transport.requests.get("GETXATTR", 0) - before < 10
    for name in ("system.posix_acl_access", "security.selinux", "trusted.x"):
        assert errno_of(lambda name=name: os.getxattr(live.path / "0", name)) == errno.ENOTSUP


def test_free_space_is_that_of_the_local_store(mnt: Path, tmp_path: Path) -> None:
    assert os.statvfs(mnt).f_blocks == os.statvfs(tmp_path).f_blocks
    assert os.statvfs(mnt).f_namemax == 255


def test_files_that_come_and_go_leave_nothing_in_memory(
    serving: Callable[..., Any], eventually: Callable[[Callable[[], bool]], None]
) -> None:
    live = serving("kernel")

    def remembered() -> tuple[int, int]:
        return len(live.vfs.table.inodes), sum(live.vfs.table.is_known(node) for node in range(2, 3000))

    (live.path / ".git").mkdir()
    for i in range(1000):
        (live.path / ".git" / str(i)).write_bytes(b"x")
        (live.path / ".git" / str(i)).unlink()
    (live.path / ".git").rmdir()
    eventually(lambda: live.do(remembered) == (0, 0))


# -- local-only places


def test_below_dot_git_there_are_links_of_both_kinds_and_nothing_reaches_the_server(mnt: Path, live: Any) -> None:
    git = mnt / ".git"
    git.mkdir()
    (git / "config").write_bytes(b"[core]")
    (git / "sym").symlink_to("config")
    os.link(git / "config", git / "hard")
    os.mkfifo(git / "fifo")
    assert os.readlink(git / "sym") == "config"
    assert (git / "sym").read_bytes() == b"[core]"
    assert (git / "hard").stat().st_nlink == 2
    assert (git / "hard").stat().st_ino == (git / "config").stat().st_ino
    (git / "config").unlink()
    assert (git / "hard").read_bytes() == b"[core]"
    assert (git / "hard").stat().st_nlink == 1
    assert stat.S_ISFIFO((git / "fifo").lstat().st_mode)
    live.settle()
    assert live.do(live.remote.tree) == {}


def test_hard_links_of_one_file_are_listed_each(mnt: Path) -> None:
    (mnt / ".git").mkdir()
    (mnt / ".git" / "a").write_bytes(b"x")
    for name in ("b", "c", "d"):
        os.link(mnt / ".git" / "a", mnt / ".git" / name)
    assert sorted(os.listdir(mnt / ".git")) == ["a", "b", "c", "d"]


def test_a_file_that_leaves_a_local_only_place_shows_the_mode_of_its_new_place(
    mnt: Path, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    (mnt / ".git" / "d").mkdir(parents=True)
    (mnt / ".git" / "d" / "f").write_bytes(b"x")
    (mnt / ".git" / "d" / "f").chmod(0o600)
    assert (mnt / ".git" / "d" / "f").stat().st_mode & 0o777 == 0o600
    (mnt / ".git" / "d").rename(mnt / "d")
    eventually(lambda: (mnt / "d" / "f").stat().st_mode & 0o777 == 0o644)


# -- what jobfs says of itself


def test_the_control_directory_can_be_read_but_is_not_listed_nor_written(mnt: Path) -> None:
    assert os.listdir(mnt) == []
    assert os.listdir(mnt / ".jobfs") == ["status.json"]
    assert (mnt / ".jobfs" / "status.json").read_text() == '{\n  "host": "testhost"\n}\n'
    assert errno_of(lambda: os.open(mnt / ".jobfs" / "status.json", os.O_WRONLY)) == errno.EACCES
    assert errno_of(lambda: (mnt / ".jobfs" / "new").write_bytes(b"")) == errno.EPERM
    assert errno_of(lambda: shutil.rmtree(mnt / ".jobfs")) == errno.EPERM

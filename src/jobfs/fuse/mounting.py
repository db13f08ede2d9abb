"""Make and end Linux mounts: mount(2) as root, ``fusermount3`` for everybody else.

Everything here blocks, for a moment as a rule, and at the worst for as long as the file system's daemon takes to
answer: call it from a thread, never from the loop that serves the mount.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import re
import shutil
import socket
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobfs.errors import FuseUnavailable, MountError, MountPointBusy
from jobfs.fuse.options import MountOptions

DEVICE = Path("/dev/fuse")
CONNECTIONS = Path("/sys/fs/fuse/connections")
FILE_SYSTEM = "fuse.jobfs"
_SUBTYPE = "jobfs"
_HELPER = "fusermount3"
_HELPER_DEADLINE_S = 20.0

_MS_RDONLY = 1
_MS_NOSUID = 2
_MS_NODEV = 4
_MNT_FORCE = 1
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the mount table.

    :param device: ``major:minor``, which names the mount under ``/sys``.
    """

    device: str
    point: Path
    file_system: str
    source: str

    @property
    def number(self) -> int:
        """The same as in ``st_dev``."""
        major, minor = self.device.split(":")
        return os.makedev(int(major), int(minor))


# -- the mount table


def mount_table() -> list[Mounted]:
    """Return the mounts of this process's namespace, oldest first (proc_pid_mountinfo(5))."""
    text = Path("/proc/self/mountinfo").read_bytes().decode("utf-8", "surrogateescape")
    return [_mounted(line) for line in text.splitlines()]


def _mounted(line: str) -> Mounted:
    place, _, kind = line.partition(" - ")
    fields = place.split(" ")
    file_system, source, *_ = kind.split(" ")
    return Mounted(fields[2], Path(_unescaped(fields[4])), file_system, _unescaped(source))


def _unescaped(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def mount_at(point: Path) -> Mounted | None:
    """Return the topmost mount at a place, or None. Never touches the mount itself, which might not answer."""
    return next((mounted for mounted in reversed(mount_table()) if mounted.point == point), None)


def real_place(point: Path) -> Path:
    """Return a mount point as the mount table spells it, looking only at what is above it."""
    return point.parent.resolve() / point.name if point.name not in ("", "..") else point.resolve()


def is_dead(point: Path) -> bool:
    """Tell whether the daemon of the mount at a place is gone. Blocks while a living one does not answer.

    Asks for the free space, which the kernel always asks the daemon for; it goes on giving the attributes that it has
    cached after the daemon's death.
    """
    try:
        os.statvfs(point)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


# -- making


def attach(point: Path, options: MountOptions) -> int:
    """Mount and return the descriptor on which the kernel will ask.

    A dead mount of ours at the place is taken away first. The mount waits for the answer to its INIT request.

    :param point: as ``real_place`` gave it.
    :raises MountPointBusy: there is no such directory, it is not empty, or something is mounted on it.
    :raises FuseUnavailable: this machine has no FUSE, or does not let this user have it.
    :raises MountError: the mount was refused.
    """
    make_room(point)
    _check_device()
    if os.geteuid() == 0:
        return _attach_directly(point, options)
    return _attach_through_helper(point, options)


def make_room(point: Path) -> None:
    """Take away a dead mount of ours, and see that a mount can be made at a place.

    :param point: as ``real_place`` gave it.
    :raises MountPointBusy: there is no such directory, it is not empty, or something is mounted on it.
    """
    mounted = mount_at(point)
    if mounted is not None:
        if mounted.file_system != FILE_SYSTEM:
            raise MountPointBusy(f"{point} is where {mounted.source} is mounted", "name an empty directory")
        if not is_dead(point):
            raise MountPointBusy(
                f"{mounted.source} is already mounted on {point}", f"unmount it first: jobfs umount {point}"
            )
        detach(point, lazy=True)
    try:
        with os.scandir(point) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError:
        raise MountPointBusy(f"there is no directory {point}", f"make it first: mkdir -p {point}") from None
    except NotADirectoryError:
        raise MountPointBusy(f"{point} is not a directory", "name a directory to mount on") from None
    except OSError as error:
        raise MountPointBusy(f"{point} cannot be used: {error.strerror}", "name another directory") from error
    if not is_empty:
        raise MountPointBusy(
            f"{point} is not empty", "name an empty directory: what is in it would be hidden by the mount"
        )


def _check_device() -> None:
    try:
        mode = DEVICE.stat().st_mode
    except OSError as error:
        raise FuseUnavailable(
            f"{DEVICE} cannot be used: {error.strerror}", "load the kernel's fuse module, or use 'jobfs sync'"
        ) from error
    if not stat.S_ISCHR(mode):
        raise FuseUnavailable(f"{DEVICE} is not a device", "load the kernel's fuse module, or use 'jobfs sync'")


def _attach_directly(point: Path, options: MountOptions) -> int:
    try:
        descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise FuseUnavailable(
            f"{DEVICE} cannot be opened: {error.strerror}", "give this user access to it, or use 'jobfs sync'"
        ) from error
    data = f"fd={descriptor},rootmode=40000,user_id={options.uid},group_id={options.gid},default_permissions"
    data += ",allow_other" if options.allow_other else ""
    flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if options.read_only else 0)
    try:
        _libc_call("mount", options.name.encode(), os.fsencode(point), FILE_SYSTEM.encode(), flags, data.encode())
    except OSError as error:
        os.close(descriptor)
        kind = FuseUnavailable if error.errno in (errno.ENODEV, errno.EPERM) else MountError
        cause = f"{point} cannot be mounted: {error.strerror}"
        raise kind(cause, "use 'jobfs sync' where mounting is forbidden") from error
    return descriptor


def check_access(device: Path) -> None:
    """Tell whether a helper failed since this user may not have FUSE: it opens the device as the user.

    :raises FuseUnavailable:
    """
    if not os.access(device, os.R_OK | os.W_OK):
        raise FuseUnavailable(f"{device} may not be opened", f"chmod 666 {device} as root, or use 'jobfs sync'")


def _attach_through_helper(point: Path, options: MountOptions) -> int:
    helper = shutil.which(_HELPER)
    if helper is None:
        raise FuseUnavailable(f"{_HELPER} is not installed", "install the package fuse3, or use 'jobfs sync'")
    name = options.name.replace("\\", "\\\\").replace(",", "\\,")
    words = ["ro" if options.read_only else "rw", "nosuid", "nodev", "default_permissions"]
    words += [f"fsname={name}", f"subtype={_SUBTYPE}", *(["allow_other"] if options.allow_other else [])]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        result = subprocess.run(
            [helper, "-o", ",".join(words), "--", str(point)],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_HELPER_DEADLINE_S,
            check=False,
        )
        if result.returncode != 0:
            check_access(DEVICE)
            raise MountError(_said(result.stderr) or f"{point} cannot be mounted", "see fusermount3(1), /etc/fuse.conf")
        return _received_descriptor(ours)


def _received_descriptor(sender: socket.socket) -> int:
    fds = array.array("i")
    _, ancillary, _, _ = sender.recvmsg(1, socket.CMSG_LEN(fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: fds.itemsize])
            return fds[0]
    raise MountError(f"{_HELPER} mounted, but passed no descriptor", "update the package fuse3")


# -- ending


def detach(point: Path, *, lazy: bool = False) -> None:
    """Unmount.

    :param lazy: take the mount out of sight even while programs use it.
    :raises MountPointBusy: programs use it. :raises MountError: it cannot be unmounted for another reason.
    """
    if os.geteuid() == 0:
        _detach_directly(point, lazy)
    else:
        _detach_through_helper(point, lazy)


def _detach_directly(point: Path, lazy: bool) -> None:
    try:
        _libc_call("umount2", os.fsencode(point), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0))
    except OSError as error:
        _refuse_detach(point, error.errno == errno.EBUSY, error.strerror or "")


def _detach_through_helper(point: Path, lazy: bool) -> None:
    helper = shutil.which(_HELPER)
    if helper is None:
        raise FuseUnavailable(f"{_HELPER} is not installed", "install the package fuse3")
    result = subprocess.run(
        [helper, "-u", *(["-z"] if lazy else []), "--", str(point)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_HELPER_DEADLINE_S,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if result.returncode != 0:
        said = _said(result.stderr)
        _refuse_detach(point, "busy" in said, said)


def take_away(point: Path) -> None:
    """Unmount even while programs use the mount: whatever they still ask is ENOTCONN. For who cannot close the device.

    :raises MountPointBusy: this user cannot have that. :raises MountError: it cannot be unmounted.
    """
    mounted = mount_at(point)
    if mounted is None:
        return
    if os.geteuid() == 0:
        with suppress(OSError):  # EBUSY: its connection has ended all the same
            _libc_call("umount2", os.fsencode(point), _UMOUNT_NOFOLLOW | _MNT_FORCE)
    else:
        connection = CONNECTIONS / mounted.device.rpartition(":")[2]
        try:
            (connection / "abort").write_text("1", encoding="ascii")
        except OSError as error:
            raise MountPointBusy(
                f"programs still use {point}, and {connection} cannot be used: {error.strerror}", "end them first"
            ) from error
    if mount_at(point) == mounted:
        detach(point, lazy=True)


def _refuse_detach(point: Path, is_busy: bool, said: str) -> None:
    if is_busy:
        raise MountPointBusy(f"programs still use {point}", f"end them; 'fuser -vm {point}' lists them")
    raise MountError(f"{point} cannot be unmounted: {said}", f"see whether it is mounted: findmnt {point}")


def _said(stderr: bytes) -> str:
    return stderr.decode("utf-8", "replace").strip().replace("\n", "; ")


def _libc_call(name: str, *arguments: bytes | int) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.argtypes = [ctypes.c_char_p if isinstance(value, bytes) else ctypes.c_ulong for value in arguments]
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# -- tuning


def allow_read_ahead(point: Path, size: int) -> bool:
    """Let the kernel read this many bytes ahead in a mount; return whether it was allowed (as root it is, as a rule).

    Without this a reader of a large file is served 128 KiB at a time, whatever INIT settled.
    """
    mounted = mount_at(point)
    if mounted is None:
        return False
    try:
        Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb").write_text(str(size >> 10), encoding="ascii")
    except OSError:
        return False
    return True

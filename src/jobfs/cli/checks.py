"""What of this machine jobfs needs, each looked at by itself: for ``jobfs doctor``.

A check changes nothing, asks nobody on the network, and never fails: what it could not find out is a finding as well.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path

from jobfs import __version__
from jobfs.cli.device import FUSE_DEVICE
from jobfs.cli.terminal import human_size
from jobfs.workspace.settings import config_directory
from jobfs.workspace.states import state_root

_OLDEST_KERNEL = (5, 4)
"""FUSE 7.31, the oldest version of the protocol that the native transport speaks."""

_LEAST_FREE_BYTES = 100 << 20
_LITTLE_FREE_BYTES = 1 << 30
_FEW_WATCHES = 65_536
_FEW_INSTANCES = 128
_FEW_DESCRIPTORS = 1024
_INOTIFY = Path("/proc/sys/fs/inotify")


@unique
class Verdict(Enum):
    """How something was found."""

    OK = "ok"
    NOTE = "note"
    """Something does not work that not everybody needs."""
    WARNING = "warning"
    """It works, and will make trouble."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    :param what: what was looked at. :param detail: what was found.
    :param remedy: what the user can do; empty where nothing has to be done.
    """

    what: str
    verdict: Verdict
    detail: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """Return it for programs."""
        return {"what": self.what, "verdict": self.verdict.value, "detail": self.detail, "remedy": self.remedy}


def machine_findings(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield what is found on this machine."""
    yield Finding("version", Verdict.OK, f"jobfs {__version__}, Python {platform.python_version()}, {_system()}")
    if sys.platform == "linux":
        yield check_device(Path(environment.get(FUSE_DEVICE, "/dev/fuse")))
        yield check_kernel(platform.release())
        yield check_helper(shutil.which("fusermount3"), is_root=os.geteuid() == 0)
        yield check_allow_other(Path("/etc/fuse.conf"), is_root=os.geteuid() == 0)
        yield from check_inotify(_INOTIFY)
    if sys.platform != "win32":
        yield check_library(ctypes.util.find_library, is_linux=sys.platform == "linux")
        yield check_descriptors()
    yield check_folder("settings folder", config_directory(environment))
    yield check_folder("state folder", state_root(environment))
    yield check_space(state_root(environment))


def _system() -> str:
    return f"{platform.system()} {platform.release()} ({platform.machine()})"


# -- mounts


def check_device(device: Path) -> Finding:
    """Look whether this user may speak FUSE."""
    sync = "or use 'jobfs sync', which needs no FUSE"
    try:
        if not stat.S_ISCHR(device.stat().st_mode):
            return Finding("FUSE", Verdict.FAILED, f"{device} is no device", f"load the kernel module fuse, {sync}")
        os.close(os.open(device, os.O_RDWR))
    except FileNotFoundError:
        remedy = f"load the kernel module fuse (in a container: give it the device {device}), {sync}"
        return Finding("FUSE", Verdict.FAILED, f"there is no {device}", remedy)
    except PermissionError:
        return Finding("FUSE", Verdict.FAILED, f"{device} may not be opened", f"chmod 666 {device} as root, {sync}")
    except OSError as error:
        return Finding("FUSE", Verdict.FAILED, f"{device}: {error.strerror}", f"load the kernel module fuse, {sync}")
    return Finding("FUSE", Verdict.OK, f"{device} can be opened")


def check_kernel(release: str) -> Finding:
    """Look whether the kernel is new enough for the native transport.

    :param release: as ``uname -r`` says it.
    """
    numbers = re.match(r"(\d+)\.(\d+)", release)
    wanted = ".".join(map(str, _OLDEST_KERNEL))
    if numbers is None:
        return Finding("kernel", Verdict.NOTE, f"{release!r} is not understood", f"mounts need Linux {wanted}")
    if (int(numbers[1]), int(numbers[2])) < _OLDEST_KERNEL:
        remedy = "mount with --transport fusepy"
        return Finding("kernel", Verdict.WARNING, f"{release} is older than {wanted}", remedy)
    return Finding("kernel", Verdict.OK, f"{release} has what the native transport needs")


def check_helper(path: str | None, *, is_root: bool) -> Finding:
    """Look for the program with whose help ordinary users mount."""
    if path is None:
        verdict = Verdict.NOTE if is_root else Verdict.FAILED
        who = "; root does not need it" if is_root else ""
        return Finding("fusermount3", verdict, f"not installed{who}", "install the package fuse3")
    if not is_root and not Path(path).stat().st_mode & stat.S_ISUID:
        detail = f"{path} does not run as root"
        return Finding("fusermount3", Verdict.FAILED, detail, f"chmod u+s {path} as root, or install fuse3 anew")
    return Finding("fusermount3", Verdict.OK, path)


def check_library(find: Callable[[str], str | None], *, is_linux: bool) -> Finding:
    """Look for the library of the portable transport, which is the only one on other systems than Linux.

    :param find: finds a library by name.
    """
    found = find("fuse3") or find("fuse-t") or find("fuse")
    if found:
        return Finding("libfuse", Verdict.OK, f"{found}, for --transport fusepy")
    if is_linux:
        return Finding("libfuse", Verdict.NOTE, "not installed; only --transport fusepy needs it", "install libfuse3")
    return Finding("libfuse", Verdict.FAILED, "not installed", "install macFUSE or FUSE-T, or use 'jobfs sync'")


def check_allow_other(path: Path, *, is_root: bool) -> Finding:
    """Look whether a mount may be opened to other users."""
    what = "--allow-other"
    if is_root:
        return Finding(what, Verdict.OK, "root may use it")
    try:
        words = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        words = []
    if "user_allow_other" in words:
        return Finding(what, Verdict.OK, f"{path} allows it")
    return Finding(what, Verdict.NOTE, f"{path} does not allow it", f"write the line user_allow_other into {path}")


# -- folders


def check_inotify(folder: Path) -> Iterator[Finding]:
    """Look how many directories ``jobfs sync`` can watch, and how many such programs may run.

    :param folder: where the kernel tells its limits.
    """
    for name, few in (("max_user_watches", _FEW_WATCHES), ("max_user_instances", _FEW_INSTANCES)):
        try:
            limit = int((folder / name).read_text())
        except (OSError, ValueError):
            yield Finding(f"inotify {name}", Verdict.NOTE, "unknown", "folders may be scanned every 5 s instead")
            continue
        if limit < few:
            remedy = f"sysctl fs.inotify.{name}={few * 8} as root; folders are scanned every 5 s otherwise"
            yield Finding(f"inotify {name}", Verdict.WARNING, f"{limit} is few", remedy)
        else:
            yield Finding(f"inotify {name}", Verdict.OK, str(limit))


def check_folder(what: str, path: Path) -> Finding:
    """Look whether a folder of jobfs can be used, and by nobody else."""
    above = path
    while not above.exists() and above != above.parent:
        above = above.parent
    if not os.access(above, os.W_OK | os.X_OK) or not above.is_dir():
        return Finding(what, Verdict.FAILED, f"{above} cannot be written", f"make {path} and own it")
    if above != path:
        return Finding(what, Verdict.OK, f"{path}, made when it is needed")
    if sys.platform != "win32" and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Finding(what, Verdict.WARNING, f"others can write to {path}", f"chmod 700 {path}")
    return Finding(what, Verdict.OK, str(path))


def check_space(path: Path) -> Finding:
    """Look how much room there is for what is kept here."""
    above = path
    while not above.exists() and above != above.parent:
        above = above.parent
    free = shutil.disk_usage(above).free
    detail = f"{human_size(free)} free for {path}"
    if free < _LEAST_FREE_BYTES:
        return Finding("disk", Verdict.FAILED, detail, "free some space, or move the state: JOBFS_STATE_DIR")
    if free < _LITTLE_FREE_BYTES:
        return Finding("disk", Verdict.WARNING, detail, "free some space, or mount with --cache-size")
    return Finding("disk", Verdict.OK, detail)


def check_descriptors() -> Finding:
    """Look how many files one process may have open."""
    import resource  # POSIX only

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _FEW_DESCRIPTORS:
        return Finding("open files", Verdict.WARNING, f"{soft} at once", f"ulimit -n {_FEW_DESCRIPTORS * 4}")
    return Finding("open files", Verdict.OK, "any number" if soft < 0 else f"{soft} at once")

"""Who watches a mount: the inotify watches of the processes that this one may look at.

The kernel has no list of them by file system. But ``/proc/PID/fdinfo`` of an inotify descriptor names device and inode
of each of its watches (proc_pid_fdinfo(5)). What is seen are the processes of the same user, for root those of all, in
this pid namespace and those below it. Without ``--allow-other`` nobody else can use the mount.

Blocks for as long as reading ``/proc`` takes: call it from a thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_INOTIFY = "anon_inode:inotify"


def watched_inodes(device: int) -> set[int]:
    """Return the inode numbers that somebody watches on a device.

    :param device: as in ``st_dev``.
    """
    marker = b" sdev:%x " % _in_kernel(device)
    pattern = re.compile(rb"^inotify wd:[0-9a-f]+ ino:([0-9a-f]+)" + marker, re.MULTILINE)
    found: set[int] = set()
    for text in _inotify_infos():
        if marker in text:  # of a hundred thousand watches elsewhere, the pattern would try each
            found.update(int(inode, 16) for inode in pattern.findall(text))
    return found


def _in_kernel(device: int) -> int:
    """Return a device number as the kernel itself has it: 12 bits of major, 20 of minor."""
    return os.major(device) << 20 | os.minor(device)


def _inotify_infos() -> Iterator[bytes]:
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdecimal():
                yield from _infos_of(entry.name)


def _infos_of(process: str) -> Iterator[bytes]:
    """Yield what is said of each inotify descriptor of a process; nothing of one that is gone, or not ours to see."""
    try:
        folder = os.open(f"/proc/{process}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if os.readlink(entry.name, dir_fd=folder) == _INOTIFY:
                        yield Path(f"/proc/{process}/fdinfo/{entry.name}").read_bytes()
                except OSError:
                    continue  # closed meanwhile
    except OSError:
        return  # the process ended meanwhile
    finally:
        os.close(folder)

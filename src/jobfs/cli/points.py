"""Mount points, as the commands see them: whether something of ours is there, and whether something could be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jobfs.errors import MountPointBusy
from jobfs.fuse.mounting import FILE_SYSTEM, mount_at


def is_mounted(point: Path) -> bool:
    """Tell whether a jobfs mount is at a place, living or dead."""
    if sys.platform != "linux":
        return os.path.ismount(point)
    mounted = mount_at(point)
    return mounted is not None and mounted.file_system == FILE_SYSTEM


def check_mount_point(point: Path) -> None:
    """Refuse a directory that nothing can be mounted on, before the server is asked.

    Whether it is empty is asked by the transport; here a folder that was kept in step before may be full.

    :raises MountPointBusy:
    """
    if is_mounted(point):
        return  # a dead mount is taken away, a living one refused, by the transport
    try:
        os.scandir(point).close()
    except FileNotFoundError:
        raise MountPointBusy(f"there is no directory {point}", f"make it first: mkdir -p {point}") from None
    except NotADirectoryError:
        raise MountPointBusy(f"{point} is no directory", "name an empty directory") from None
    except OSError as error:
        raise MountPointBusy(f"{point} cannot be used: {error.strerror}", "name another directory") from None

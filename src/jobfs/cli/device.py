"""Whether FUSE can be used on this machine, as far as that shows beforehand."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

from jobfs.errors import FuseUnavailable

FUSE_DEVICE = "JOBFS_FUSE_DEVICE"
"""Environment variable: the device by whose presence FUSE is judged; for tests and for unusual systems."""


def check_fuse(transport: str) -> None:
    """Say why FUSE cannot be used here, before anything is started.

    :raises FuseUnavailable:
    """
    remedy = "see 'jobfs sync' for a folder without FUSE"
    if sys.platform == "win32":
        raise FuseUnavailable("Windows has no FUSE", remedy)
    if sys.platform != "linux":
        return  # libfuse says so itself when it is loaded
    device = Path(os.environ.get(FUSE_DEVICE, "/dev/fuse"))
    try:
        is_device = stat.S_ISCHR(device.stat().st_mode)
    except OSError as error:
        raise FuseUnavailable(f"FUSE cannot be used: {device}: {error.strerror}", remedy) from None
    if not is_device:
        raise FuseUnavailable(f"FUSE cannot be used: {device} is no device", remedy)
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise FuseUnavailable("FUSE cannot be used: fusermount3 is not installed", f"install fuse3, or {remedy}")

"""What a mount is asked for, whichever transport serves it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum, unique


@unique
class Wake(Enum):
    """Whether programs that watch the mount are told of remote changes."""

    AUTO = "auto"
    """Those whose watches can be found."""

    ON = "on"
    """Whoever watches, found or not."""

    OFF = "off"


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The options of one mount.

    :param name: what the mount table shows as the source, such as ``jobfs#JOB``; no newline, no NUL.
    :param read_only: the kernel refuses every change with EROFS.
    :param allow_other: other users may use the mount; as an ordinary user only where /etc/fuse.conf permits it.
    :param wake: see ``wakes``; the portable transport cannot.
    :param uid, gid: whom everything in the mount belongs to.
    """

    name: str
    read_only: bool = False
    allow_other: bool = False
    wake: Wake = Wake.AUTO
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)

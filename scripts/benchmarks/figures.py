"""What is measured, in which words, and what it should come to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique


@unique
class Part(Enum):
    """Where a figure belongs: the server on this machine, beside the plain disk; or behind a link."""

    NEAR = "near"
    FAR = "far"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing, in seconds unless ``unit`` says otherwise; less is better.

    :param target: the most that it should be for the native transport: near, times the plain disk; far, itself.
    """

    key: str
    title: str
    target: float | None = None
    unit: str = "s"


MIB = 1 << 20
MANY, BIG_BYTES = 10_000, 256 * MIB
SMALL_BYTES = 4096

NEAR = (
    Figure("find", "find, 10,000 files, warm", 1.3),
    Figure("stat", "find with the size of each, 10,000 files, warm"),
    Figure("cat", "cat of 10,000 files of 4 KiB, warm", 5.0),
    Figure("reread", "cat of a file of 256 MiB, warm", 1 / 0.9),
    Figure("untar", "untar of 1,000 files of 4 KiB", 4.0),
    Figure("untar-there", "the same, until all is on the server"),
    Figure("rename-there", "rename of that directory, until on the server"),
    Figure("rm", "rm -r of it"),
    Figure("rm-there", "the same, until on the server"),
    Figure("write", "write of 256 MiB", 3.0),
    Figure("write-there", "the same, until all is on the server"),
    Figure("save-there", "save over a file, until on the server"),
    Figure("clone", "git clone of 500 files"),
    Figure("status", "git status in it"),
)

FAR = (
    Figure("mount", "mount, first time, with 10,000 items"),
    Figure("mount-small", "mount, first time, with 1,000 items", 0.3),
    Figure("mount-again", "mount from the stored tree", 0.2),
    Figure("ls", "ls -lR of 10,000 files, cold", 0.6),
    Figure("cat", "cat of 500 files of 4 KiB, cold", 1.2),
    Figure("cat-8", "the same by 8 readers", 0.8),
    Figure("first", "first 64 KiB of a file of 256 MiB, cold", 0.06),
    Figure("whole", "all of it, cold", 1.1),
    Figure("random", "100 reads of 4 KiB anywhere in it, cold", 1.2),
    Figure("untar", "untar of 1,000 files of 4 KiB", 0.6),
    Figure("untar-there", "the same, until all is on the server", 2.5),
    Figure("rename-there", "rename of that directory, until on the server", 0.09),
    Figure("rm", "rm -r of it", 0.5),
    Figure("rm-there", "the same, until on the server"),
    Figure("write", "write of 256 MiB"),
    Figure("write-there", "the same, until all is on the server", 2.3),
    Figure("save-there", "save over a file, until on the server", 0.11),
    Figure("clone", "git clone of 500 files", 1.5),
    Figure("status", "git status in it", 0.05),
    Figure("resident", "memory after all of this", 120.0, "MiB"),
)

FIGURES = {Part.NEAR: NEAR, Part.FAR: FAR}

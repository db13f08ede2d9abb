"""Take secrets out of the block of environment variables that this process began with.

The kernel shows that block to other processes of the user (``/proc/PID/environ``) for as long as the process runs, and
to the end of its branches, whatever becomes of the variables. ``os.environ`` is a copy, and keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_SELF = "/proc/self"
_START_FIELD = 47
"""Where the block is in memory: of the fields that follow the program's name (proc(5): env_start)."""


def wiped(names: Sequence[str], process: str = _SELF) -> bool:
    """Overwrite the values of variables in the block; return whether none of them is left there.

    :param names: of the variables. Our children do not inherit their values any more, unless they are told to.
    :param process: where the system shows this process; no such place is no success.
    """
    block = f"{process}/environ"
    try:
        values = list(_values(block, names))
        if not values:
            return True
        with open(f"{process}/stat", "rb") as stat:  # noqa: PTH123  (pathlib takes longer to load than all of this)
            start = int(stat.read().rpartition(b")")[2].split()[_START_FIELD])
        with open(f"{process}/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
            for at, value in values:
                memory.seek(start + at)
                if memory.read(len(value)) != value:
                    return False  # it is elsewhere
                memory.seek(start + at)
                memory.write(bytes(len(value)))
        return not list(_values(block, names))
    except (OSError, ValueError, IndexError):  # no such files, or not ours to write
        return False


def _values(place: str, names: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Yield where in the block the values of variables begin, and what they are; those that are not empty."""
    with open(place, "rb") as file:  # noqa: PTH123
        block = file.read()
    starts = tuple(f"{name}=".encode() for name in names)
    at = 0
    for entry in block.split(b"\0"):
        if entry.startswith(starts):
            name, _, value = entry.partition(b"=")
            if value:
                yield at + len(name) + 1, value
        at += len(entry) + 1

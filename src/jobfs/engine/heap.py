"""Very many objects that stay: what they cost a process beyond their size.

Python's cyclic collector looks at all objects each time their number has grown by a quarter, and a round over the
millions of a large workspace stops everything for a third of a second. The entries of trees are in no cycle, so nothing
is lost where it leaves them out. And the allocator keeps what the making of them took, half as much again.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MANY = 10_000
"""From so many objects on it pays."""

_under_way = 0


@contextmanager
def growing(count: int) -> Iterator[None]:
    """Let the collector rest while the block makes so many objects that stay, and leave them out of its rounds then.

    Blocks may overlap. Where the C library can, what is free is given back to the system.
    """
    global _under_way
    if count < MANY or (_under_way == 0 and not gc.isenabled()):
        yield
        return
    _under_way += 1
    gc.disable()
    try:
        yield
    finally:
        _under_way -= 1
        if _under_way == 0:
            gc.freeze()
            gc.enable()
            _give_back(0)


def _find_trim() -> Callable[[int], object]:
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library than that of GNU
        return bool
    return trim


_give_back = _find_trim()

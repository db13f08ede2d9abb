"""Begin a process that will serve in the background. ``starting`` gives it its order, ``daemon`` is what it runs.

It takes its time to load, and so does the command. So that they do it side by side, the process is begun as soon as the
words of the command line say that there will be an order; where none comes its standard input ends, and so does it.

On Linux it branches off the command, by a fork before anything is loaded: there is no second interpreter to wait for,
and no thread, lock or event loop to inherit. What it may not keep is a key in the block of its environment, which other
processes of the user can read for as long as it runs: ``wiping`` takes it out. Where that cannot be done, where there
are threads already, and on other systems, it is a new interpreter (``spawning``).

This module itself loads little, for it comes before everything else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from jobfs.cli.loading import load
from jobfs.cli.process import Process
from jobfs.cli.wiping import wiped
from jobfs.cli.words import chosen_in
from jobfs.workspace.variables import SECRET_VARIABLES

_HELP = {"-h", "--help"}

_ahead: ContextVar[Process | None] = ContextVar("ahead", default=None)


def begin() -> Process | None:
    """Begin a process that waits for an order; None in that process, where it is a branch of this one.

    To be called before anything else is loaded or done.
    """
    return branch() if _can_branch() and wiped(SECRET_VARIABLES) else launch()


@contextmanager
def ahead(process: Process | None) -> Iterator[None]:
    """Keep a process ready while a command line is read and run, for the order that it will probably give.

    :param process: None where no order is expected.
    """
    token = _ahead.set(process)
    try:
        yield
    finally:
        if process is not None and _ahead.get() is process:
            process.let_go()
        _ahead.reset(token)


def take() -> Process:
    """Return a process that waits for its order: the one that is ahead, or a new one."""
    process = _ahead.get()
    _ahead.set(None)
    return process or launch()


def launch() -> Process:
    """Begin a process as a new interpreter. It does nothing before it has its order."""
    process: Process = load("spawning").launch()
    return process


def branch() -> Process | None:
    """Begin a process as a branch of this one, in a session of its own; None in the branch."""
    orders, answers, complaints = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        _begin_anew(orders[0], answers[1], complaints[1])
        return None
    for end in (orders[0], answers[1], complaints[1]):
        os.close(end)
    return Process(pid, os.fdopen(orders[1], "wb"), os.fdopen(answers[0], "rb"), os.fdopen(complaints[0], "rb"))


def will_order(words: Sequence[str]) -> bool:
    """Tell what is most probable: nobody has checked the words yet, and to be wrong costs only some time.

    :param words: the command line, without the program's name.
    """
    command, given = chosen_in(words), set(words)
    if given & _HELP:
        return False
    return "--background" in given if command == "sync" else command == "mount" and "--foreground" not in given


def _can_branch() -> bool:
    """Tell whether all of this process would be in its branch: the three standard descriptors, and no other thread."""
    is_alone = "threading" not in sys.modules or sys.modules["threading"].active_count() == 1
    return sys.platform == "linux" and is_alone and None not in (sys.stdin, sys.stdout, sys.stderr)


def _begin_anew(*standard: int) -> None:
    """Leave what a new interpreter would not have: other descriptors, keys, and modules in the current directory."""
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    # Up to the highest that is open: a limit may be a billion, which some systems go through one by one.
    highest = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208  (pathlib is not loaded yet)
    os.closerange(len(standard), highest + 1)
    for name in SECRET_VARIABLES:
        os.environ.pop(name, None)
    if not sys.flags.safe_path:
        del sys.path[:1]  # of the program, or the current directory: nothing there is meant to be a module of ours

"""Launch a process that will serve in the background. ``starting`` gives it its order, ``daemon`` is what it runs.

A new interpreter in a session of its own, and no fork: then no thread, lock or event loop is inherited, and the block
of its environment, which other processes of the user can read, never held the key.

It takes its time to load, and so does the command. So that they do it side by side, the process is launched as soon as
the words of the command line say that there will be an order (``ahead``); where none comes its standard input ends, and
so does it. This module itself loads little, for it comes before everything else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from jobfs.cli.words import chosen_in
from jobfs.workspace.variables import SECRET_VARIABLES

_MODULE = "jobfs.cli.daemon"
_HELP = {"-h", "--help"}

Process = subprocess.Popen[bytes]
_ahead: ContextVar[Process | None] = ContextVar("ahead", default=None)


@contextmanager
def ahead(words: Sequence[str]) -> Iterator[None]:
    """While a command line is read and run, have the process loading that it will give an order to, if it will.

    :param words: the command line, without the program's name.
    """
    if not will_order(words):
        yield
        return
    process = launch()
    token = _ahead.set(process)
    try:
        yield
    finally:
        if _ahead.get() is process:
            let_go(process)
        _ahead.reset(token)


def take() -> Process:
    """Return a process that waits for its order on its standard input: the one that is ahead, or a new one."""
    process = _ahead.get()
    _ahead.set(None)
    return process or launch()


def launch() -> Process:
    """Launch a process. It does nothing before it has its order."""
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    # pydantic would read what every installed package says of itself, for plugins that watch what is parsed.
    environment["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    return subprocess.Popen(
        # -P: what lies in the current directory must not be taken for a module of Python or of ours.
        [sys.executable, "-P", "-m", _MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # until its order tells it where its own complaints belong
        env=environment,
        start_new_session=True,
    )


def let_go(process: Process) -> None:
    """Close our ends of its pipes. It goes on by itself, or ends where it has no order."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    # This object must not warn that its process lives when it is collected.
    process.returncode = process.returncode if process.returncode is not None else 0


def will_order(words: Sequence[str]) -> bool:
    """Tell what is most probable: nobody has checked the words yet, and to be wrong costs only some time."""
    command, given = chosen_in(words), set(words)
    if given & _HELP:
        return False
    return "--background" in given if command == "sync" else command == "mount" and "--foreground" not in given

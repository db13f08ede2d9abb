"""The command ``jobfs``, also as ``python -m jobfs``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from jobfs.cli.launch import ahead, begin, will_order
from jobfs.cli.loading import load
from jobfs.errors import Interrupted


def main() -> None:
    """Run the command line of this process."""
    words = sys.argv[1:]
    try:
        process = None
        if will_order(words):
            process = begin()
            if process is None:
                sys.exit(load("daemon").main())
        with ahead(process):
            code: int | None = load("plain").run_words(words)
            if code is None:
                code = load("app").run_words(words)
    except KeyboardInterrupt:  # while modules are loaded; from then on the commands answer for it
        sys.stderr.write("jobfs: stopped\n")
        code = Interrupted.exit_code
    _leave(code)


def _leave(code: int) -> None:
    """End this process at once: everything is closed and said by now.

    To free object by object what the system takes back as a whole would take 60 ms after a folder of a thousand files.
    """
    with suppress(BrokenPipeError):  # whoever read our output has seen enough
        sys.stdout.flush()
    with suppress(BrokenPipeError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

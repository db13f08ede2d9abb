"""Begin a process that waits for its order as a new interpreter, in a session of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BufferedReader, BufferedWriter
from typing import cast

from jobfs.cli.process import Process
from jobfs.workspace.variables import SECRET_VARIABLES

_MODULE = "jobfs.cli.daemon"


class Spawned(Process):
    """A process that the library has begun."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(
            process.pid,
            cast(BufferedWriter, process.stdin),
            cast(BufferedReader, process.stdout),
            cast(BufferedReader, process.stderr),
        )
        self._process = process

    def wait(self) -> int:
        """Return the code with which it ends, once it has."""
        return self._process.wait()

    def terminate(self) -> None:
        """Ask it to end, unless it has."""
        self._process.terminate()

    def let_go(self) -> None:
        """Close our ends of its pipes."""
        super().let_go()
        # The library's object must not warn that its process lives when it is collected.
        self._process.returncode = self._process.returncode if self._process.returncode is not None else 0


def launch() -> Process:
    """Begin a process. It does nothing before it has its order."""
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    return Spawned(
        subprocess.Popen(
            # -P: what lies in the current directory must not be taken for a module of Python or of ours.
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # until its order tells it where its own complaints belong
            env=environment,
            start_new_session=True,
        )
    )

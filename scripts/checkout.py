"""Have a script of this folder run in the checkout's own environment, which is made where it is missing.

A script calls ``enter`` before it imports anything but the standard library, and so one line is all that a fresh clone
needs. ``scripts/setup`` makes the environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PYTHON = ROOT / ".venv" / "bin" / "python"


def enter(*folders: str) -> None:
    """Go on in the interpreter of the checkout; blocks while that is set up. In another one it does not return.

    :param folders: below the checkout, from which the script then imports.
    :raises SystemExit: it cannot be set up; ``scripts/setup`` has said why.
    """
    if Path(sys.prefix) != _PYTHON.parent.parent:
        made = subprocess.run([ROOT / "scripts" / "setup"], check=False).returncode
        if made != 0:
            raise SystemExit(made)
        os.execv(_PYTHON, [str(_PYTHON), *sys.argv])  # noqa: S606  (the libraries live there)
    sys.path[:0] = [str(ROOT / folder) for folder in folders]

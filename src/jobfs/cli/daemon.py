"""The process in the background: what ``launch`` begins. It is told what to do, and tells, through pipes.

While it loads what serves, which is ``obeying``, a thread reads the order; as soon as that is there, the connection to
its server is begun.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobfs.api import early
from jobfs.api.address import parse_base
from jobfs.cli.loading import load
from jobfs.errors import SettingsError
from jobfs.workspace.places import RUN_PREFIX
from jobfs.workspace.states import STATE_NAME, mount_state


class _Orders:
    """Reads the order.

    :ivar line: as it came; empty where none did. :ivar early: the connections that were begun for it.
    """

    def __init__(self) -> None:
        self.line = b""
        self.early: list[early.EarlyConnection] = []
        self._thread = threading.Thread(target=self._read, name="orders", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        self.line = sys.stdin.buffer.readline()
        if not self.line:
            return
        order = json.loads(self.line)
        if not order["job"].startswith(RUN_PREFIX):  # runs may be elsewhere
            with suppress(SettingsError):  # whoever connects tells what is wrong with it
                self.early = early.begin(parse_base(order["url"]), _first_requests(order))

    def wait(self) -> None:
        """Return when it is read."""
        self._thread.join()


def _first_requests(order: dict[str, Any]) -> int:
    """Return how many requests go out at once: see ``headstart``."""
    if order["kind"] != "mount":
        return 1
    state = mount_state(Path(order["state_root"]), order["url"], order["job"])
    return 1 if (state / STATE_NAME).exists() else 2


def main() -> int:
    """Serve what is ordered through the standard input; return the exit code: 0 too without an order."""
    # pydantic would read what every installed package says of itself, for plugins that watch what is parsed.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    orders = _Orders()
    obeying = load("obeying")
    orders.wait()
    if not orders.line:
        return 0
    early.expect(orders.early)
    code: int = obeying.obey(orders.line)
    return code


if __name__ == "__main__":
    sys.exit(main())

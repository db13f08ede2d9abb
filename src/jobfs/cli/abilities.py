"""What was found out about each server by ``jobfs doctor --probe``, and what a mount makes of it.

One small file for each server in the state folder. A workspace learns by itself what it needs; what was probed saves it
the asking.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from jobfs.store.state import State
from jobfs.workspace.states import key_of

USED = ("dir_move", "range")
"""The settings that a workspace takes over; the others are for the reader of the report."""


def _file(root: Path, url: str) -> Path:
    return root / "servers" / f"{key_of(url)}.json"


def remember(root: Path, url: str, found: Mapping[str, str]) -> Path:
    """Keep what was found out; return where.

    :param root: the folder of all states.
    """
    path = _file(root, url)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    value = {"url": url, "probed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "settings": dict(found)}
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def recall(root: Path, url: str) -> dict[str, str]:
    """Return what was found out; nothing where nobody has probed, or the file cannot be read."""
    try:
        value = json.loads(_file(root, url).read_text(encoding="utf-8"))
        return {str(name): str(found) for name, found in value["settings"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}


def apply(state: State, root: Path, url: str) -> None:
    """Give a workspace what was found out about its server, where it has not learnt that itself."""
    news = {name: found for name, found in recall(root, url).items() if name in USED and state.setting(name) is None}
    if news:
        with state.transaction():
            for name, found in news.items():
                state.remember(name, found)

"""``.jobfs/`` in the root of a mount: what jobfs knows of itself, as read-only files.

The directory is not listed by readdir of the root, so that copies and archives of the mount do not take it along; it
can be opened by name. A file says what was true when it was opened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from jobfs.model import Kind, NodeId
from jobfs.planner.naming import OWN_FOLDER
from jobfs.vfs.attributes import Attributes

CONTROL = NodeId((1 << 62) + 1)
"""The directory's inode number, far above those of nodes."""

CONTROL_NAME = OWN_FOLDER

Report = Callable[[], object]


class ControlDirectory:
    """The files of ``.jobfs/``.

    :param reports: what to say, asked at each open, by file name: a text is shown as it is, any other value as JSON;
        a name without an extension gets ``.json``.
    """

    def __init__(self, reports: Mapping[str, Report], now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._reports = {name if "." in name else f"{name}.json": report for name, report in sorted(reports.items())}
        self._nodes = {name: NodeId(CONTROL + 1 + at) for at, name in enumerate(self._reports)}
        self._names = {node: name for name, node in self._nodes.items()}

    def owns(self, node: NodeId) -> bool:
        """Tell whether this is the directory or one of its files."""
        return node == CONTROL or node in self._names

    def find(self, name: str) -> NodeId | None:
        """Return the node of a file, or None."""
        return self._nodes.get(name)

    def children(self) -> list[tuple[str, NodeId]]:
        """Return the files."""
        return list(self._nodes.items())

    def content(self, node: NodeId) -> bytes:
        """Return what a file says now."""
        report = self._reports[self._names[node]]()
        if isinstance(report, str):
            return report.encode("utf-8", "replace")
        return json.dumps(report, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"

    def attributes(self, node: NodeId) -> Attributes:
        """Return the stat of the directory or of a file, whose size is that of what it says now."""
        now = self._now_ns()
        if node == CONTROL:
            return Attributes(node, Kind.DIRECTORY, 0o555, 0, 1, now, now)
        return Attributes(node, Kind.FILE, 0o444, len(self.content(node)), 1, now, now)

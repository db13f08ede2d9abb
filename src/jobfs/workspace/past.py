"""The local history of one mount or folder as commands and requests see it: looked at, and brought back.

The same questions are answered by the running process, over its control socket, and by a command itself where nothing
runs (``spots``). Values are JSON, so that both look alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from jobfs.engine.restore import SEE_HISTORY, PutBack, Restorer, deleted_in, last_deleted
from jobfs.errors import HistoryError, JobfsError, NoSuchVersion
from jobfs.model import Kind, LocalNode, node_at
from jobfs.store.history import DELETIONS, Version
from jobfs.store.state import State

Told = Callable[[object], Awaitable[None]]
"""Takes the number of files that were brought back so far."""


class Past:
    """The history of one state.

    :param restorer: brings versions back.
    """

    def __init__(self, state: State, restorer: Restorer) -> None:
        self._state = state
        self._restorer = restorer

    # -- looking

    def story(self, path: str) -> dict[str, object]:
        """Return what is, and what was, at a path, the newest first.

        :raises NoSuchVersion: there is nothing, and nothing is kept.
        """
        record = self._record(path)
        is_directory = record is not None and record.kind is Kind.DIRECTORY
        found = [] if is_directory else self._of_file(path, record)
        if not found and (is_directory or record is None):
            found = self._state.versions.below(path)
            is_directory = is_directory or bool(found)
        if record is None and not found and path:
            raise NoSuchVersion(f"there is no {path}, and nothing is kept of it", "see 'jobfs history DIR' for all")
        current = record.content if record is not None else None
        return {
            "path": path,
            "isDirectory": is_directory,
            "current": None
            if record is None or current is None
            else {"size": current.size, "written": _time(record.mtime_ns), "sha256": current.sha256},
            "versions": [as_json(version) for version in reversed(found)],
        }

    def deleted(self, path: str) -> list[dict[str, object]]:
        """Return what was deleted at a path or below it, and is not there now; by path."""
        found = deleted_in([*self._state.versions.below(path), *(self._state.versions.at(path) if path else [])])
        return [as_json(version) for version in found if self._record(version.path) is None]

    def _record(self, path: str) -> LocalNode | None:
        node = node_at(self._state.local, path)
        return self._state.local.get(node) if node is not None else None

    def _of_file(self, path: str, record: LocalNode | None) -> list[Version]:
        """Return the versions of what was at a path, and of what is there now, wherever it was then."""
        found = {version.number: version for version in self._state.versions.at(path)}
        if record is not None:
            found |= {version.number: version for version in self._state.versions.of_node(record.id)}
        return [found[number] for number in sorted(found)]

    # -- bringing back

    async def restore(self, path: str, number: int, target: str) -> dict[str, object]:
        """Put a version of the file at a path to another path, or the same.

        :raises NoSuchVersion: it is none of that file. :raises HistoryError: it cannot be put there.
        """
        version = self._state.versions.get(number)
        if version is None:
            raise NoSuchVersion(f"version {number} is not kept, or no longer", SEE_HISTORY)
        if all(one.number != number for one in self._of_file(path, self._record(path))):
            raise NoSuchVersion(f"version {number} is one of {version.path}", "name that file: jobfs restore PATH")
        return _told(await self._restorer.restore(version, target))

    async def undelete(self, path: str, tell: Told) -> list[dict[str, object]]:
        """Bring back what was deleted at a path, or in a directory and in one go, last; return what became of each.

        :raises NoSuchVersion: nothing is kept of it. :raises HistoryError: the file is there, or cannot be.
        """
        record = self._record(path)
        of_file = [one for one in self._state.versions.at(path) if one.reason in DELETIONS] if path else []
        if of_file and (record is None or record.kind is not Kind.DIRECTORY):
            return [_told(await self._restorer.restore(of_file[-1], path, is_undelete=True))]
        found = last_deleted(self._state.versions.below(path))
        if not found:
            if record is not None and record.kind is not Kind.DIRECTORY:
                raise HistoryError(f"{path} is there", "see 'jobfs history PATH' for what it was")
            remedy = "see what can come back: jobfs undelete --list DIR"
            raise NoSuchVersion(f"nothing that was deleted is kept of {path or 'this workspace'}", remedy)
        became = []
        for count, version in enumerate(found, 1):
            became.append(await self._undelete_one(version))
            await tell(count)
        return became

    async def _undelete_one(self, version: Version) -> dict[str, object]:
        if self._record(version.path) is not None:
            return {**as_json(version), "isChanged": False}
        try:
            return _told(await self._restorer.restore(version, version.path, is_undelete=True))
        except HistoryError as error:
            return {**as_json(version), "isChanged": False, "cause": error.cause, "remedy": error.remedy}


def _told(put: PutBack) -> dict[str, object]:
    return {**as_json(put.version), "path": put.path, "isChanged": put.is_changed}


def as_json(version: Version) -> dict[str, object]:
    """Return a version for programs; times in UTC."""
    return {
        "version": version.number,
        "path": version.path,
        "size": version.content.size,
        "sha256": version.content.sha256,
        "written": _time(version.mtime_ns),
        "reason": str(version.reason),
        "at": _time(version.at_ns),
    }


def _time(ns: int) -> str | None:
    return datetime.fromtimestamp(ns // 10**9, UTC).isoformat().replace("+00:00", "Z") if ns else None


async def answer(past: Past, request: Mapping[str, Any], tell: Told) -> Any:
    """Answer a request.

    :raises JobfsError: what was asked for could not be done.
    """
    path = str(request["path"])
    match request["what"]:
        case "story":
            return past.story(path)
        case "deleted":
            return past.deleted(path)
        case "restore":
            return await past.restore(path, int(request["version"]), str(request["target"]))
        case "undelete":
            return await past.undelete(path, tell)
        case other:
            raise JobfsError(f"this version of jobfs knows no {other!r}", "use the same version everywhere")

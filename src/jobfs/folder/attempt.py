"""What becomes of a change that the real folder, or the server, did not take: every way to fail, in one place.

Nothing here raises for an expected failure: it is told to the observer, for one node, with the moment at which trying
again can help.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from jobfs.engine.landing import BadContent
from jobfs.engine.transfer import RevisionGone
from jobfs.engine.workspace import Workspace
from jobfs.errors import InvalidPath, JobfsError, Refused, StateError, StateFull
from jobfs.folder.disk import Disk, reason_of, trouble_of
from jobfs.folder.report import SyncEvent
from jobfs.model import Kind, NodeId, Problem, Trouble

_log = logging.getLogger(__name__)

_BAD_NAMES = frozenset({errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_MOST_GONE = 5
"""So often in a row a file is looked for in the next listing where the server has another version than it listed."""


class Changed(Exception):
    """A place is not as recorded: it is looked at, and then its node is planned again."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


class Outdated(Exception):
    """The record is not what the plan was made from: the node is planned again at once."""


class Homeless(Exception):
    """The directory that the node is to be in is not here."""

    def __init__(self, directory: NodeId) -> None:
        super().__init__(directory)
        self.directory = directory


class Blocked(Exception):
    """Something that cannot be kept in step is in the way."""

    def __init__(self, place: str, trouble: Trouble, detail: str) -> None:
        super().__init__(detail)
        self.place = place
        self.trouble = trouble
        self.detail = detail


EXPECTED = (Changed, Outdated, Homeless, Blocked, JobfsError, OSError)
"""What ``Attempts.fail`` takes."""


class Observer(Protocol):
    """Who wants to know how the application of a change ended: the side."""

    def revisit(self, place: str, node: NodeId) -> None:
        """The place must be scanned, and the node planned again when that has settled what is there."""

    def blocked(self, place: str, problem: Problem) -> None:
        """The place cannot be changed; the problem's node is planned again when a scan finds something else there."""

    def homeless(self, node: NodeId, directory: NodeId) -> None:
        """The node's directory could not be made here; the node is planned again along with it."""

    def postponed(self, node: NodeId, error: JobfsError) -> None:
        """The server or the disk did not serve; the node is planned again after a pause."""

    def outdated(self, node: NodeId) -> None:
        """The server has another version by now; the node is planned again after the next listing."""

    def done(self, event: SyncEvent) -> None:
        """Something was changed."""


class Attempts:
    """Tries changes of single nodes."""

    def __init__(self, workspace: Workspace, disk: Disk, observer: Observer) -> None:
        self._workspace = workspace
        self._disk = disk
        self._observer = observer
        self._gone: Counter[NodeId] = Counter()

    def run(self, node: NodeId, place: str, action: Callable[[], set[NodeId]]) -> set[NodeId]:
        """Do something for a node at a place; return the nodes to plan again now."""
        try:
            touched = action()
        except EXPECTED as error:
            return self.fail(node, place, error)
        self._gone.pop(node, None)
        return touched

    def fail(self, node: NodeId, place: str, error: Exception) -> set[NodeId]:
        """Tell the observer what a failure means; return the nodes to plan again now.

        :raises Exception: the failure itself, where it is none of those that are to be expected.
        """
        _log.info("node %d at %r was not changed: %s", node, place, error)
        match error:
            case Outdated():
                return {node}
            case Changed(place=other):
                self._observer.revisit(other, node)
            case Homeless(directory=directory):
                self._observer.homeless(node, directory)
            case Blocked(place=other, trouble=trouble, detail=detail):
                self._observer.blocked(other, Problem(node, other, trouble, detail))
            case RevisionGone():
                self._not_as_listed(node, place)
            case StateError():
                self._observer.postponed(node, error)
                self._observer.revisit(place, node)  # the disk may be ahead of the record
            case InvalidPath():
                self._observer.blocked(place, Problem(node, place, Trouble.INVALID_NAME, error.cause))
            case Refused() | BadContent():
                self._observer.blocked(place, Problem(node, place, Trouble.REFUSED, error.cause))
            case JobfsError():
                self._observer.postponed(node, error)
            case FileExistsError():
                self._occupied(node, place)
            case FileNotFoundError() | NotADirectoryError():
                self._observer.revisit(place, node)
            case OSError():
                self._disk_failed(node, place, error)
            case _:
                raise error
        return set()

    def _not_as_listed(self, node: NodeId, place: str) -> None:
        """Have the node planned after the next listing; not for ever, where the list and the file never agree."""
        self._gone[node] += 1
        if self._gone[node] < _MOST_GONE:
            self._observer.outdated(node)
            return
        del self._gone[node]
        detail = "the server time and again lists another version than it has"
        self._observer.blocked(place, Problem(node, place, Trouble.REFUSED, detail))

    def _occupied(self, node: NodeId, place: str) -> None:
        """Something stands where the node is to be: a scan will take it in, unless it cannot be taken in."""
        try:
            seen = self._disk.look(place)
        except OSError as error:
            self._disk_failed(node, place, error)
            return
        if seen is not None and (trouble := trouble_of(place.rpartition("/")[2], seen)) is not None:
            self._observer.blocked(place, Problem(node, place, *trouble))
        elif seen is not None and self._workspace.ignore.is_ignored(place, seen.kind is Kind.DIRECTORY):
            detail = "what the ignore rules keep here is in the way; move it, or change the rules"
            self._observer.blocked(place, Problem(node, place, Trouble.KIND_COLLISION, detail))
        else:
            self._observer.revisit(place, node)

    def _disk_failed(self, node: NodeId, place: str, error: OSError) -> None:
        if error.errno in _FULL:
            full = StateFull("no space left in the folder", "free some disk space; it goes on by itself")
            self._observer.postponed(node, full)
            return
        reason = reason_of(error)
        if error.errno in _BAD_NAMES:
            trouble, detail = Trouble.INVALID_NAME, f"cannot exist here under this name ({reason}); rename it"
        else:
            trouble, detail = Trouble.UNREADABLE, f"cannot be written here ({reason})"
        self._observer.blocked(place, Problem(node, place, trouble, detail))

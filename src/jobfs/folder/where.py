"""Where recorded nodes are on the disk, checked: no place is handed out whose directory is not really there."""

from __future__ import annotations

from jobfs.engine.workspace import Workspace
from jobfs.folder.attempt import Blocked, Changed, Homeless, Outdated
from jobfs.folder.disk import Disk, Seen
from jobfs.folder.names import folded
from jobfs.model import LocalNode, NodeId, Trouble, path_of


class Where:
    """The record and the disk, side by side."""

    def __init__(self, workspace: Workspace, disk: Disk) -> None:
        self._local = workspace.state.local
        self._disk = disk

    def present(self, node: NodeId) -> LocalNode:
        """Return a node's record.

        :raises Outdated: it is gone.
        """
        record = self._local.get(node)
        if record is None:
            raise Outdated
        return record

    def own(self, record: LocalNode) -> str:
        """Return the place of a recorded node.

        :raises Changed: its directory is not there, or is a link.
        """
        place = path_of(self._local, record.id)
        if place is None:
            raise Outdated
        self._check_directory(place.rpartition("/")[0])
        return place

    def target(self, parent: NodeId, name: str, node: NodeId) -> str:
        """Return the place that a node is to get in a directory.

        :raises Homeless: the directory was not made here.
        :raises Changed: the directory is not there, or the record still has something else at the place.
        :raises Blocked: this file system cannot hold the name, or takes it for a neighbour's.
        """
        if self._local.get(parent) is None:
            raise Homeless(parent)
        place = self.below(parent, name)
        if reason := self._disk.why_not(name):
            raise Blocked(place, Trouble.INVALID_NAME, f"cannot exist here: {reason}; rename it")
        self._check_directory(place.rpartition("/")[0])
        if self._local.child(parent, name) not in (None, node):
            raise Changed(place)
        if self._disk.folds_names:
            self._refuse_twin(parent, name, node, place)
        return place

    def below(self, parent: NodeId, name: str) -> str:
        """Return a place in a directory, unchecked."""
        above = path_of(self._local, parent)
        return f"{above}/{name}" if above else name

    def look(self, place: str) -> Seen:
        """Look at a place where something is.

        :raises Changed: nothing is.
        """
        seen = self._disk.look(place)
        if seen is None:
            raise Changed(place)
        return seen

    def _check_directory(self, place: str) -> None:
        if not self._disk.is_real(place):
            raise Changed(place)

    def _refuse_twin(self, parent: NodeId, name: str, node: NodeId, place: str) -> None:
        own = folded(name)
        for other, occupant in self._local.children(parent).items():
            if occupant != node and folded(other) == own:
                detail = f"this file system takes the name for {other!r}; rename one"
                raise Blocked(place, Trouble.NAME_COLLISION, detail)

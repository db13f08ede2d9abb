"""The values that every part of jobfs speaks in: ids, items, contents, entries, trees, problems.

All of them are frozen. Nothing here does I/O or knows a clock. Anybody may import this module; it imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import NewType, Protocol

NodeId = NewType("NodeId", int)
"""Our stable number of a node; also its inode number. Never used twice in one store."""

ItemId = NewType("ItemId", str)
"""The server's opaque id of an item."""

ROOT = NodeId(1)
"""The node of the workspace's root, for which no item stands (contract, view rule 7)."""

MAX_NAME_BYTES = 255
"""Longest name of a directory entry in bytes of UTF-8 (Linux NAME_MAX)."""

MAX_PATH_UNITS = 1024
"""Longest item path in UTF-16 units (contract, section 1: the stricter of the two counts)."""

MOST_ITEMS = 1 << 20
"""A workspace of more items is refused (contract, protocol P): they take a gigabyte here, and hours to list."""


@unique
class Kind(Enum):
    """What a node is. The server knows the first two; the others live only in local-only places."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"


@unique
class Permission(Enum):
    """The server's write bit."""

    READ_ONLY = "readOnly"
    READ_WRITE = "readWrite"


@unique
class Lifecycle(Enum):
    """Whom an item belongs to: all jobs of the application, or one job."""

    APPLICATION = "application"
    EXPERT_JOB = "expertJob"


@dataclass(frozen=True, slots=True)
class Revision:
    """The fingerprint of an item's content (contract I-38): equal means probably unchanged, unequal means refetch."""

    item: ItemId
    updated_at: str
    size: int
    key: str


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file as far as they are known.

    :param size: length in bytes.
    :param sha256: lower-case hex digest where the bytes were seen, else None.
    :param revision: the server's revision that holds exactly these bytes; None for bytes that no server has
        acknowledged.
    """

    size: int
    sha256: str | None = None
    revision: Revision | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """The server's record of a file or directory, as received.

    :param path: the normal form (contract, view rule 1): one leading and one trailing slash stripped.
    :param raw_path: the path as the server spelt it.
    :param kind: None for a type that this version does not know (contract I-2): opaque, never deleted through the tree.
    :param created_at: as sent; empty where absent. Never compared with the local clock (contract I-39).
    :param size: bytes; 0 for directories.
    """

    id: ItemId
    kind: Kind | None
    path: str
    raw_path: str
    permission: Permission
    lifecycle: Lifecycle
    owner: str
    created_at: str
    updated_at: str
    size: int = 0
    key: str = ""
    mime_type: str = ""

    @property
    def revision(self) -> Revision:
        """The fingerprint of this item."""
        return Revision(self.id, self.updated_at, self.size, self.key)


@dataclass(frozen=True, slots=True)
class Entry:
    """One node in one of the three trees.

    :param id: the node; the same number in every tree.
    :param parent: the directory that holds it; the root holds itself.
    :param name: its name there; empty for the root.
    :param content: for files, else None.
    :param item: in base and remote, the item that stands for it; None for an implicit directory (view rule 3), for the
        root, and in the local tree.
    :param is_shared: in base and remote, whether the item has the lifecycle ``application``.
    """

    id: NodeId
    parent: NodeId
    name: str
    kind: Kind
    permission: Permission = Permission.READ_WRITE
    content: Content | None = None
    item: ItemId | None = None
    is_shared: bool = False


BlobId = NewType("BlobId", int)
"""The number of a local file that holds bytes (``store.blobs``). Never used twice in one store."""


@dataclass(frozen=True, slots=True)
class LocalNode(Entry):
    """One node as the user sees it: an entry of the local tree with what only this side knows.

    A file is *clean* while ``content.revision`` is set, and *dirty* while it is None. It is *hydrated* while ``blob``
    is set; a dirty file without a blob is empty.

    :param mode: permission bits as chmod set them; for synchronised nodes the write bits follow ``permission``.
    :param mtime_ns: last change of the bytes, nanoseconds since the epoch.
    :param ctime_ns: last change of the record, nanoseconds since the epoch.
    :param blob: the local bytes, or None.
    :param target: of a symlink; else empty.
    :param is_local_only: matched by the ignore rules: never seen by the planner, never uploaded.
    :param inode: in folder mode, the real file's inode number when it was last scanned; else 0.
    """

    mode: int = 0o644
    mtime_ns: int = 0
    ctime_ns: int = 0
    blob: BlobId | None = None
    target: str = ""
    is_local_only: bool = False
    inode: int = 0

    @property
    def is_dirty(self) -> bool:
        """Whether this is a file whose bytes no server has acknowledged."""
        return self.content is not None and self.content.revision is None


class TreeView(Protocol):
    """How the planner reads a tree; the store's trees and ``FrozenTree`` satisfy it."""

    def get(self, node: NodeId) -> Entry | None:
        """Return the entry of a node, or None."""

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the node of that name in a directory, or None."""

    def children(self, parent: NodeId) -> Mapping[str, NodeId]:
        """Return the directory's nodes by name; empty for a file or an unknown node."""

    def __iter__(self) -> Iterator[NodeId]:
        """Iterate over every node, the root included."""

    def __len__(self) -> int:
        """Return the number of nodes, the root included."""


_NO_CHILDREN: Mapping[str, NodeId] = {}


class FrozenTree:
    """A tree made once from entries. The root is added where it is missing."""

    __slots__ = ("_children", "_entries")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[NodeId, Entry] = {ROOT: Entry(ROOT, ROOT, "", Kind.DIRECTORY)}
        self._children: dict[NodeId, dict[str, NodeId]] = {}
        for entry in entries:
            self._entries[entry.id] = entry
            if entry.id != ROOT:
                self._children.setdefault(entry.parent, {})[entry.name] = entry.id

    @classmethod
    def of(cls, entries: dict[NodeId, Entry], children: dict[NodeId, dict[str, NodeId]]) -> FrozenTree:
        """Return a tree that consists of these dictionaries, which fit together and which nobody else changes."""
        tree = cls()
        entries.setdefault(ROOT, tree._entries[ROOT])
        tree._entries, tree._children = entries, children
        return tree

    def parts(self) -> tuple[dict[NodeId, Entry], dict[NodeId, dict[str, NodeId]]]:
        """Return what ``of`` takes. Whoever changes these dictionaries must be the only one that has the tree."""
        return self._entries, self._children

    def get(self, node: NodeId) -> Entry | None:
        """Return the entry of a node, or None."""
        return self._entries.get(node)

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the node of that name in a directory, or None."""
        return self._children.get(parent, _NO_CHILDREN).get(name)

    def children(self, parent: NodeId) -> Mapping[str, NodeId]:
        """Return the directory's nodes by name."""
        return self._children.get(parent, _NO_CHILDREN)

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def path_of(tree: TreeView, node: NodeId) -> str | None:
    """Return the path of a node from the root, without a leading slash; "" for the root, None if it is not in the tree.

    A cycle, which only a broken tree has, gives None as well.
    """
    names: list[str] = []
    seen: set[NodeId] = set()
    while node != ROOT:
        entry = tree.get(node)
        if entry is None or node in seen:
            return None
        seen.add(node)
        names.append(entry.name)
        node = entry.parent
    return "/".join(reversed(names))


def node_at(tree: TreeView, path: str) -> NodeId | None:
    """Return the node at a path ("" is the root), or None."""
    node: NodeId | None = ROOT
    for name in path.split("/") if path else ():
        node = tree.child(node, name) if node is not None else None
    return node


@unique
class Trouble(Enum):
    """Why a node cannot be kept in step."""

    NAME_TOO_LONG = "name-too-long"
    PATH_TOO_LONG = "path-too-long"
    INVALID_NAME = "invalid-name"
    NAME_COLLISION = "name-collision"
    KIND_COLLISION = "kind-collision"
    SHADOWED = "shadowed"
    UNKNOWN_TYPE = "unknown-type"
    SHARED_ITEM = "shared-item"
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    UNSUPPORTED_KIND = "unsupported-kind"
    GUARD = "guard"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about one path that jobfs cannot settle by itself: shown to the user, never a crash, never silent.

    :param node: the node it is attached to; None for an item that has no node.
    :param path: the path, for display.
    :param detail: one line: what is the matter and what the user can do.
    """

    node: NodeId | None
    path: str
    trouble: Trouble
    detail: str


@unique
class JobClass(Enum):
    """What a job's status means for its files (contract 5.3, status classes)."""

    ACTIVE = "active"
    PAUSED = "paused"
    FINAL = "final"


_JOB_CLASSES = {
    "queued": JobClass.ACTIVE,
    "processing": JobClass.ACTIVE,
    "canceling": JobClass.ACTIVE,
    "requestInteractiveToolResult": JobClass.PAUSED,
    "requestDelegateResult": JobClass.PAUSED,
    "exceededMaxSteps": JobClass.PAUSED,
    "completed": JobClass.FINAL,
    "failed": JobClass.FINAL,
    "canceled": JobClass.FINAL,
    "expired": JobClass.FINAL,
}

CONTINUABLE = frozenset({"requestInteractiveToolResult", "exceededMaxSteps", "completed"})
"""The statuses from which ``continue`` is offered (contract J-10)."""


def job_class(status: str) -> JobClass:
    """Return the class of a job status; an unknown one counts as active (contract 5.3)."""
    return _JOB_CLASSES.get(status, JobClass.ACTIVE)


def may_expert_write(status: str) -> bool:
    """Tell whether the expert may write files in this status (contract 5.3)."""
    return job_class(status) is JobClass.ACTIVE or status == "requestDelegateResult"

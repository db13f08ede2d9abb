"""The values that the planner returns: what to record, what to show, what to ask of the server.

A plan has three parts, executed in this order:

1. ``to_base``: records to change where nothing has to be done for it. One transaction, in order.
2. ``to_local``: changes of what the user sees, each to be applied in order, each together with its base record in one
   transaction. ``shown`` and ``recorded`` say what the local entry and the base record become; nobody else has to know.
3. ``to_remote``: requests in stages. The changes of one stage do not depend on each other and may run at the same time.
   **A stage may start only when every change of the stages before it succeeded**: a deletion relies on the moves that
   took surviving items out of its way. After any failure the rest is dropped and planned again.

Two rules keep base true. Base may only say what the server acknowledged. And an acknowledged move or permission change
advances the revision in base, since the item had base's revision when it was planned; an answer whose size or storage
key differs from base's means that somebody else was there too, and then the revision stays as it was.

A plan holds what can be done now. Whatever was done changes a tree; the executor names the changed nodes as touched and
asks again until the plan is empty. Nothing here does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import TypeAlias, assert_never

from jobfs.model import Content, Entry, NodeId, Permission, Problem, Revision


@unique
class ConflictPolicy(Enum):
    """Whose content keeps the name when both sides changed it."""

    KEEP_BOTH = "keep-both"
    LOCAL = "local"
    REMOTE = "remote"


@unique
class ConflictKind(Enum):
    """In what the two sides disagreed."""

    CONTENT = "content"
    """Both changed the content, differently."""
    PLACE = "place"
    """Both moved the node, to different places, or into each other: the remote place holds."""
    NAME = "name"
    """Two different nodes want one name: the remote one has it."""
    KIND = "kind"
    """A file and a directory want one name: the remote one has it."""
    DELETION = "deletion"
    """One side deleted what the other edited or filled: it stays."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A disagreement that the plan settles, for the user to know.

    :param path: the place that was disputed.
    :param copy: path of the conflict copy or of the renamed node, or None where nothing was renamed.
    """

    node: NodeId
    path: str
    kind: ConflictKind
    copy: str | None = None


# --- base -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Put this entry into base: both sides already agree on it."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop the base record of a node, as far as there is one."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Rebind:
    """Say that local node ``new`` is what base and remote know as ``old``.

    The records of ``old`` in base *and* in the remote tree now belong to ``new``, and the records of its children name
    ``new`` as their parent. ``old`` is in no tree afterwards. Everything else in the plan already speaks of ``new``.
    """

    old: NodeId
    new: NodeId


BaseChange: TypeAlias = Acknowledge | Forget | Rebind


# --- local ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddLocal:
    """Show a remote node. Its content is not here yet; base records the entry."""

    entry: Entry

    @property
    def node(self) -> NodeId:
        """The node that appears."""
        return self.entry.id


@dataclass(frozen=True, slots=True)
class ReplaceContent:
    """Show new remote content under a name whose local bytes are clean; base records content and item of the entry.

    :param keeps: the local bytes are not clean but given up: they go to the local history before.
    """

    node: NodeId
    entry: Entry
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class MarkClean:
    """Let the local bytes stand for the remote content: they were proved equal, or base already had them."""

    node: NodeId
    entry: Entry


@dataclass(frozen=True, slots=True)
class SplitConflict:
    """Move the local bytes of a node to a new node, and show the remote content under the old name. Atomic.

    :param entry: the remote side; base records its content and item.
    :param parent: where the copy goes; the directory in which the node is by then.
    :param copy_name: the name of the copy, which is free; None: no copy is shown, the bytes go to the local history.
    """

    node: NodeId
    entry: Entry
    parent: NodeId
    copy_name: str | None


@dataclass(frozen=True, slots=True)
class MoveLocal:
    """Move or rename a node. The target is free when its turn comes, and its directory is there.

    :param settles: whether the server has it there already, so that base records the place; False for a temporary name
        and for a name made up to end a clash.
    """

    node: NodeId
    parent: NodeId
    name: str
    settles: bool


@dataclass(frozen=True, slots=True)
class SetLocalPermission:
    """Set the write bit; base records it."""

    node: NodeId
    permission: Permission


@dataclass(frozen=True, slots=True)
class RemoveLocal:
    """Remove a clean file or a directory that is empty by then, and its base record.

    A directory may still hold local-only entries, which the planner never sees; the executor decides about them.

    :param keeps: the file is not clean but given up: its bytes go to the local history before.
    """

    node: NodeId
    keeps: bool = False


LocalChange: TypeAlias = (
    AddLocal | ReplaceContent | MarkClean | SplitConflict | MoveLocal | SetLocalPermission | RemoveLocal
)


def shown(local: Entry | None, change: LocalChange) -> Entry | None:
    """Return what the local tree holds for ``change.node`` after the change; None: nothing.

    Extra fields of a subclass are kept. The conflict copy of a ``SplitConflict`` is the executor's to add.
    """
    match change:
        case AddLocal(entry):
            return replace(entry, item=None, is_shared=False)
        case RemoveLocal():
            return None
        case ReplaceContent(_, entry) | MarkClean(_, entry) | SplitConflict(_, entry):
            return replace(_present(local), content=entry.content)
        case MoveLocal(_, parent, name):
            return replace(_present(local), parent=parent, name=name)
        case SetLocalPermission(_, permission):
            return replace(_present(local), permission=permission)
        case _:
            assert_never(change)


def recorded(base: Entry | None, change: LocalChange) -> Entry | None:
    """Return what base holds for ``change.node`` after the change; None: nothing.

    Each change touches only its own attribute of the record, so that one which could not be applied (its target changed
    meanwhile) leaves base true.
    """
    match change:
        case AddLocal(entry):
            return entry
        case RemoveLocal():
            return None
        case ReplaceContent(_, entry) | MarkClean(_, entry) | SplitConflict(_, entry):
            if base is None:
                return entry
            return replace(base, content=entry.content, item=entry.item, is_shared=entry.is_shared)
        case MoveLocal(_, parent, name, settles):
            return replace(base, parent=parent, name=name) if settles and base is not None else base
        case SetLocalPermission(_, permission):
            return replace(base, permission=permission) if base is not None else None
        case _:
            assert_never(change)


def _present(entry: Entry | None) -> Entry:
    if entry is None:
        raise ValueError("a change of a node that is not in the tree")
    return entry


# --- remote -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Create a directory. ``parent`` is on the server by then; its present remote path is the directory's.

    Also for an implicit directory (view rule 3) that needs an item of its own; then the node already is in the remote
    tree at this place, and "path exists" is a success.
    """

    node: NodeId
    parent: NodeId
    name: str
    permission: Permission


@dataclass(frozen=True, slots=True)
class Upload:
    """Send the local content of a node to a place on the server.

    :param replaces: the node whose item in the remote tree has the place (protocol R over it); None: a plain create.
    :param expected: the revision that the replaced item must still have; None for a plain create.
    :param covers_shared: the place shows an item of all jobs; create a private one over it (contract I-27), and expect
        no refusal for that reason.
    :param keeps_loser: the replaced bytes were never seen here and lose a conflict; they go to the local history before
        they are deleted.
    """

    node: NodeId
    parent: NodeId
    name: str
    permission: Permission
    replaces: NodeId | None = None
    expected: Revision | None = None
    covers_shared: bool = False
    keeps_loser: bool = False


@dataclass(frozen=True, slots=True)
class MoveRemote:
    """Move an item; base records the new place, a temporary one too (protocol M for a directory)."""

    node: NodeId
    parent: NodeId
    name: str


@dataclass(frozen=True, slots=True)
class Displace:
    """Move an item that will be deleted to a hidden name beside it, since its place is needed now.

    Base and the remote tree record the hidden name, so that a restart derives the deletion again.
    """

    node: NodeId
    parent: NodeId
    name: str


@dataclass(frozen=True, slots=True)
class SetRemotePermission:
    """Set the write bit of an item."""

    node: NodeId
    permission: Permission


@dataclass(frozen=True, slots=True)
class DeleteRemote:
    """Delete an item, a directory with everything below it. Nothing that the user has is below it by then.

    :param nodes: every node that goes with it, itself first; base and remote forget them all.
    """

    node: NodeId
    nodes: tuple[NodeId, ...]


RemoteChange: TypeAlias = MakeDirectory | Upload | MoveRemote | Displace | SetRemotePermission | DeleteRemote
Stage: TypeAlias = tuple[RemoteChange, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What makes the two sides alike, as far as it can be done now.

    :param fetch: nodes of which the remote bytes must be seen. The executor makes ``content.sha256`` known in the
        remote tree, and in the local one where there is a local side, and touches them. Nothing else is planned for
        them.
    :param waiting: nodes that cannot get to their places before others have moved. They are touched again with whatever
        changes next; nothing else would make the planner look at them.
    :param problems: what is left as it is, and why. A node with a problem has no request in the plan.
    """

    to_base: tuple[BaseChange, ...] = ()
    to_local: tuple[LocalChange, ...] = ()
    to_remote: tuple[Stage, ...] = ()
    fetch: tuple[NodeId, ...] = ()
    waiting: tuple[NodeId, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done: the sides agree, except where there are problems."""
        return not (self.to_base or self.to_local or self.to_remote or self.fetch)


def is_same_content(one: Content | None, other: Content | None) -> bool | None:
    """Tell whether two contents hold the same bytes; None where it cannot be told without looking at them."""
    if one is other:
        return True
    if one is None or other is None:
        return False
    if one.revision is not None and one.revision == other.revision:
        return True
    if one.size != other.size:
        return False
    if one.size == 0:
        return True  # nothing was ever downloaded that could have been hashed
    if one.sha256 is not None and other.sha256 is not None:
        return one.sha256 == other.sha256
    return None

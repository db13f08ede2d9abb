"""What stat shows of a node, and how a node's permission and mode turn into mode bits.

Pure. Rule (design, section 6): readWrite shows 0644 or 0755, readOnly 0444 or 0555; the execute bit is ours alone.
Local-only nodes show their own mode bits.
"""

from __future__ import annotations

from typing import NamedTuple

from jobfs.model import Kind, LocalNode, NodeId, Permission

_EXECUTE_BITS = 0o111
BLOCK_BYTES = 4096


class Attributes(NamedTuple):
    """The stat of a node. Owner and group are the transport's matter: a mount has one of each."""

    inode: NodeId
    kind: Kind
    mode: int
    """Permission bits, without the file type."""
    size: int
    links: int
    mtime_ns: int
    ctime_ns: int


def attributes_of(node: LocalNode, *, is_protected: bool = False, links: int = 1) -> Attributes:
    """Return the stat of a node.

    :param is_protected: nothing may be written there whatever the permission says (read-only mount, ``perstack/``).
    :param links: the number of names of a file.
    """
    if node.content is not None:
        size = node.content.size
    else:
        size = len(node.target.encode("utf-8", "surrogateescape")) if node.kind is Kind.SYMLINK else 0
    return Attributes(
        node.id,
        node.kind,
        shown_mode(node, is_protected=is_protected),
        size,
        links,
        node.mtime_ns,
        node.ctime_ns,
    )


def shown_mode(node: LocalNode, *, is_protected: bool) -> int:
    """Return the permission bits that stat shows."""
    if node.is_local_only or node.kind is Kind.SYMLINK:
        return node.mode
    executable = _EXECUTE_BITS if node.kind is Kind.DIRECTORY or node.mode & _EXECUTE_BITS else 0
    if is_protected or node.permission is Permission.READ_ONLY:
        return 0o444 | executable
    return 0o644 | executable


def permission_of(mode: int) -> Permission:
    """Return the permission that a chmod to these bits asks for: the owner's write bit decides."""
    return Permission.READ_WRITE if mode & 0o200 else Permission.READ_ONLY

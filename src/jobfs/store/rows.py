"""From the rows of the tables ``local`` and ``base`` to the model's values and back. Pure.

SQLite keeps whatever it is given in any column, and a file can be changed by others: rows of a state that is not known
to be sound are looked at (``is_local_row``, ``is_base_row``) before they are taken for values.
"""

from __future__ import annotations

from functools import cache

from jobfs.model import Content, Entry, Kind, LocalNode, NodeId, Permission, Revision
from jobfs.store.trees import Tree

PUT_LOCAL = "INSERT OR REPLACE INTO local VALUES (" + "?, " * 17 + "?)"
PUT_BASE = "INSERT OR REPLACE INTO base VALUES (" + "?, " * 10 + "?)"


_kind = cache(Kind)
_permission = cache(Permission)
"""Calling an enumeration takes four times as long, and a start calls them for each row."""


_LOCAL_COLUMNS = "iisssiiiISSSISIsii"
_BASE_COLUMNS = "iisssSiISSS"
_TYPES: dict[str, tuple[type, ...]] = {"i": (int,), "s": (str,), "I": (int, type(None)), "S": (str, type(None))}
_KINDS = frozenset(kind.value for kind in Kind)
_PERMISSIONS = frozenset(permission.value for permission in Permission)


def local_row(node: LocalNode) -> tuple[object, ...]:
    """Return a node as a row of ``local``."""
    return (
        node.id,
        node.parent,
        node.name,
        node.kind.value,
        node.permission.value,
        node.mode,
        node.mtime_ns,
        node.ctime_ns,
        *_content_row(node.content),
        node.blob,
        node.target,
        node.is_local_only,
        node.inode,
    )


def _content_row(content: Content | None) -> tuple[object, ...]:
    if content is None:
        return None, None, None, None, None, None
    revision = content.revision
    if revision is None:
        return content.size, content.sha256, None, None, None, None
    return content.size, content.sha256, revision.item, revision.updated_at, revision.size, revision.key


def local_node(row: tuple[object, ...], base: Tree[Entry]) -> LocalNode:
    """Return a row of ``local`` as a node.

    :param base: the base tree, whose content objects are shared where they are equal.
    """
    number, parent, name, kind, permission, mode, mtime_ns, ctime_ns, size, sha256, *rest = row
    item, updated_at, rev_size, key, blob, target, local_only, inode = rest
    known = base.get(NodeId(number))  # type: ignore[arg-type]
    content = known.content if known is not None else None  # one object for both trees: 100,000 nodes share it
    if _content_row(content) != (size, sha256, item, updated_at, rev_size, key):
        revision = Revision(item, updated_at, rev_size, key) if item is not None else None  # type: ignore[arg-type]
        content = Content(size, sha256, revision) if size is not None else None  # type: ignore[arg-type]
    return LocalNode(
        NodeId(number),  # type: ignore[arg-type]
        NodeId(parent),  # type: ignore[arg-type]
        name,  # type: ignore[arg-type]
        _kind(kind),
        _permission(permission),
        content,
        mode=mode,  # type: ignore[arg-type]
        mtime_ns=mtime_ns,  # type: ignore[arg-type]
        ctime_ns=ctime_ns,  # type: ignore[arg-type]
        blob=blob,  # type: ignore[arg-type]
        target=target,  # type: ignore[arg-type]
        is_local_only=bool(local_only),
        inode=inode,  # type: ignore[arg-type]
    )


def base_row(entry: Entry) -> tuple[object, ...]:
    """Return an entry as a row of ``base``."""
    content = entry.content
    revision = content.revision if content else None
    return (
        entry.id,
        entry.parent,
        entry.name,
        entry.kind.value,
        entry.permission.value,
        entry.item,
        entry.is_shared,
        content.size if content else None,
        content.sha256 if content else None,
        revision.updated_at if revision else None,
        revision.key if revision else None,
    )


def base_entry(row: tuple[object, ...]) -> Entry:
    """Return a row of ``base`` as an entry."""
    number, parent, name, kind, permission, item, shared, size, sha256, updated_at, key = row
    content = None
    if size is not None and item is not None:
        content = Content(size, sha256, Revision(item, updated_at, size, key))  # type: ignore[arg-type]
    return Entry(
        NodeId(number),  # type: ignore[arg-type]
        NodeId(parent),  # type: ignore[arg-type]
        name,  # type: ignore[arg-type]
        _kind(kind),
        _permission(permission),
        content,
        item,  # type: ignore[arg-type]
        bool(shared),
    )


def fits(row: tuple[object, ...], columns: str) -> bool:
    """Tell whether the values of a row have their columns' types.

    :param columns: a letter each: ``i`` for a number, ``s`` for a text; capitals may also be NULL.
    """
    if len(row) != len(columns):
        return False
    return all(isinstance(value, _TYPES[letter]) for value, letter in zip(row, columns, strict=True))


def is_local_row(row: tuple[object, ...]) -> bool:
    """Tell whether a row of ``local`` can be taken for a node."""
    if not fits(row, _LOCAL_COLUMNS):
        return False
    _, _, _, kind, permission, _, _, _, size, _, item, *revision, blob, _, _, _ = row
    if kind not in _KINDS or permission not in _PERMISSIONS:
        return False
    if kind != Kind.FILE.value:
        return size is None and blob is None
    return size is not None and (item is None or None not in revision)


def is_base_row(row: tuple[object, ...]) -> bool:
    """Tell whether a row of ``base`` can be taken for an entry."""
    if not fits(row, _BASE_COLUMNS):
        return False
    _, _, _, kind, permission, item, _, size, _, *revision = row
    if kind not in _KINDS or permission not in _PERMISSIONS:
        return False
    return kind != Kind.FILE.value or item is None or (size is not None and None not in revision)

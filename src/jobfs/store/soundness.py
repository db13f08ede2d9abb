"""Whether what a state holds fits together: its invariants, which ``schema`` states. Reads, and changes nothing."""

from __future__ import annotations

from typing import Protocol

from jobfs.model import ROOT, BlobId, Entry, Kind, LocalNode, NodeId
from jobfs.store.blobs import Blobs
from jobfs.store.history import Versions
from jobfs.store.trees import Tree


class Held(Protocol):
    """What a state holds in memory, as ``state.State`` does."""

    @property
    def local(self) -> Tree[LocalNode]:
        """The tree that the user sees."""

    @property
    def base(self) -> Tree[Entry]:
        """The tree that the server acknowledged."""

    @property
    def links(self) -> dict[NodeId, dict[str, NodeId]]:
        """Further names, by directory."""

    @property
    def versions(self) -> Versions:
        """The history."""

    @property
    def blobs(self) -> Blobs:
        """The bytes of both."""


def broken_invariants(held: Held, next_node: int) -> list[str]:
    """Return what is wrong, one line each, with the number of the invariant. Blocks, for it looks at every blob.

    :param next_node: the number that the next node gets.
    """
    wrong = _wrong_tree("local", held.local) + _wrong_tree("base", held.base) + _wrong_links(held)
    wrong += _wrong_blobs(held)
    items = [entry.item for entry in held.base.entries() if entry.item is not None]
    if len(items) != len(set(items)):
        wrong.append("I5: two base records name one item")
    unnamed = [entry for entry in held.base.entries() if entry.kind is Kind.FILE and entry.item is None]
    wrong += [f"I5: the base record of file {entry.id} ({entry.name!r}) names no item" for entry in unnamed]
    top = max(max(held.base, default=ROOT), max(held.local, default=ROOT))
    if top >= next_node:
        wrong.append(f"I4: node {top} is above the counter {next_node}")
    return wrong


def _wrong_links(held: Held) -> list[str]:
    wrong = []
    for parent, names in held.links.items():
        directory = held.local.get(parent)
        for name, node in names.items():
            is_fit = directory is not None and directory.kind is Kind.DIRECTORY and held.local.get(node) is not None
            if not is_fit or held.local.child(parent, name) is not None:
                wrong.append(f"I2: link {name!r} in {parent}")
    return wrong


def _wrong_blobs(held: Held) -> list[str]:
    wrong = []
    named: set[BlobId] = set()
    for node in held.local.entries():
        if node.blob is None:
            if node.is_dirty and node.content is not None and node.content.size and not node.inode:
                wrong.append(f"I3: dirty file {node.id} of {node.content.size} bytes has no blob")
        elif node.blob in named or not held.blobs.has(node.blob):
            wrong.append(f"I3: blob {node.blob} of node {node.id} is missing or named twice")
        elif not node.is_dirty and (node.content is None or held.blobs.size(node.blob) != node.content.size):
            wrong.append(f"I3: blob {node.blob} of node {node.id} is not as long as its revision")
        else:
            named.add(node.blob)
    for version in held.versions.all():
        if version.blob is None:
            if version.content.size:
                wrong.append(f"I3: version {version.number} of {version.path!r} has no bytes")
        elif version.blob in named or not held.blobs.has(version.blob):
            wrong.append(f"I3: blob {version.blob} of a lost version of {version.path!r} is missing or named twice")
        else:
            named.add(version.blob)
    return wrong


def _wrong_tree(label: str, tree: Tree[LocalNode] | Tree[Entry]) -> list[str]:
    wrong = []
    below: set[NodeId] = {ROOT}
    for entry in tree.entries():
        parent = tree.get(entry.parent)
        if parent is None or parent.kind is not Kind.DIRECTORY:
            wrong.append(f"I1: {label} node {entry.id} ({entry.name!r}) has no directory above it")
        elif entry.id != ROOT and tree.child(entry.parent, entry.name) != entry.id:
            wrong.append(f"I2: {label} node {entry.id} ({entry.name!r}) does not hold its place")
        elif _is_in_circle(tree, entry, below):
            wrong.append(f"I1: {label} node {entry.id} ({entry.name!r}) is below itself")
    return wrong


def _is_in_circle(tree: Tree[LocalNode] | Tree[Entry], entry: LocalNode | Entry, below: set[NodeId]) -> bool:
    """Tell whether the way up from a node never ends.

    :param below: nodes of which it is known that theirs does; those on this way are added.
    """
    way: set[NodeId] = set()
    at: LocalNode | Entry | None = entry
    while at is not None and at.id not in below:
        if at.id in way:
            return True
        way.add(at.id)
        at = tree.get(at.parent)
    below |= way
    return False

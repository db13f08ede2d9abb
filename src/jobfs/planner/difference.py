"""What differs between base and local, at and below a path: what a diff shows, a push sends, and a revert undoes.

Pure. A node belongs to a path if it is there now or was there when the server last acknowledged it: what was moved out
of a directory, or deleted from it, is a change of that directory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from jobfs.model import ROOT, Entry, Kind, LocalNode, NodeId, TreeView, node_at


def is_different(known: Entry | None, here: Entry | None) -> bool:
    """Tell whether a node is otherwise here than the server last acknowledged it.

    :param known: the node in base. :param here: the node in the local tree, without local-only nodes.
    """
    if known is None or here is None:
        return known is not here
    if known.permission is not here.permission or is_elsewhere(known, here):
        return True
    return isinstance(here, LocalNode) and here.is_dirty


def is_elsewhere(known: Entry, here: Entry) -> bool:
    """Tell whether a node has another place here than in base."""
    return (known.parent, known.name) != (here.parent, here.name)


def tops(base: TreeView, local: TreeView, path: str) -> set[NodeId]:
    """Return what is at a path and what was: one node, two where another one took the place, or none.

    :param path: from the root, without a leading slash; "" for everything.
    """
    return {top for tree in (base, local) if (top := node_at(tree, path)) is not None}


def at_or_below(base: TreeView, local: TreeView, nodes: Iterable[NodeId]) -> set[NodeId]:
    """Return the nodes that differ among some nodes and what is, or was, below them."""
    reach = {node for top in nodes for tree in (base, local) for node in below(tree, top)}
    return {node for node in reach if is_different(base.get(node), local.get(node))}


def below(tree: TreeView, top: NodeId) -> Iterator[NodeId]:
    """Yield a node and everything below it, directories before what they hold."""
    queue = [top]
    while queue:
        node = queue.pop()
        yield node
        queue += tree.children(node).values()


def with_needs(nodes: Iterable[NodeId], base: TreeView, local: TreeView) -> set[NodeId]:
    """Return nodes together with the differing ones without which the server cannot have them as they are here.

    These are the directories above them that are new or elsewhere, what stood at their places, and for a directory that
    is deleted everything that was in it: also what was moved out of it, which would be deleted along with it.
    """
    found: set[NodeId] = set()
    queue = list(nodes)
    while queue:
        node = queue.pop()
        if node in found or node == ROOT:
            continue
        found.add(node)
        queue += _needs(node, base, local)
    return {node for node in found if is_different(base.get(node), local.get(node))}


def _needs(node: NodeId, base: TreeView, local: TreeView) -> Iterator[NodeId]:
    here, known = local.get(node), base.get(node)
    if here is None:
        yield from base.children(node).values()
        return
    yield here.parent
    if known is None or is_elsewhere(known, here):
        occupant = base.child(here.parent, here.name)
        if occupant is not None:
            yield occupant


def shifted(base: TreeView, local: TreeView, nodes: Collection[NodeId]) -> set[NodeId]:
    """Return the files that have another path because a directory among some nodes has another place."""
    found: set[NodeId] = set()
    for node in nodes:
        known, here = base.get(node), local.get(node)
        if known is not None and here is not None and here.kind is Kind.DIRECTORY and is_elsewhere(known, here):
            found.update(one for one in below(local, node) if _is_file(local.get(one)) and base.get(one) is not None)
    return found


def rivals(base: TreeView, local: TreeView, nodes: Iterable[NodeId]) -> set[NodeId]:
    """Return what stood, or stands now, at the places that nodes came to or left: one does not show without them."""
    found: set[NodeId] = set()
    queue = list(nodes)
    while queue:
        node = queue.pop()
        known, here = base.get(node), local.get(node)
        for entry, tree in ((here, base), (known, local)):
            rival = tree.child(entry.parent, entry.name) if entry is not None else None
            if rival is not None and rival != node and rival not in found:
                found.add(rival)
                queue.append(rival)
    return found


def _is_file(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is Kind.FILE

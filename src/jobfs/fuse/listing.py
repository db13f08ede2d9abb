"""Directory listings for a kernel that opens directories without asking: READDIR and READDIRPLUS without handles.

A *cookie* is where a listing goes on. It must stay right while names come and go between two requests of one reader,
or ``rm -r`` would miss entries. So the order is that of node numbers, which are never used twice, and a cookie is made
from the number of the node that was given last: it needs no state here. What is remembered is only for speed, so that
a directory of n names is sorted once and not at each of its requests.
"""

from __future__ import annotations

import stat
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple, Protocol

from jobfs.fuse import replies
from jobfs.fuse.replies import Lifetime, Stat
from jobfs.model import NodeId

_DOT = 1
_DOT_DOT = 2
_NAMES_BITS = 6
"""A node has several names in one directory only by hard links, in local-only places: up to 64 are told apart."""

_NUMBER_MASK = (1 << 56) - 1
"""Cookies are positive 64-bit numbers; the nodes of ``.jobfs``, above 2^62, fold to small ones, as unique there."""

_REMEMBERED = 8

_cookie_of = itemgetter(0)


class Shown(NamedTuple):
    """One name of a listing: where it goes on after it, the name, and its node."""

    cookie: int
    name: str
    node: NodeId


class Directories(Protocol):
    """What a listing asks of the file system."""

    def names(self, directory: NodeId) -> Iterable[tuple[str, NodeId]]:
        """Return the names as they are now."""

    def parent(self, directory: NodeId) -> NodeId:
        """Return the directory above."""

    def is_there(self, directory: NodeId, name: str, node: NodeId) -> bool:
        """Tell whether a name still stands for a node."""


class Listings:
    """The listings under way.

    :param stat_of: gives the attributes of a node, and their lifetime.
    """

    def __init__(self, directories: Directories, stat_of: Callable[[NodeId], tuple[Stat, Lifetime]]) -> None:
        self._directories = directories
        self._stat_of = stat_of
        self._remembered: OrderedDict[NodeId, list[Shown]] = OrderedDict()

    def read(self, directory: NodeId, offset: int, size: int) -> bytes:
        """Serve READDIR: names and file types."""
        out = bytearray()
        for cookie, name, node in self._from(directory, offset):
            kind = self._kind(node)
            record = replies.directory_entry(node, cookie, kind, name.encode("utf-8", "surrogateescape"))
            if len(out) + len(record) > size:
                return bytes(out)
            out += record
        return bytes(out)

    def read_plus(self, directory: NodeId, offset: int, size: int, looked_up: Callable[[NodeId], None]) -> bytes:
        """Serve READDIRPLUS: names with what a lookup of each would say.

        :param looked_up: called for each node of which the kernel then counts a lookup.
        """
        out = bytearray()
        for cookie, name, node in self._from(directory, offset):
            encoded = name.encode("utf-8", "surrogateescape")
            stat_, lifetime = self._stat_of(node)
            kind = stat.S_IFMT(stat_.mode) >> 12
            is_dot = cookie in (_DOT, _DOT_DOT)
            found = replies.NO_ENTRY if is_dot else replies.entry(stat_, lifetime)
            record = replies.directory_entry_plus(found, node, cookie, kind, encoded)
            if len(out) + len(record) > size:
                return bytes(out)
            out += record
            if not is_dot:
                looked_up(node)
        return bytes(out)

    def _kind(self, node: NodeId) -> int:
        return stat.S_IFMT(self._stat_of(node)[0].mode) >> 12

    def _from(self, directory: NodeId, offset: int) -> Iterator[Shown]:
        """Yield what comes after a cookie, leaving out what went away meanwhile."""
        if offset < _DOT:
            yield Shown(_DOT, ".", directory)
        if offset < _DOT_DOT:
            yield Shown(_DOT_DOT, "..", self._directories.parent(directory))
        entries = self._entries(directory, is_start=offset < _DOT_DOT)
        for entry in entries[bisect_right(entries, offset, key=_cookie_of) :]:
            if self._directories.is_there(directory, entry.name, entry.node):
                yield entry

    def _entries(self, directory: NodeId, *, is_start: bool) -> list[Shown]:
        remembered = None if is_start else self._remembered.get(directory)
        if remembered is not None:
            self._remembered.move_to_end(directory)
            return remembered
        entries = _ordered(self._directories.names(directory))
        self._remembered[directory] = entries
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return entries


def _ordered(names: Iterable[tuple[str, NodeId]]) -> list[Shown]:
    """Return the names in the order of their nodes, with their cookies."""
    entries: list[Shown] = []
    last: NodeId | None = None
    cookie = 0
    for name, node in sorted(names, key=itemgetter(1, 0)):
        cookie = cookie + 1 if node == last else ((node & _NUMBER_MASK) + _DOT_DOT) << _NAMES_BITS
        last = node
        entries.append(Shown(cookie, name, node))
    return entries

"""What the kernel is told while the waker does an errand: that a name is free, or that a phantom has it.

A *phantom* is an inode that exists for one errand and for the waker alone. Nothing of the workspace is asked or changed
for it: the waker makes it, changes it or takes it away, the kernel tells who watches its directory, and that is all.
Its number is of no other inode, ever. The kernel may believe in its name for no time at all: whoever else comes by the
name asks again, and is told the truth.
"""

from __future__ import annotations

import errno
import itertools
import stat
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jobfs.fuse import protocol, replies
from jobfs.fuse.options import MountOptions
from jobfs.fuse.protocol import Opcode, OpenFlag, RequestHeader
from jobfs.fuse.replies import Lifetime, Stat
from jobfs.fuse.waker import CHANGE, CREATE, MKDIR, PROBE, RENAME, RMDIR, UNLINK
from jobfs.model import Kind, NodeId
from jobfs.vfs.namespace import fail

FIRST_PHANTOM = 1 << 61
_END = 1 << 62  # from there on are the nodes of ``.jobfs``
_LIFETIME = Lifetime(0, 365 * 24 * 3600)
_MODES = {Kind.FILE: stat.S_IFREG | 0o600, Kind.DIRECTORY: stat.S_IFDIR | 0o700}
_ACTS = {
    CREATE: (Opcode.CREATE,),
    MKDIR: (Opcode.MKDIR,),
    CHANGE: (Opcode.OPEN,),
    UNLINK: (Opcode.UNLINK,),
    RMDIR: (Opcode.RMDIR,),
    RENAME: (Opcode.RENAME, Opcode.RENAME2),
    PROBE: (Opcode.LOOKUP,),
}
"""The request that is each errand's act; all before it are look-ups."""

_numbers = itertools.count(FIRST_PHANTOM)


class Place(NamedTuple):
    """A name in a directory."""

    directory: NodeId
    name: str


def is_phantom(node: int) -> bool:
    """Tell whether an inode number is that of a phantom, of this errand or a former one."""
    return FIRST_PHANTOM <= node < _END


class Script:
    """One errand.

    ``is_done`` says whether its act was asked for and granted. After that, and at every other place, the waker is told
    the truth.

    :param verb: see ``waker``.
    :param taken: the place where a phantom is, if the errand needs one.
    :param free: the place where nothing is, if the errand needs one.
    :param kind: of the phantom.
    :param is_true: asked when the act is: whether what watchers are about to be told is still so.
    """

    def __init__(
        self,
        verb: bytes,
        options: MountOptions,
        is_true: Callable[[], bool],
        *,
        taken: Place | None = None,
        free: Place | None = None,
        kind: Kind = Kind.FILE,
    ) -> None:
        self.verb = verb
        self.is_done = False
        self._is_true = is_true
        self._taken = taken
        self._free = free
        self._stat = Stat(next(_numbers), 0, 0, 0, _MODES[kind], 1, options.uid, options.gid)

    @property
    def number(self) -> int:
        """The inode number of the phantom."""
        return self._stat.node

    @property
    def places(self) -> list[Place]:
        """What it is about."""
        return [place for place in (self._taken, self._free) if place is not None]

    def answer(self, header: RequestHeader, place: Place, target: Place | None) -> bytes | None:
        """Answer a request of the waker about a real directory; None where it is to be told the truth.

        :param place: which the request is about. :param target: to which it renames that.
        :raises OSError: ECANCELED, what watchers were about to be told is no longer so.
        """
        if self.is_done:
            return None
        match header.opcode:
            case Opcode.LOOKUP:
                return self._look(place)
            case Opcode.CREATE if place == self._free:
                return self._act(Opcode.CREATE, self._entry() + self._opened())
            case Opcode.MKDIR if place == self._free:
                return self._act(Opcode.MKDIR, self._entry())
            case Opcode.UNLINK | Opcode.RMDIR if place == self._taken:
                return self._act(header.opcode, b"")
            case Opcode.RENAME | Opcode.RENAME2 if (place, target) == (self._taken, self._free):
                return self._act(header.opcode, b"")
        return None

    def answer_phantom(self, header: RequestHeader) -> bytes:
        """Answer a request of the waker about a phantom.

        :raises OSError: ESTALE for whatever no errand does; ENODATA for extended attributes, of which the kernel asks.
        """
        match header.opcode:
            case Opcode.OPEN:
                return self._act(Opcode.OPEN, self._opened())
            case Opcode.GETATTR | Opcode.SETATTR:
                return replies.attributes(self._stat, _LIFETIME.attributes_s)
            case Opcode.GETXATTR:
                raise fail(errno.ENODATA)
        raise fail(errno.ESTALE)

    def _look(self, place: Place) -> bytes | None:
        if place == self._taken:
            return self._entry()
        if place != self._free:
            return None
        absent = replies.negative_entry(_LIFETIME.entry_s)
        return self._act(Opcode.LOOKUP, absent) if self.verb == PROBE else absent

    def _act(self, opcode: int, payload: bytes) -> bytes:
        if opcode not in _ACTS[self.verb] or not self._is_true():
            raise fail(errno.ECANCELED)
        self.is_done = True
        return payload

    def _entry(self) -> bytes:
        return replies.entry(self._stat, _LIFETIME)

    def _opened(self) -> bytes:
        return replies.opened(self._stat.node, OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH)


_NAME_AT: dict[int, int] = {
    Opcode.LOOKUP: 0,
    Opcode.UNLINK: 0,
    Opcode.RMDIR: 0,
    Opcode.MKDIR: protocol.MKDIR_IN.size,
    Opcode.CREATE: protocol.CREATE_IN.size,
    Opcode.RENAME: protocol.RENAME_IN.size,
    Opcode.RENAME2: protocol.RENAME2_IN.size,
}
"""Where in a request the name is that it is about."""


class Scripts:
    """What the waker is told during some errands, of which no two are about the same place."""

    def __init__(self, scripts: Iterable[Script]) -> None:
        self._by_place = {place: script for script in scripts for place in script.places}
        self._by_number = {script.number: script for script in self._by_place.values()}

    def answer(self, header: RequestHeader, body: memoryview) -> bytes | None:
        """Answer a request of the waker about a real directory; see ``Script.answer``."""
        offset = _NAME_AT.get(header.opcode)
        if offset is None:
            return None
        names = protocol.read_names(body, offset, 2 if header.opcode in _ACTS[RENAME] else 1)
        place = Place(NodeId(header.node), names[0])
        script = self._by_place.get(place)
        if script is None:
            return None
        is_move = len(names) > 1
        target = Place(NodeId(protocol.RENAME_IN.read(body).new_parent), names[1]) if is_move else None
        return script.answer(header, place, target)

    def answer_phantom(self, header: RequestHeader) -> bytes:
        """Answer a request of the waker about a phantom; ESTALE about that of another errand."""
        script = self._by_number.get(header.node)
        if script is None:
            raise fail(errno.ESTALE)
        return script.answer_phantom(header)

"""What a local copy answers, as values: differences, what became of a push, versions of the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from jobfs.engine.leftover import Unsynced, unsynced_of

KindName = Literal["file", "directory"]


@dataclass(frozen=True, slots=True)
class Side:
    """A file or directory as one side has it.

    :param path: from the root, without a leading slash. :param size: bytes; of a directory 0.
    :param permission: ``readWrite`` or ``readOnly``. :param mode: permission bits as a mount shows them.
    :param sha256: of the content, in lower-case hex, where it is known.
    """

    path: str
    size: int
    permission: str
    mode: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A file or directory that is otherwise here than on the server.

    :param old: as the server has it; None: it does not. :param new: as it is here; None: it is not.
    :param is_same: whether the bytes are the same, and only place or permission differ.
    :param is_overtaken: whether the server has another version by now than the one that this was made from.
    """

    kind: KindName
    old: Side | None
    new: Side | None
    is_same: bool
    is_overtaken: bool

    @property
    def path(self) -> str:
        """Where it is; of what is gone, where it was."""
        side = self.new or self.old
        return side.path if side is not None else ""


@dataclass(frozen=True, slots=True)
class Unsent:
    """A change that the server does not have.

    :param is_held: whether it waits for the user's word, and not for the server.
    """

    path: str
    reason: str
    is_held: bool


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a push.

    :param sent: paths that the server now has as they are here, or no longer has.
    :param along: those of them that were not asked for, but that the others rely on.
    :param left: what the server does not have.
    """

    sent: tuple[str, ...]
    along: tuple[str, ...]
    left: tuple[Unsent, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a file that is kept on this machine.

    :param number: what ``restore`` wants to know. :param path: where the file was.
    :param written: when it was written, where that is known. :param reason: why it is no longer shown.
    :param at: since when it is no longer shown.
    """

    number: int
    path: str
    size: int
    sha256: str | None
    written: datetime | None
    reason: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of something that was to come back.

    :param path: where it is. :param number: of the version. :param written: when that was written, where it is known.
    :param is_changed: False: these bytes, or another file, were there already.
    :param failure: why it is not back; else empty.
    """

    path: str
    number: int
    written: datetime | None
    is_changed: bool
    failure: str


def difference_of(told: Mapping[str, Any]) -> Difference:
    """Read a difference as ``review`` tells it."""
    return Difference(told["kind"], _side(told["old"]), _side(told["new"]), told["isSame"], told["isOvertaken"])


def _side(told: Mapping[str, Any] | None) -> Side | None:
    if told is None:
        return None
    return Side(told["path"], told["size"], told["permission"], told["mode"], told["sha256"])


def pushed_of(told: Mapping[str, Any]) -> Pushed:
    """Read what ``review`` tells of a publication."""
    return Pushed(tuple(told["sent"]), tuple(told["along"]), unsent_of(unsynced_of(told["left"])))


def unsent_of(left: Iterable[Unsynced]) -> tuple[Unsent, ...]:
    """Return what the engine says that the server does not have."""
    return tuple(Unsent(one.path, one.reason, one.is_held) for one in left)


def version_of(told: Mapping[str, Any]) -> Version:
    """Read a version as ``past`` tells it."""
    return Version(
        number=told["version"],
        path=told["path"],
        size=told["size"],
        sha256=told["sha256"],
        written=_time(told["written"]),
        reason=told["reason"],
        at=_time(told["at"]),
    )


def _time(told: str | None) -> datetime | None:
    return datetime.fromisoformat(told) if told else None


def restored_of(told: Mapping[str, Any]) -> Restored:
    """Read what ``past`` tells of a version that was to come back."""
    return Restored(told["path"], told["version"], _time(told["written"]), told["isChanged"], told.get("cause", ""))

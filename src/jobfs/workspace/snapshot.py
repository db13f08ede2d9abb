"""A workspace as it is now, arranged by the view rules: what the commands without a mount look at."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from jobfs.engine.listing import Pages, take_listing
from jobfs.errors import NotFound, Refused
from jobfs.model import Item, Kind, Lifecycle, Permission
from jobfs.planner.guards import is_reserved
from jobfs.planner.naming import is_hidden_name
from jobfs.planner.view import View, build_view, shown_path, time_of
from jobfs.workspace.places import Place


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a path.

    :param path: as shown, which is the item's own path unless that cannot be used here.
    :param item: None for an implicit directory, and for the root.
    """

    path: str
    item: Item | None

    def __repr__(self) -> str:
        """Return it in short, as lists at a prompt show it; ``item`` has all that the server knows."""
        what = "directory" if self.is_directory else f"{self.size:,} bytes"
        when = f", {self.item.updated_at}" if self.item is not None and self.item.updated_at else ""
        return f"<Found {self.path!r}, {what}{when}>"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_directory(self) -> bool:
        """Whether it can hold others."""
        return self.item is None or self.item.kind is Kind.DIRECTORY

    @property
    def size(self) -> int:
        """Bytes of a file; 0 for a directory."""
        return self.item.size if self.item is not None else 0

    @property
    def is_shared(self) -> bool:
        """Whether it belongs to all jobs of the application."""
        return self.item is not None and self.item.lifecycle is Lifecycle.APPLICATION

    @property
    def is_read_only(self) -> bool:
        """Whether the server's write bit is off."""
        return self.item is not None and self.item.permission is Permission.READ_ONLY

    @property
    def owner(self) -> str:
        """Who made it: ``user`` or ``expert``; empty for an implicit directory."""
        return self.item.owner if self.item is not None else ""

    @property
    def created(self) -> datetime | None:
        """When the server has it from; None where it does not say."""
        return time_of(self.item.created_at) if self.item is not None else None

    @property
    def updated(self) -> datetime | None:
        """When it last changed, by the server's clock; None where it does not say."""
        return time_of(self.item.updated_at) if self.item is not None else None


class Snapshot:
    """A listing, arranged."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._shown = dict(view.by_path)
        self._children: dict[str, list[str]] = defaultdict(list)
        for path in view.by_path:
            self._children[path.rpartition("/")[0]].append(path)

    def get(self, path: str) -> Found | None:
        """Return what is at a path; the root is always there, and what is hidden under its whole path."""
        if not path:
            return Found("", None)
        if path not in self._shown:
            return next((Found(path, item) for item in self.view.hidden if item.path == path), None)
        return Found(path, self._shown[path])

    def at(self, place: Place) -> Found:
        """Return what is at a place.

        :raises NotFound:
        """
        found = self.get(place.path)
        if found is None or (place.is_directory and not found.is_directory):
            raise NotFound(f"{place}: there is no such file or directory", f"see 'jobfs tree {place.job}:'")
        return found

    def children(self, path: str) -> list[Found]:
        """Return what a directory holds, by name."""
        return [Found(child, self._shown[child]) for child in self._children.get(path, ())]

    def below(self, path: str) -> Iterator[Found]:
        """Yield everything below a directory, each directory before what it holds."""
        waiting = self.children(path)[::-1]
        while waiting:
            found = waiting.pop()
            yield found
            waiting += self.children(found.path)[::-1]

    def add(self, item: Item) -> bool:
        """Take in an item that was made since; False where only a new listing can tell what is shown then."""
        there, above = self.get(item.path), self.get(item.path.rpartition("/")[0])
        is_plain = shown_path(item.path) == item.path and not any(map(is_hidden_name, item.path.split("/")))
        if not is_plain or above is None or not above.is_directory:
            return False
        if there is None:
            insort(self._children[above.path], item.path)
        elif there.is_directory is not (item.kind is Kind.DIRECTORY) or there.is_shared:
            return False
        self._shown[item.path] = item
        return True

    def drop(self, found: Found) -> bool:
        """Take out what was deleted since; False where only a new listing can tell what is shown then."""
        if self.get(found.path) != found or self.view.shadowed or found.path not in self._shown:
            return False
        for path in [found.path, *(below.path for below in self.below(found.path))]:
            del self._shown[path]
            self._children.pop(path, None)
        above = found.path.rpartition("/")[0]
        self._children[above].remove(found.path)
        directory = self.get(above)
        if above and directory is not None and directory.item is None and not self._children[above]:
            return self.drop(directory)  # an implicit directory is there for what it holds (view rule 3)
        return True


async def take_snapshot(remote: Pages) -> Snapshot:
    """List the workspace."""
    return Snapshot(build_view((await take_listing(remote)).items))


def check_changeable(place: Place, found: Found) -> None:
    """Refuse what a job must not change: items of all jobs (contract I-27), and the runtime's own directory (I-14).

    :raises Refused:
    """
    if found.is_shared:
        raise Refused(f"{place} belongs to all jobs of the application", "change it there, not through one job")
    if is_reserved(found.path):
        raise Refused(f"{place} belongs to the runtime", "leave it as it is")


def kind_letter(found: Found) -> str:
    """Return the kind as listings for programs name it."""
    return "directory" if found.is_directory else "file"


def as_json(found: Found) -> dict[str, object]:
    """Return what is known of a path for ``--json``."""
    item = found.item
    fields: dict[str, object] = {"path": found.path, "type": kind_letter(found), "size": found.size}
    if item is not None:
        fields |= {
            "id": item.id,
            "permission": item.permission.value,
            "lifecycle": item.lifecycle.value,
            "owner": item.owner,
            "updatedAt": item.updated_at,
            "mimeType": item.mime_type,
        }
    return fields

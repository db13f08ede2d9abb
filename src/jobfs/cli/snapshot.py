"""A workspace as it is now, arranged by the view rules: what the commands without a mount look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from jobfs.cli.places import Place
from jobfs.engine.listing import take_listing
from jobfs.engine.remote import Remote
from jobfs.errors import NotFound, Refused
from jobfs.model import Item, Kind, Lifecycle
from jobfs.planner.guards import is_reserved
from jobfs.planner.view import View, build_view


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a path.

    :param path: as shown, which is the item's own path unless that cannot be used here.
    :param item: None for an implicit directory, and for the root.
    """

    path: str
    item: Item | None

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


class Snapshot:
    """A listing, arranged."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._children: dict[str, list[str]] = defaultdict(list)
        for path in view.by_path:
            self._children[path.rpartition("/")[0]].append(path)

    def get(self, path: str) -> Found | None:
        """Return what is at a path; the root is always there."""
        if not path:
            return Found("", None)
        return Found(path, self.view.by_path[path]) if path in self.view.by_path else None

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
        return [Found(child, self.view.by_path[child]) for child in self._children.get(path, ())]

    def below(self, path: str) -> Iterator[Found]:
        """Yield everything below a directory, each directory before what it holds."""
        waiting = self.children(path)[::-1]
        while waiting:
            found = waiting.pop()
            yield found
            waiting += self.children(found.path)[::-1]


async def take_snapshot(remote: Remote) -> Snapshot:
    """List the workspace."""
    return Snapshot(build_view((await take_listing(remote)).items))


async def locate(remote: Remote, place: Place) -> Found:
    """Find one path: by one request where the server knows it, else by a listing (contract I-30).

    :raises NotFound:
    """
    if place.path:
        items = await remote.find(place.path)
        item = build_view(items).by_path.get(place.path)
        if item is not None and (item.kind is Kind.DIRECTORY or not place.is_directory):
            return Found(place.path, item)
    return (await take_snapshot(remote)).at(place)


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

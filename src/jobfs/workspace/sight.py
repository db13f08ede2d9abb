"""What is known of a workspace at a moment: asked of the server, or remembered for as long as that may be believed.

What we change ourselves is seen at once, whatever is remembered. That something is *not* there is never believed from
memory alone. Absent from here: which bytes a file has; a reader finds out by itself that its version is gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from jobfs.engine.remote import Remote
from jobfs.errors import NotFound
from jobfs.model import Item
from jobfs.planner.view import build_view
from jobfs.workspace.places import Place
from jobfs.workspace.snapshot import Found, Snapshot, take_snapshot

_Change = Callable[[Snapshot], bool]


class Sight:
    """The last look at one workspace. One loop only.

    :param believed_s: so long a listing is believed; 0 asks the server each time.
    :param clock: monotonic seconds.
    """

    def __init__(self, remote: Remote, *, believed_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._remote = remote
        self._believed_s = believed_s
        self._clock = clock
        self._listing = asyncio.Lock()
        self._kept: Snapshot | None = None
        self._since = 0.0
        self._epoch = 0
        self._changes: list[_Change] = []
        """What we did while a listing is under way, which may show it or not."""

    async def snapshot(self) -> Snapshot:
        """Return the workspace as it is, or was not long ago.

        :raises ApiError: it could not be listed.
        """
        if not self._believed_s:
            return await take_snapshot(self._remote)
        async with self._listing:
            if (kept := self.remembered()) is not None:
                return kept
            self._changes.clear()
            epoch, since = self._epoch, self._clock()
            fresh = await take_snapshot(self._remote)
            if epoch == self._epoch and all(change(fresh) for change in self._changes):
                self._kept, self._since = fresh, since
            return fresh

    def remembered(self) -> Snapshot | None:
        """Return the last listing while it is believed."""
        is_young = self._kept is not None and self._clock() - self._since < self._believed_s
        return self._kept if is_young else None

    async def locate(self, place: Place) -> Found:
        """Find one path: from memory, else by one request where the server knows it, else by a listing (I-30).

        :raises NotFound:
        """
        kept = self.remembered()
        found = kept.get(place.path) if kept is not None else None
        if found is None and place.path:
            found = await self.ask(place.path)
            if found is not None and kept is not None:
                self.forget()  # somebody made it since
        if found is None:
            found = (kept or await self.snapshot()).get(place.path)
        if found is None or (place.is_directory and not found.is_directory):
            raise NotFound(f"{place}: there is no such file or directory", f"see 'jobfs tree {place.job}:'")
        return found

    async def ask(self, path: str) -> Found | None:
        """Ask the server for one path. That it knows none is no proof that there is none (contract I-30)."""
        item = build_view(await self._remote.find(path)).by_path.get(path)
        return Found(path, item) if item is not None else None

    def made(self, item: Item) -> None:
        """Take in what we made or changed."""
        self._note(lambda snapshot: snapshot.add(item))

    def removed(self, found: Found) -> None:
        """Take out what we deleted."""
        self._note(lambda snapshot: snapshot.get(found.path) is None or snapshot.drop(found))

    def forget(self) -> None:
        """Believe nothing that was seen until now."""
        self._epoch += 1
        self._kept = None

    def _note(self, change: _Change) -> None:
        if self._listing.locked():
            self._changes.append(change)
        if self._kept is not None and not change(self._kept):
            self.forget()


async def locate(remote: Remote, place: Place) -> Found:
    """Find one path, once: by one request where the server knows it, else by a listing.

    :raises NotFound:
    """
    return await Sight(remote).locate(place)

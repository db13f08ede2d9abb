"""All that can be done with the files of one workspace, path by path.

Paths are written with slashes, relative to the root of the workspace; a slash at either end changes nothing, and "" is
the root. Every change goes by the protocols of the contract, as a mount's does: a file over an existing one replaces it
only if it still is the version that we saw, and no reader ever sees half a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

from jobfs.engine.remote import Remote
from jobfs.errors import Changed, IsDirectory, NotEmpty, NotFound, ParentMissing, PathExists, Refused, SettingsError
from jobfs.model import Item, Permission
from jobfs.workspace.arguments import PATH, PLACE, TEXT, Wanted, check, check_content
from jobfs.workspace.changes import Writer, check_parent, open_writer
from jobfs.workspace.connection import Connection
from jobfs.workspace.drafts import WRITING_MODES, Draft
from jobfs.workspace.line import check_changes
from jobfs.workspace.places import Place, check_new, parse_place, place_in
from jobfs.workspace.reading import Reader, fetch
from jobfs.workspace.sight import Sight
from jobfs.workspace.snapshot import Found, Snapshot

_T = TypeVar("_T")

Founds: TypeAlias = list[Found]
"""Named here, since a class that has a method ``list`` cannot name the type."""

_PERMISSION = Wanted("one of jobfs.Permission", (Permission,))
_VERSION = Wanted("what stat(), list() or write() has returned", (Found,))

_LOOKS = 3
"""So often a file is looked for anew that others keep replacing while it is opened."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms something that is being written may be sent.

    :param over: it may replace this version only.
    :param may_replace: whether it may replace anything at all.
    """

    over: Found | None = None
    may_replace: bool = True


class Files:
    """The files of one workspace or run. One loop only; ``aclose`` in the end.

    :param job: a job's id, or ``run:RUN``.
    :param believed_s: so long a listing is believed for what is there; 0 asks the server each time.
    :raises SettingsError: that is no job.
    """

    def __init__(self, connection: Connection, job: str, *, believed_s: float = 0.0) -> None:
        root = parse_place(job)
        if root.path:
            raise SettingsError(f"{job!r} names a file, not a job", "name the job alone")
        self._connection = connection
        self._job = root.job
        self._remote: Remote = connection.remote(root.job)
        self._sight = Sight(self._remote, believed_s=believed_s)
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._making = asyncio.Lock()
        self._writer: Writer | None = None
        self._under_way = 0

    @property
    def job(self) -> str:
        """The id of the job, or ``run:RUN``."""
        return self._job

    @property
    def is_open(self) -> bool:
        """Whether it is open for changes, which keeps files of the local state open."""
        return self._writer is not None

    async def rest(self) -> None:
        """Let go of what is open for changes, unless one is under way. The next change opens it again."""
        if not self._under_way:
            await self.aclose()

    async def aclose(self) -> None:
        """Wait for what is under way, and let go of everything. May be called twice."""
        self._writer = None
        stack, self._stack = self._stack, AsyncExitStack()  # whoever opens it anew meanwhile does so on another one
        await stack.aclose()

    async def settle(self) -> None:
        """Wait until replaced versions are gone from the server, which nobody else need wait for."""
        if self._writer is not None:
            await self._writer.settle()

    def forget(self) -> None:
        """Believe nothing that was seen until now."""
        self._sight.forget()

    # -- looking

    async def stat(self, path: str) -> Found:
        """Return what is at a path.

        :raises NotFound: nothing is.
        """
        return await self._sight.locate(self._place(path))

    async def exists(self, path: str) -> bool:
        """Tell whether something is at a path."""
        try:
            await self.stat(path)
        except NotFound:
            return False
        return True

    async def list(self, path: str = "") -> Founds:
        """Return what a directory holds, by name; of a file, the file itself.

        :raises NotFound: there is no such path.
        """
        place = self._place(path)
        snapshot = await self._showing(place.path)
        found = snapshot.at(place)
        return snapshot.children(found.path) if found.is_directory else [found]

    async def walk(self, path: str = "") -> AsyncIterator[tuple[str, Founds, Founds]]:
        """Yield each directory's path with its directories and its files, from one listing, as ``os.walk`` does.

        A directory that is taken out of the list is not gone into.

        :raises NotFound: there is no such path.
        """
        place = self._place(path)
        snapshot = await self._showing(place.path)
        waiting = [snapshot.at(place)]
        while waiting:
            above = waiting.pop().path
            directories, files = _parted(snapshot, above)
            yield above, directories, files
            waiting += reversed(directories)

    async def find(self, path: str = "", *, name: str | None = None, is_directory: bool | None = None) -> Founds:
        """Return what is below a directory, each directory before what it holds.

        :param name: only names that match this pattern, as a shell's.
        :param is_directory: only directories, or only files.
        :raises NotFound: there is no such path.
        """
        check("name", name, TEXT, or_none=True)
        place = self._place(path)
        snapshot = await self._showing(place.path)
        below = snapshot.below(snapshot.at(place).path)
        return [found for found in below if _matches(found, name, is_directory)]

    # -- reading

    async def read(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of a file, all of one version.

        :param offset, length: only these; fewer than asked for only at the end of the file.
        :raises NotFound: there is no such file. :raises IsDirectory: it is a directory.
        """
        check("offset", offset, PLACE)
        check("length", length, PLACE, or_none=True)
        if offset < 0 or (length or 0) < 0:
            raise SettingsError(
                "offset and length cannot be negative", "ask stat() for the size, and count from the start"
            )

        async def read(reader: Reader) -> bytes:
            return await reader.read(offset, length)

        return await self._on_present(path, read)

    async def read_text(self, path: str, *, encoding: str = "utf-8") -> str:
        """Return a file as text."""
        return (await self.read(path)).decode(encoding)

    @asynccontextmanager
    async def reading(self, path: str) -> AsyncIterator[Reader]:
        """Open a file for reading: one version of it, in any order, in constant memory.

        :raises NotFound: there is no such file. :raises IsDirectory: it is a directory.
        """
        reader = await self.open_reader(path)
        try:
            yield reader
        finally:
            reader.close()

    async def open_reader(self, path: str) -> Reader:
        """Open a file for reading; the caller closes it."""
        return Reader(self._remote, await self._file(path))

    async def download(self, path: str, target: Path | str) -> None:
        """Bring a file to a local path, whole or not at all; a local file is replaced once the new one is whole.

        :raises NotFound: there is no such file. :raises IsDirectory: it is a directory, or one is in the way.
        """
        check("target", target, PATH)

        async def bring(reader: Reader) -> None:
            await fetch(self._remote, reader.item, Path(target))

        await self._on_present(path, bring)

    async def _on_present(self, path: str, work: Callable[[Reader], Awaitable[_T]]) -> _T:
        """Do something with the present version of a file; where that is replaced meanwhile, with the next one."""
        for tries_left in reversed(range(_LOOKS)):
            async with self.reading(path) as reader:
                try:
                    return await work(reader)
                except NotFound:
                    self._sight.forget()
                    if not tries_left:
                        raise
        raise AssertionError("the last try ends above")

    async def _file(self, path: str) -> Item:
        place = self._place(path)
        found = await self._sight.locate(place)
        if found.item is None or found.is_directory:
            raise IsDirectory(f"{place} is a directory", "name a file in it")
        return found.item

    # -- writing

    async def write(
        self,
        path: str,
        data: bytes | str | Path,
        *,
        over: Found | None = None,
        may_replace: bool = True,
        parents: bool = False,
    ) -> Found:
        """Put a file at a path; return it once it is visible, whole, on the server.

        :param data: bytes, text (as UTF-8), or a local file, which is streamed in constant memory.
        :param over: replace this version only, as it was seen before.
        :param may_replace: whether a file that is there may be replaced at all.
        :param parents: make the directories above where they are missing.
        :raises PathExists: something is there, and must not be replaced.
        :raises Changed: it is not the version that was to be replaced; nothing was stored.
        :raises NotFound: the directory above is missing.
        :raises Refused: it is read-only, a directory, or belongs to all jobs.
        """
        check("over", over, _VERSION, or_none=True)
        check_content("data", data)
        if not isinstance(data, Path):
            with Draft() as draft:
                draft.add(data.encode() if isinstance(data, str) else data)
                return await self.write(path, draft.path, over=over, may_replace=may_replace, parents=parents)
        place = self._place(path)
        check_new(place)
        there = await self._sight.ask(place.path) or await self._room(place, has_parents=parents)
        if over is not None and not _is_same(there, over):
            raise Changed(f"{place} is not the version that was to be replaced", "look at the present one first")
        item = await self._send(place, data, there, may_replace=may_replace, parents=parents)
        self._sight.made(item)
        return Found(place.path, item)

    @asynccontextmanager
    async def writing(
        self, path: str, mode: str = "wb", *, over: Found | None = None, parents: bool = False
    ) -> AsyncIterator[BinaryIO]:
        """Open a file for writing: a local one, which is sent when the block ends well, and dropped when it does not.

        :param mode: ``wb`` replaces what is there, ``xb`` refuses to, ``ab`` goes on after it.
        :raises: as ``write``.
        """
        with Draft() as draft:
            terms = await self.begin(path, mode, draft)
            yield draft.file
            draft.file.flush()
            await self.write(path, draft.path, over=over or terms.over, may_replace=terms.may_replace, parents=parents)

    async def begin(self, path: str, mode: str, draft: Draft) -> Terms:
        """Prepare a draft for a mode of ``writing``, and say on which terms it may be sent.

        :raises PathExists: something is there, and must not be replaced. :raises IsDirectory: it is a directory.
        """
        check("mode", mode, TEXT)
        place = self._place(path)
        check_new(place)
        if mode not in WRITING_MODES:
            raise SettingsError(f"{mode!r} is no mode to write a file in", f"one of {', '.join(sorted(WRITING_MODES))}")
        if mode == "wb":
            return Terms()
        if not await self.exists(path):
            return Terms(may_replace=False)
        if mode == "xb":
            raise PathExists(f"{place} is there already", "choose another name")

        async def fill(reader: Reader) -> Terms:
            draft.file.seek(0)
            draft.file.truncate()
            async for part in reader.chunks():
                draft.add(part)
            return Terms(Found(place.path, reader.item))

        return await self._on_present(path, fill)

    async def _send(self, place: Place, source: Path, there: Found | None, *, may_replace: bool, parents: bool) -> Item:
        if there is not None and not may_replace:
            raise PathExists(f"{place} is there already", "choose another name")
        async with self._changing() as writer:
            try:
                return await writer.put(place, source, there)
            except ParentMissing:  # somebody removed it a moment ago
                self._sight.forget()
                if not parents:
                    raise
                await self._make_directories(place.path.rpartition("/")[0])
            except PathExists:  # somebody made it a moment ago
                self._sight.forget()
                there = await self._sight.ask(place.path)
                if there is None or not may_replace:
                    raise
            return await writer.put(place, source, there)

    async def _room(self, place: Place, *, has_parents: bool) -> Found | None:
        """See to it that a path has its directory; return what is there all the same."""
        if has_parents:
            await self._make_directories(place.path.rpartition("/")[0])
        snapshot = await self._showing(place.path.rpartition("/")[0])
        there = snapshot.get(place.path)
        if there is None:
            check_parent(snapshot, place)
        return there

    # -- changing

    async def make_directory(self, path: str, *, parents: bool = False) -> None:
        """Make a directory.

        :param parents: also those above; no failure where it is there.
        :raises PathExists: something is there; with ``parents``, a file. :raises NotFound: the directory above is not.
        """
        place = self._place(path)
        check_new(place)
        if parents:
            await self._make_directories(place.path)
            return
        snapshot = await self._showing(place.path.rpartition("/")[0])
        if snapshot.get(place.path) is not None:
            raise PathExists(f"{place} is there already", "choose another name")
        check_parent(snapshot, place)
        async with self._changing() as writer:
            self._sight.made(await writer.make_directory(place))

    async def _make_directories(self, path: str) -> None:
        """Make a directory and those above it, as far as they are missing; one task at a time, or each would."""
        parts = path.split("/") if path else []
        async with self._making:
            for length in range(1, len(parts) + 1):
                place = Place(self._job, "/".join(parts[:length]))
                there = (await self._sight.snapshot()).get(place.path)
                if there is None:
                    try:
                        async with self._changing() as writer:
                            self._sight.made(await writer.make_directory(place))
                    except PathExists:
                        self._sight.forget()
                elif not there.is_directory:
                    raise PathExists(f"{place} is a file", "choose another name")

    async def move(self, path: str, target: str) -> None:
        """Move or rename a file or directory to another path; a file that is there is replaced.

        :raises NotFound: there is nothing to move, or no directory for it. :raises PathExists: a directory is there.
        :raises Changed: somebody else changed it meanwhile. :raises Refused: it belongs to all jobs, or is the root.
        """
        place, wanted = self._place(path), self._place(target)
        async with self._changing() as writer:
            found = await self._sight.locate(place)
            if not found.path:
                raise Refused(f"{place} is the root of the workspace, which cannot be moved", "name what is in it")
            # Everything that goes with a directory must have been seen; of a file, that it is there is enough.
            snapshot = await (self._fresh() if found.is_directory else self._showing(wanted.path.rpartition("/")[0]))
            found = snapshot.at(place) if found.is_directory else found
            check_parent(snapshot, wanted)
            if wanted.path != found.path:
                there = await self._sight.ask(wanted.path) or snapshot.get(wanted.path)
                self._moved(found, await writer.move(place, found, wanted, there, snapshot))

    def _moved(self, found: Found, item: Item | None) -> None:
        if item is None:
            self._sight.forget()
        else:
            self._sight.removed(found)
            self._sight.made(item)

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Delete a file, or an empty directory.

        :param recursive: also a directory with all that it holds.
        :raises NotFound: there is no such path.
        :raises NotEmpty: the directory holds something. :raises Refused: something there belongs to all jobs.
        """
        place = self._place(path)
        async with self._changing() as writer:
            found = await self._sight.locate(place)
            if not found.is_directory:
                await writer.remove_file(place, found)
            else:
                snapshot = await self._fresh()
                found = snapshot.at(place)
                if not recursive and snapshot.children(found.path):
                    raise NotEmpty(f"{place} is not empty", "remove what it holds first, or all of it at once")
                await writer.remove(place, found, snapshot)
            self._sight.removed(found)

    async def set_permission(self, path: str, permission: Permission) -> None:
        """Set or take the write bit, the only one that the server knows.

        :raises NotFound: there is no such path. :raises Refused: it belongs to all jobs, or is the root.
        """
        check("permission", permission, _PERMISSION)
        place = self._place(path)
        async with self._changing() as writer:
            self._sight.made(await writer.set_permission(place, await self._sight.locate(place), permission))

    # -- what all of these need

    def _place(self, path: str) -> Place:
        return place_in(self._job, path)

    async def _showing(self, path: str) -> Snapshot:
        """Return the workspace with a path in it; as it is now where what is remembered has no such path."""
        snapshot = await self._sight.snapshot()
        if snapshot.get(path) is None and self._sight.remembered() is snapshot:
            return await self._fresh()
        return snapshot

    async def _fresh(self) -> Snapshot:
        """Return the workspace as it is now."""
        self._sight.forget()
        return await self._sight.snapshot()

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[Writer]:
        """Open the workspace for changes; it stays open for the next ones.

        :raises Refused: it is a run, or the profile is read-only.
        """
        check_changes(is_read_only=self._connection.settings.is_read_only)
        if self._remote.is_read_only:
            raise Refused(f"{self._job}: the files of a run cannot be changed", "copy them to a place of your own")
        self._under_way += 1
        try:
            async with self._opening:
                if self._writer is None:
                    found = self._connection
                    opened = open_writer(self._remote, found.state, found.settings.url, self._job)
                    self._writer = await self._stack.enter_async_context(opened)
                writer = self._writer
            yield writer
        finally:
            self._under_way -= 1


def _parted(snapshot: Snapshot, path: str) -> tuple[Founds, Founds]:
    inside = snapshot.children(path)
    return [found for found in inside if found.is_directory], [found for found in inside if not found.is_directory]


def _matches(found: Found, name: str | None, is_directory: bool | None) -> bool:
    if is_directory is not None and found.is_directory is not bool(is_directory):
        return False
    return name is None or fnmatchcase(found.name, name)


def _is_same(one: Found | None, other: Found) -> bool:
    """Tell whether two looks at a path saw one version of it."""
    if one is None or one.item is None or other.item is None:
        return False
    return one.item.revision == other.item.revision

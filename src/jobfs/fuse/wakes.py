"""Remote changes wake local watchers: who is told, of what, when, and by whom.

The kernel raises inotify events for system calls alone. So a child process of ours, the waker, makes some: it creates,
changes, renames and deletes *phantoms* at the places where something happened. Here is noted what happened, found out
who watches, and the waker sent. What it is answered is in ``phantoms``, its process in ``messenger``.

**Invariants**

- No request of the waker reaches the workspace, except look-ups of what is really there.
- No other program ever acts on a phantom: names that lead to one expire at once, and only the waker is told of them.
- While a place waits for its event, all that the kernel is told of it expires at once. So the waker's call is never
  answered from the kernel's cache, and nothing wrong stays there.
- An event comes after what it tells of can be seen: after the kernel has been told to forget what it knew.
- Nothing waits for the waker: no request, no notification, not the end of the mount. It may hold the lock of a
  directory, but only while it waits for an answer that is given at once.
- What is shown never depends on it. If it is lost, watchers hear no more of remote changes, and that is all.

All calls from the loop's thread.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import time
from collections.abc import Callable, Container, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import assert_never

from jobfs.fuse import waker
from jobfs.fuse.dispatch import Requests
from jobfs.fuse.messenger import Messenger, WakerLost
from jobfs.fuse.news import Changed, Created, Deleted, Moved, News, Shown, news
from jobfs.fuse.open_files import Answer
from jobfs.fuse.options import MountOptions, Wake
from jobfs.fuse.phantoms import Place, Script, Scripts, is_phantom
from jobfs.fuse.protocol import Opcode, RequestHeader
from jobfs.fuse.watches import watched_inodes
from jobfs.model import ROOT, Kind, NodeId
from jobfs.vfs.namespace import fail
from jobfs.vfs.operations import NameChange, Vfs

_log = logging.getLogger(__name__)

_MOST = 16_384
"""So many places at once can wait for their events; as many as a watcher's own queue usually holds."""

_SEARCH_SHARE = 0.05
"""Searching for watchers takes at most this share of a processor, however many processes there are."""

_SOONEST_S = 0.05
"""So long after one search for watchers, at the least, comes the next one."""

_IDLE_S = 60.0
"""So long the waker stays when there is nothing to do."""

_HARMLESS = frozenset({Opcode.LOOKUP, Opcode.GETATTR, Opcode.GETXATTR, Opcode.LISTXATTR, Opcode.STATFS, Opcode.FORGET})
"""What the waker may ask of what is really there."""

_OUTDATED = {errno.ECANCELED, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ESTALE}
_AS_IT_SHOULD = frozenset({0, *_OUTDATED})
"""How an errand ends: done, or its news is no longer so. A program was quicker, and its own call was the event."""

_AT_ONCE = 32
"""So many errands are sent at once. An answer takes longer than the errand; and while they are done, the mount is in
use."""


class Wakes:
    """The wake-ups of one mount. Made with its connection; ``begin`` once it is mounted, ``close`` before its end.

    :param told: waits until the kernel has got every notification that was sent before.
    """

    def __init__(
        self,
        vfs: Vfs,
        requests: Requests,
        options: MountOptions,
        *,
        told: Callable[[], Coroutine[object, object, None]],
    ) -> None:
        self._vfs = vfs
        self._requests = requests
        self._options = options
        self._told = told
        self.messenger = Messenger()
        self._place = Path()
        self._device = 0
        self._scripts: Scripts | None = None
        self._pending: dict[Place, Shown | None] = {}
        self._became: dict[NodeId, NodeId] = {}
        self._is_telling = False
        self._dropped = 0
        self._arrived = asyncio.Event()
        self._search_after_s = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_on(self) -> bool:
        """Whether watchers are told."""
        return self._task is not None and not self._task.done()

    def is_idle(self) -> bool:
        """Tell whether nothing waits to be told."""
        return not self._pending and not self._is_telling

    def begin(self, place: Path, device: int) -> None:
        """Begin to tell watchers.

        :param place: where it is mounted. :param device: its ``st_dev``.
        """
        # In a mount that is read-only for the kernel nobody can make an event.
        if self._options.wake is not Wake.OFF and not self._options.read_only:
            self._place = place
            self._device = device
            self._task = asyncio.create_task(self._run(), name="fuse-wakes")

    async def close(self) -> None:
        """End. The mount has to be served meanwhile."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    # -- what happened

    def note(self, change: NameChange) -> None:
        """Note a change of a name in a directory that the kernel knows. Called before anybody can see it."""
        place = Place(change.parent, change.name)
        if not self.is_on:
            return
        if change.old is not None and change.new is not None:
            self._became[change.old] = change.new
        if place in self._pending:
            self._requests.passing.update(() if change.new is None else (change.new,))
            return
        if len(self._pending) >= _MOST:
            self._dropped += 1
            return
        self._pending[place] = None if change.old is None else Shown(change.old, change.kind)
        self._requests.unsettled.add(change.parent)
        if change.new is not None:
            self._requests.passing.add(change.new)
        self._arrived.set()

    def _settle(self) -> None:
        """Let the kernel believe again what it is told of the places whose events are over."""
        shown = map(self._now, self._pending)
        self._requests.passing = {one.node for one in shown if one is not None}
        self._requests.unsettled = {place.directory for place in self._pending}

    def _now(self, place: Place) -> Shown | None:
        node = self._vfs.namespace.find(*place)
        return None if node is None else Shown(node, self._vfs.namespace.record(node).kind)

    # -- telling

    async def _run(self) -> None:
        try:
            while True:
                await self._await_news()
                await self._tell()
        except WakerLost as error:
            _log.warning("programs are no longer woken by remote changes: %s", error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the mount goes on
            _log.error("programs are no longer woken by remote changes: %s", error, exc_info=error)
        finally:
            self._pending = {}
            self._settle()
            await self.messenger.stop()

    async def _await_news(self) -> None:
        """Wait until there is something to tell, and another search for watchers is allowed."""
        while not self._arrived.is_set():
            try:
                async with asyncio.timeout(_IDLE_S if self.messenger.is_there else None):
                    await self._arrived.wait()
            except TimeoutError:
                await self.messenger.stop()
        await asyncio.sleep(self._search_after_s - time.monotonic())

    async def _tell(self) -> None:
        self._arrived.clear()
        self._is_telling = True
        batch, self._pending = self._pending, {}
        became, self._became = self._became, {}
        dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.info("%d remote changes at once were too many: watching programs are not told of them", dropped)
        try:
            await self._told()
            watched = await self._watched(batch)
            every = news(batch, self._now, became)
            wanted = [one for one in every if any(place.directory in watched for place in _places(one))]
            if wanted:
                await self._wake(wanted)
        finally:
            self._is_telling = False
            self._settle()

    async def _watched(self, batch: Iterable[Place]) -> Container[int]:
        """Return the directories in which somebody is to be told; found after the changes of the batch happened.

        Who begins to watch later than that sees them anyway.
        """
        if self._options.wake is Wake.ON:
            return {place.directory for place in batch}
        watched, cost_s = await asyncio.to_thread(_search, self._device)
        self._search_after_s = time.monotonic() + max(_SOONEST_S, cost_s / _SEARCH_SHARE)
        return watched

    async def _wake(self, every: Iterable[News]) -> None:
        """Tell watchers some news.

        :raises WakerLost:
        """
        if not self.messenger.is_there:
            await self.messenger.start(self._place, self._device)
            await self._introduce()
        for group in _groups(every):
            told = await self._send([self._errand(one) for one in group])
            forbidden = [one for one, number in zip(group, told, strict=True) if number == errno.EACCES]
            # The owner of the mount may not make anything in these directories, and cannot be made to seem to.
            hints = [_hint(self._options, place) for one in forbidden for place in _places(one)]
            numbers = {*told, *await self._send(hints)} - _AS_IT_SHOULD - {errno.EACCES}
            if numbers:
                words = ", ".join(errno.errorcode.get(number, str(number)) for number in sorted(numbers))
                _log.info("watching programs were not told of some remote changes: %s", words)

    async def _introduce(self) -> None:
        """See that the waker's requests are told from those of programs, before it does anything."""
        place = Place(ROOT, f".jobfs-{secrets.token_hex(8)}")
        script = Script(waker.PROBE, self._options, lambda: True, free=place)
        (number,) = await self._send([script])
        if number:
            raise WakerLost(f"the mount cannot be looked at: {errno.errorcode.get(number, number)}")
        if not script.is_done:
            raise WakerLost("the kernel does not tell which process asks")

    def _errand(self, one: News) -> Script:
        options, now = self._options, self._now
        match one:
            case Created(place, shown):
                verb = waker.MKDIR if shown.kind is Kind.DIRECTORY else waker.CREATE
                return Script(verb, options, lambda: now(place) == shown, free=place, kind=shown.kind)
            case Deleted(place, shown):
                verb = waker.RMDIR if shown.kind is Kind.DIRECTORY else waker.UNLINK
                return Script(verb, options, lambda: now(place) != shown, taken=place, kind=shown.kind)
            case Changed(place, shown):
                return Script(waker.CHANGE, options, lambda: now(place) == shown, taken=place)
            case Moved(old, new, shown):
                still = partial(self._has_moved, old, new, shown)
                return Script(waker.RENAME, options, still, taken=old, free=new, kind=shown.kind)
        assert_never(one)

    def _has_moved(self, old: Place, new: Place, shown: Shown) -> bool:
        return self._now(old) is None and self._now(new) == shown

    async def _send(self, scripts: Sequence[Script]) -> list[int]:
        """Have errands done; return the errno of each, or 0.

        :raises WakerLost:
        """
        numbers = dict.fromkeys(scripts, errno.ENOENT)  # where a directory is gone as well: who watches it knows
        possible = {script: places for script in scripts if (places := self._paths(script)) is not None}
        if possible:
            self._scripts = Scripts(possible)
            try:
                told = await self.messenger.ask((script.verb, places) for script, places in possible.items())
            finally:
                self._scripts = None
            numbers.update(zip(possible, told, strict=True))
        return list(numbers.values())

    def _paths(self, script: Script) -> list[tuple[str, int, str]] | None:
        """Return where the places of an errand are, or None if one is nowhere any more."""
        paths = [self._vfs.workspace.path(place.directory) for place in script.places]
        if None in paths:
            return None
        return [(path or "", *place) for path, place in zip(paths, script.places, strict=True)]

    # -- what the waker asks

    def answer(self, header: RequestHeader, body: memoryview) -> Answer:
        """Answer a request of the waker (``messenger.pid``), or one about a phantom.

        :raises OSError: ECANCELED for whatever would change something real; ESTALE for whoever comes by a phantom.
        """
        if is_phantom(header.node):
            return self._answer_phantom(header)
        if header.pid != self.messenger.pid:
            return self._requests.answer(header, body)  # about ``.jobfs``, whose numbers are even higher
        told = self._scripts.answer(header, body) if self._scripts is not None else None
        if told is not None:
            return told
        if header.opcode not in _HARMLESS:
            raise fail(errno.ECANCELED)
        return self._requests.answer(header, body)

    def _answer_phantom(self, header: RequestHeader) -> Answer:
        if header.opcode == Opcode.FORGET:
            return None
        if header.opcode in (Opcode.FLUSH, Opcode.RELEASE):
            return b""  # the kernel closes in its own name, and when it has time
        if self._scripts is None or header.pid != self.messenger.pid:
            raise fail(errno.ESTALE)
        return self._scripts.answer_phantom(header)


def _places(one: News) -> tuple[Place, ...]:
    return (one.old, one.new) if isinstance(one, Moved) else (one.place,)


def _search(device: int) -> tuple[set[int], float]:
    """Return what is watched, and how long the processor has worked to find that out."""
    begin_s = time.thread_time()
    watched = watched_inodes(device)
    return watched, time.thread_time() - begin_s


def _hint(options: MountOptions, place: Place) -> Script:
    """Return the errand that says of a place no more than that something is different there: a look tells what."""
    return Script(waker.CHANGE, options, lambda: True, taken=place)


def _groups(every: Iterable[News]) -> Iterator[list[News]]:
    """Yield the news in parts that can be sent at once: not too many, and no place twice."""
    group: list[News] = []
    places: set[Place] = set()
    for one in every:
        if len(group) == _AT_ONCE or not places.isdisjoint(_places(one)):
            yield group
            group, places = [], set()
        group.append(one)
        places.update(_places(one))
    if group:
        yield group

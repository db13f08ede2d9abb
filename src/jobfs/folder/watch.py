"""Hear of changes in the real folder from the system, as hints where to look. The only importer of ``watchdog``.

The observer's threads hand over to the loop; nothing is decided here. Whatever may have made the observer miss
something becomes a hint to look at everything, and where it cannot work at all ``trouble`` says why, naming the setting
to change; the caller then looks by itself every few seconds instead.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

_log = logging.getLogger(__name__)

_WATCHED_TWICE = "Callback with id .* already exists for watch"
"""What watchdog says where a directory and one in it are made at one time: it finds the inner one in its listing of the
outer one, and hears of it. To watch it once more changes nothing; where warnings are errors its thread would die."""
warnings.filterwarnings("ignore", _WATCHED_TWICE, RuntimeWarning)

ObserverFactory: TypeAlias = Callable[[], BaseObserver]

system_observer: ObserverFactory = Observer
"""What this system has: inotify, FSEvents, kqueue, ReadDirectoryChangesW, or polling where there is nothing."""

_HAS_LIMITS = sys.platform.startswith("linux")
_LIMITS = {
    errno.ENOSPC: "the limit of watched directories is reached; raise fs.inotify.max_user_watches with sysctl",
    errno.EMFILE: "the limit of watching programs is reached; raise fs.inotify.max_user_instances with sysctl",
}
_KINDS: list[type[events.FileSystemEvent]] = [
    events.FileCreatedEvent,
    events.FileModifiedEvent,
    events.FileMovedEvent,
    events.FileDeletedEvent,
    events.DirCreatedEvent,
    events.DirMovedEvent,
    events.DirDeletedEvent,
    *(kind for kind in [getattr(events, "FileAttribEvent", None)] if kind is not None),
]
"""Neither reads, nor that a directory "changed": what changed in it has an event of its own."""

_GROWTH = (events.DirCreatedEvent, events.DirMovedEvent)


class Watcher:
    """Watches one folder.

    :param probe: a directory outside of the folder, to find out whether the system still lets us watch more.
    :param on_hints: called on the loop's thread when there are hints to ``take``.
    :param make_observer: gives the observer.
    """

    def __init__(
        self,
        root: Path,
        *,
        probe: Path,
        on_hints: Callable[[], None],
        make_observer: ObserverFactory = system_observer,
    ) -> None:
        self._root = str(root)
        self._probe = str(probe)
        self._on_hints = on_hints
        self._make_observer = make_observer
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._hints: set[str] = set()
        self._has_grown = False
        self._observer: BaseObserver | None = None
        self._complaints = _Complaints(lambda: self._add("", has_grown=False))
        self.trouble = ""

    def start(self) -> None:
        """Begin to watch; blocks until every directory is watched, or ``trouble`` says why not."""
        logging.getLogger("watchdog").addHandler(self._complaints)
        handler = _Handler(self._root, self._add)
        try:
            self._observer = self._make_observer()
            self._observer.schedule(handler, self._root, recursive=True, event_filter=_KINDS)
            self._observer.start()
        except OSError as error:
            self._give_up(_LIMITS.get(error.errno or 0, f"changes cannot be watched: {error.strerror or error}"))
            return
        self.check(is_thorough=True)

    def check(self, *, is_thorough: bool = False) -> None:
        """Find out whether the observer still hears everything.

        :param is_thorough: also whether the system would have let it watch one directory more. An observer that runs
            into that limit below its root says nothing.
        """
        if self._observer is None:
            return
        if not self._observer.is_alive() or not all(emitter.is_alive() for emitter in self._observer.emitters):
            self._give_up("the watching of changes has ended by itself")
        elif is_thorough and _HAS_LIMITS:
            try:
                self._observer.unschedule(self._observer.schedule(_Handler(self._probe, _ignore), self._probe))
            except OSError as error:
                self._give_up(_LIMITS.get(error.errno or 0, f"changes cannot be watched: {error.strerror or error}"))

    def take(self) -> set[str]:
        """Return, and forget, the hints so far: places; "" means everything."""
        with self._lock:
            hints, self._hints = self._hints, set()
            has_grown, self._has_grown = self._has_grown, False
        if has_grown:
            self.check(is_thorough=True)
        return hints

    def stop(self) -> None:
        """End the threads; returns when they have ended."""
        logging.getLogger("watchdog").removeHandler(self._complaints)
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            if observer.ident is not None:
                observer.join()

    def _give_up(self, trouble: str) -> None:
        _log.info("%s", trouble)
        self.trouble = trouble
        self.stop()
        self._add("", has_grown=False)

    def _add(self, *places: str, has_grown: bool) -> None:
        """Note hints; called on any thread."""
        with self._lock:
            is_first = not self._hints
            self._hints.update(places)
            self._has_grown = self._has_grown or has_grown
        if is_first and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_hints)


class _Handler(events.FileSystemEventHandler):
    """Turns events into places."""

    def __init__(self, root: str, add: Callable[..., None]) -> None:
        self._prefix = root.rstrip(os.sep) + os.sep
        self._add = add

    def on_any_event(self, event: events.FileSystemEvent) -> None:
        """Note where something happened."""
        paths = [os.fsdecode(path) for path in (event.src_path, event.dest_path) if path]
        self._add(*map(self._place, paths), has_grown=isinstance(event, _GROWTH))

    def _place(self, path: str) -> str:
        return path.removeprefix(self._prefix).replace(os.sep, "/") if path.startswith(self._prefix) else ""


class _Complaints(logging.Handler):
    """Hears the library's warnings: it tells of lost events, as after an overflow, in its log alone."""

    def __init__(self, on_complaint: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_complaint = on_complaint

    def emit(self, record: logging.LogRecord) -> None:
        """Take any warning for a loss."""
        self._on_complaint()


def _ignore(*places: str, has_grown: bool) -> None:
    """Hear nothing: the probe is not about events."""

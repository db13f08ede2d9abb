"""Random edits of one workspace, by programs here and by another client there, recorded as values.

``trace_of`` makes a trace from its number alone: nothing of it depends on who plays it (``trace_players``). Edits name
what probably is there, after a rough sketch of both sides; one that turns out impossible fails for every player alike.

Some things a mount sees as they happen and a folder only when it is scanned; where a design that knows less must decide
otherwise, the traces hold back, each time with its reason.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, unique

from jobfs.planner.plan import ConflictPolicy

NAMES = ("a", "b", "c.txt", "d", "e")
DEEPEST = 3


@unique
class Verb(Enum):
    """What an edit does. The other client knows all but APPEND, BACKUP and ADOPT."""

    WRITE = "write"
    """Create a file, or write it anew in place (there: new bytes for the same item)."""
    APPEND = "append"
    SAVE = "save"
    """Write a temporary file and rename it over the path, as editors do (there: another item at the path)."""
    BACKUP = "backup"
    """Rename the file to a second name, which stays, and write it anew."""
    ADOPT = "adopt"
    """Rename the first conflict copy of a file over it: the user has decided."""
    DELETE = "delete"
    """Delete a file, or a directory with everything in it."""
    RENAME = "rename"
    """Rename a file or directory, also over a file or an empty directory."""
    MKDIR = "mkdir"
    RMDIR = "rmdir"
    LOCK = "chmod u-w"
    UNLOCK = "chmod u+w"


@dataclass(frozen=True)
class Edit:
    """One edit. ``other``: the second path of RENAME and BACKUP; ``data``: what is written."""

    verb: Verb
    path: str
    other: str = ""
    data: bytes = b""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.verb.value, self.path, self.other, self.data.decode())))


@dataclass(frozen=True)
class Batch:
    """What happens between two moments at which both sides are equal: here and there nobody sees the other's edits."""

    there: tuple[Edit, ...]
    here: tuple[Edit, ...]


@dataclass(frozen=True)
class Trace:
    """What one number plays.

    :param is_read: whether programs read everything after each batch, so that a mount has all bytes.
    """

    number: int
    policy: ConflictPolicy
    is_read: bool
    batches: tuple[Batch, ...]

    def lines(self) -> Iterator[str]:
        """Yield the trace for a reader."""
        yield f"trace {self.number}: {self.policy.value}, everything is {'read' if self.is_read else 'left unread'}"
        for number, batch in enumerate(self.batches, 1):
            yield from (f"{number} edit      there  {edit}" for edit in batch.there)
            yield from (f"{number} edit      here   {edit}" for edit in batch.here)


def trace_of(number: int) -> Trace:
    """Return the trace of a number."""
    return _Recorder(number).record()


def is_in(path: str, above: str) -> bool:
    """Tell whether a path is another one or below it."""
    return path == above or path.startswith(above + "/")


def moved(path: str, old: str, new: str) -> str:
    """Return where a path is once what it is, or lies below, was renamed."""
    return new + path[len(old) :]


class _Sketch:
    """Roughly what one side holds: path to whether it is a directory."""

    def __init__(self, paths: dict[str, bool]) -> None:
        self.paths = paths

    def has_place(self, path: str) -> bool:
        above = path.rpartition("/")[0]
        return not above or self.paths.get(above, False)

    def apply(self, edit: Edit) -> None:
        path, other = edit.path, edit.other
        match edit.verb:
            case Verb.WRITE | Verb.SAVE if self.has_place(path) and not self.paths.get(path):
                self.paths[path] = False
            case Verb.BACKUP if path in self.paths:
                self.paths[other] = False
            case Verb.MKDIR if self.has_place(path):
                self.paths.setdefault(path, True)
            case Verb.DELETE | Verb.RMDIR:
                self.paths = {old: kind for old, kind in self.paths.items() if not is_in(old, path)}
            case Verb.RENAME if path in self.paths and self.has_place(other) and not is_in(other, path):
                self.paths = {
                    moved(old, path, other) if is_in(old, path) else old: kind
                    for old, kind in self.paths.items()
                    if not is_in(old, other) or is_in(old, path)
                }
            case _:
                pass


class _Recorder:
    def __init__(self, number: int) -> None:
        self._number = number
        self._dice = random.Random(number)
        self._count = 0
        self._settled: dict[str, bool] = {}
        self._suffixes: tuple[str, ...] = (".old",)

    def record(self) -> Trace:
        dice = self._dice
        policy = dice.choices(list(ConflictPolicy), (4, 1, 1))[0]
        is_read = dice.random() < 0.7
        if is_read:  # bytes that were never read cannot be kept where the server is not to see them
            self._suffixes = (".old", "~")
        batches = [self._first()]
        batches += [self._batch(is_read) for _ in range(dice.randint(2, 4))]
        return Trace(self._number, policy, is_read, tuple(batches))

    def _first(self) -> Batch:
        """Return what the workspace starts with."""
        sketch = _Sketch({})
        edits = [Edit(Verb.MKDIR, "d"), Edit(Verb.MKDIR, "e"), Edit(Verb.MKDIR, "d/e")]
        edits += [Edit(Verb.WRITE, path, data=self._fresh()) for path in ("a", "b", "d/a", "d/e/b", "e/c.txt")]
        for edit in edits:
            sketch.apply(edit)
        self._settled = sketch.paths
        return Batch(tuple(edits), ())

    def _batch(self, is_read: bool) -> Batch:
        dice = self._dice
        there, here = _Sketch(dict(self._settled)), _Sketch(dict(self._settled))
        hot = [self._path(here) for _ in range(dice.randint(1, 3))]
        side = dice.random()
        edits_there = [self._there(there, hot, is_read) for _ in range(dice.randint(1, 4))] if side < 0.75 else []
        edits_here = [self._here(here, hot, is_read) for _ in range(dice.randint(1, 6))] if side > 0.15 else []
        if edits_there and edits_here and dice.random() < 0.15:
            edits_here.append(self._alike(edits_there, here))
        self._settled = _merged(self._settled, there.paths, here.paths)
        return Batch(tuple(edits_there), tuple(edits_here))

    def _alike(self, edits: list[Edit], here: _Sketch) -> Edit:
        """Write here what was written there: no conflict."""
        written = [edit for edit in edits if edit.verb in (Verb.WRITE, Verb.SAVE)]
        edit = self._dice.choice(written or [Edit(Verb.MKDIR, "d")])
        here.apply(edit)
        return edit

    # -- single edits

    def _there(self, sketch: _Sketch, hot: list[str], is_read: bool) -> Edit:
        weights = {
            Verb.WRITE: 5, Verb.SAVE: 2, Verb.DELETE: 2, Verb.RENAME: 3, Verb.MKDIR: 1, Verb.LOCK: 1, Verb.UNLOCK: 1
        }  # fmt: skip
        if not is_read:  # under a new time, bytes that were never read count as changed; a folder has read all of them
            for verb in (Verb.RENAME, Verb.LOCK, Verb.UNLOCK):
                del weights[verb]
        verb = self._dice.choices(list(weights), list(weights.values()))[0]
        return self._edit(verb, sketch, hot)

    def _here(self, sketch: _Sketch, hot: list[str], is_read: bool) -> Edit:
        weights = {
            Verb.WRITE: 5, Verb.APPEND: 2, Verb.SAVE: 3, Verb.BACKUP: 1, Verb.ADOPT: 1, Verb.DELETE: 2,
            Verb.RENAME: 4, Verb.MKDIR: 2, Verb.RMDIR: 1, Verb.LOCK: 1, Verb.UNLOCK: 1,
        }  # fmt: skip
        if not is_read:  # bytes that were never read, and that are replaced there, no mount has
            del weights[Verb.APPEND]
        verb = self._dice.choices(list(weights), list(weights.values()))[0]
        return self._edit(verb, sketch, hot)

    def _edit(self, verb: Verb, sketch: _Sketch, hot: list[str]) -> Edit:
        dice = self._dice
        files = [path for path, is_directory in sketch.paths.items() if not is_directory]
        directories = [path for path, is_directory in sketch.paths.items() if is_directory]
        match verb:
            case Verb.WRITE:
                path = self._path(sketch) if dice.random() < 0.4 else self._known(files, hot, sketch)
                edit = Edit(verb, path, data=self._fresh())
            case Verb.APPEND:
                edit = Edit(verb, self._known(files, hot, sketch), data=self._fresh() or b"+")
            case Verb.SAVE:
                edit = Edit(verb, self._known(files, hot, sketch), data=self._fresh())
            case Verb.BACKUP:
                path = self._known(files, hot, sketch)
                edit = Edit(verb, path, path + dice.choice(self._suffixes), self._fresh())
            case Verb.ADOPT | Verb.LOCK | Verb.UNLOCK:
                edit = Edit(verb, self._known(files, hot, sketch))
            case Verb.DELETE:
                edit = Edit(verb, self._known([*files, *directories], hot, sketch))
            case Verb.RENAME:
                kind = directories if dice.random() < 0.4 else files
                edit = Edit(verb, self._known(kind, hot, sketch), self._target(sketch, hot))
            case Verb.MKDIR:
                edit = Edit(verb, self._path(sketch))
            case Verb.RMDIR:
                edit = Edit(verb, self._known(directories, hot, sketch))
        sketch.apply(edit)
        return edit

    def _known(self, paths: list[str], hot: list[str], sketch: _Sketch) -> str:
        warm = [path for path in hot if path in paths]
        if warm and self._dice.random() < 0.6:
            return self._dice.choice(warm)
        return self._dice.choice(paths) if paths else self._path(sketch)

    def _target(self, sketch: _Sketch, hot: list[str]) -> str:
        return self._dice.choice(hot) if self._dice.random() < 0.3 else self._path(sketch)

    def _path(self, sketch: _Sketch) -> str:
        """Return a place in a directory that is there, often one that something has."""
        directories = ["", *(path for path, is_directory in sketch.paths.items() if is_directory)]
        above = self._dice.choice([path for path in directories if path.count("/") < DEEPEST - 1])
        name = self._dice.choice(NAMES)
        return f"{above}/{name}" if above else name

    def _fresh(self) -> bytes:
        """Return bytes that nobody wrote yet, often as many as others have."""
        self._count += 1
        if self._dice.random() < 0.03:
            return b""
        return f"{self._count}".encode().ljust(self._dice.choice((4, 4, 4, 9)), b".")


def _merged(base: dict[str, bool], one: dict[str, bool], other: dict[str, bool]) -> dict[str, bool]:
    """Return roughly what both sides hold when each has taken in what the other did."""
    kept = {path for path in {*one, *other} if (path in one and path in other) or path not in base}
    for path in list(kept):
        while path := path.rpartition("/")[0]:
            kept.add(path)
    above = {path.rpartition("/")[0] for path in kept}
    found: dict[str, bool] = {}
    for path in sorted(kept):
        found[path] = path in above or other.get(path, one.get(path, True))
    return found

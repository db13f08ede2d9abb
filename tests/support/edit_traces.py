"""Edits of one workspace, by programs here and by another client there, recorded as values; and random ones.

``trace_of`` makes a trace from its number alone: nothing of it depends on who plays it (``trace_players``). Edits name
what is probably there, after a rough sketch of both sides; one that turns out impossible fails whoever plays it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, unique

from jobfs.planner.plan import ConflictPolicy

NAMES = ("a", "b", "c.txt", "d", "e")
DEEPEST = 3

START = "mkdir d; mkdir e; mkdir d/e; write a 1; write b 2; write d/a 3; write d/e/b 4; write e/c.txt 5"
"""What is there before a trace begins, in different bytes for each trace."""


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

    @classmethod
    def of(cls, text: str) -> Edit:
        """Return the edit that is shown so."""
        verb = next(verb for verb in Verb if text.startswith(f"{verb.value} "))
        path, *rest = text.removeprefix(f"{verb.value} ").split(" ")
        other = rest.pop(0) if verb in (Verb.RENAME, Verb.BACKUP) else ""
        return cls(verb, path, other, " ".join(rest).encode())


def edits(text: str) -> tuple[Edit, ...]:
    """Return edits that are shown so, with semicolons between them."""
    return tuple(Edit.of(one.strip()) for one in text.split(";") if one.strip())


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


def trace_of(number: int, *, is_dense: bool = False) -> Trace:
    """Return the trace of a number.

    :param is_dense: many more edits at a time, for the search for rare differences.
    """
    return _Recorder(number, most_there=9 if is_dense else 4, most_here=14 if is_dense else 6).record()


def is_in(path: str, above: str) -> bool:
    """Tell whether a path is another one or below it."""
    return path == above or path.startswith(above + "/")


def moved(path: str, old: str, new: str) -> str:
    """Return where a path is once what it is, or lies below, was renamed."""
    return new + path[len(old) :]


class _Sketch:
    """Roughly what one side holds: path to whether it is a directory."""

    def __init__(self, paths: dict[str, bool]) -> None:
        self.paths = dict(paths)

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
    """Makes one trace.

    :param most_there: so many edits of the other client are in a batch at most; ``most_here`` likewise.
    """

    def __init__(self, number: int, *, most_there: int, most_here: int) -> None:
        self._number = number
        self._most_there = most_there
        self._most_here = most_here
        self._dice = random.Random(number)
        self._policy = self._dice.choices(list(ConflictPolicy), (4, 1, 1))[0]
        self._is_read = self._dice.random() < 0.7
        self._count = 0
        self._settled: dict[str, bool] = {}
        self._disputed: set[str] = set()
        """Where there may be conflict copies."""

    def record(self) -> Trace:
        """Return the trace."""
        batches = [self._first()]
        batches += [self._batch() for _ in range(self._dice.randint(2, 4))]
        return Trace(self._number, self._policy, self._is_read, tuple(batches))

    def _first(self) -> Batch:
        start = [replace(edit, data=self._fresh()) if edit.data else edit for edit in edits(START)]
        sketch = _Sketch({})
        for edit in start:
            sketch.apply(edit)
        self._settled = sketch.paths
        return Batch(tuple(start), ())

    def _batch(self) -> Batch:
        dice = self._dice
        there, here = _Sketch(self._settled), _Sketch(self._settled)
        hot = [self._path(here) for _ in range(dice.randint(1, 3))]
        is_there, is_here = dice.choices([(True, True), (True, False), (False, True)], (60, 15, 25))[0]
        edits_there = [self._there(there, hot) for _ in range(dice.randint(1, self._most_there) if is_there else 0)]
        edits_here = [self._here(here, hot) for _ in range(dice.randint(1, self._most_here) if is_here else 0)]
        if edits_there and edits_here and dice.random() < 0.25:
            edits_here += self._echo(edits_there, here, hot)
        self._settled = _merged(self._settled, there.paths, here.paths)
        self._disputed |= {edit.path for edit in edits_there if edit.data} & {e.path for e in edits_here if e.data}
        return Batch(tuple(edits_there), tuple(edits_here))

    def _echo(self, there: list[Edit], here: _Sketch, hot: list[str]) -> Iterator[Edit]:
        """Write here what was written there, which is no conflict, or rename elsewhere what was renamed there."""
        renames = [edit for edit in there if edit.verb is Verb.RENAME]
        known = renames or [edit for edit in there if edit.verb in (Verb.WRITE, Verb.SAVE)]
        for edit in self._dice.sample(known, min(1, len(known))):
            echo = replace(edit, other=self._target(here, hot)) if edit.verb is Verb.RENAME else edit
            here.apply(echo)
            yield echo

    # -- single edits

    def _there(self, sketch: _Sketch, hot: list[str]) -> Edit:
        weights = {
            Verb.WRITE: 5, Verb.SAVE: 2, Verb.DELETE: 2, Verb.RENAME: 3, Verb.MKDIR: 1, Verb.LOCK: 1, Verb.UNLOCK: 1
        }  # fmt: skip
        if not self._is_read:
            # Bytes that a mount never read count as others under a new time; a folder has read all of them.
            for verb in (Verb.RENAME, Verb.LOCK, Verb.UNLOCK):
                del weights[verb]
        return self._edit(self._dice.choices(list(weights), list(weights.values()))[0], sketch, hot)

    def _here(self, sketch: _Sketch, hot: list[str]) -> Edit:
        weights = {
            Verb.WRITE: 5, Verb.APPEND: 2, Verb.SAVE: 3, Verb.BACKUP: 1, Verb.ADOPT: 1, Verb.DELETE: 2,
            Verb.RENAME: 4, Verb.MKDIR: 2, Verb.RMDIR: 1, Verb.LOCK: 1, Verb.UNLOCK: 1,
        }  # fmt: skip
        if not self._is_read:
            del weights[Verb.APPEND]  # bytes that were never read, and were replaced there, a mount cannot append to
        return self._edit(self._dice.choices(list(weights), list(weights.values()))[0], sketch, hot)

    def _edit(self, verb: Verb, sketch: _Sketch, hot: list[str]) -> Edit:
        dice = self._dice
        files = [path for path, is_directory in sketch.paths.items() if not is_directory]
        directories = [path for path, is_directory in sketch.paths.items() if is_directory]
        match verb:
            case Verb.WRITE:
                path = self._path(sketch) if dice.random() < 0.4 else self._known(files, hot, sketch)
                edit = Edit(verb, path, data=self._fresh())
            case Verb.APPEND:
                # Appending nothing changes no bytes, but a mount learns that only when it comes to push the file.
                edit = Edit(verb, self._known(files, hot, sketch), data=self._fresh() or b"+")
            case Verb.SAVE:
                edit = Edit(verb, self._known(files, hot, sketch), data=self._fresh())
            case Verb.BACKUP:
                path = self._known(files, hot, sketch)
                # A name with "~" stays local (``planner.ignore``), and with it the bytes, so these must be here.
                edit = Edit(
                    verb, path, path + dice.choice((".old", "~") if self._is_read else (".old",)), self._fresh()
                )
            case Verb.ADOPT:
                edit = Edit(verb, self._known(sorted(self._disputed) or files, hot, sketch))
            case Verb.LOCK | Verb.UNLOCK:
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

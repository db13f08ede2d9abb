"""From the server's flat bag of items to paths (contract section 4, view rules 1 to 7).

``build_view`` decides which item is shown at which path; ``identify`` (identity.py) decides which node that is. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobfs.model import (
    MAX_NAME_BYTES,
    MAX_PATH_UNITS,
    Item,
    ItemId,
    Kind,
    Lifecycle,
    Problem,
    Trouble,
)
from jobfs.planner import naming

_UNUSABLE = re.compile(
    "(?:^|/)(?:\\.{0,2})(?:/|$)"  # an empty, "." or ".." part (rule 6)
    "|[\x00-\x1f\x7f\ud800-\udfff]"  # what no local system holds (rule 5)
    f"|^{re.escape(naming.OWN_FOLDER)}(?:/|$)"
)
_FINISHED_WITHIN = timedelta(hours=1)
_MOST_TOLD = 300
"""Characters of a path or an id that a problem quotes."""


@dataclass(frozen=True, slots=True)
class View:
    """What is shown where.

    :param by_path: shown path to item, every directory before what it holds; None for an implicit directory (rule 3).
    :param shadowed: items that lost their path to another one (rule 2).
    :param aliases: the shown paths that are not the items' own, with the items (rules 4, 5 and 6).
    :param hidden: our own temporaries, and what lies below them.
    :param problems: what the user has to know.
    :param opaque: shown directories below which there are items that no path shows; never to be deleted as a whole.
    """

    by_path: dict[str, Item | None]
    shadowed: tuple[Item, ...]
    aliases: dict[str, Item]
    hidden: tuple[Item, ...]
    problems: tuple[Problem, ...]
    opaque: frozenset[str]


def build_view(items: Iterable[Item]) -> View:
    """Arrange items by the view rules. The order of the items does not matter."""
    builder = _Builder()
    for item in sorted(items, key=lambda item: (item.path, item.id)):
        builder.place(item)
    return builder.finish()


def left_behind(hidden: Iterable[Item], items: Iterable[Item], ours: Container[ItemId]) -> tuple[Problem, ...]:
    """Return what the user has to know of hidden items: those that nobody has finished within an hour.

    A save hides a file for moments. What stays hidden was cut off on another machine, and may be the only copy. The
    hour is the server's, up to the newest change in the listing: its clock is compared with no other (contract I-39).

    :param hidden: of a view. :param items: of the same listing. :param ours: what base has under a hidden name.
    """
    strange = [item for item in hidden if naming.is_hidden_name(item.path.rpartition("/")[2]) and item.id not in ours]
    newest = max(filter(None, (time_of(item.updated_at) for item in items)), default=None) if strange else None
    detail = "cut off while it was saved or replaced elsewhere; the server has it under this hidden name"
    return tuple(
        Problem(None, _clipped(item.path), Trouble.HIDDEN, f"{detail} (item {_clipped(item.id)})")
        for item in strange
        if newest is not None
        and (changed := time_of(item.updated_at)) is not None
        and newest - changed > _FINISHED_WITHIN
    )


def own_names(items: Iterable[Item]) -> tuple[Problem, ...]:
    """Return what the user has to know of items at the place of our own folder, which is kept for that everywhere."""
    for item in items:
        if item.path == naming.OWN_FOLDER or item.path.startswith(f"{naming.OWN_FOLDER}/"):
            detail = f"the server has something called {naming.OWN_FOLDER}, which is jobfs' own name in every folder"
            return (Problem(None, naming.alias_name(naming.OWN_FOLDER), Trouble.HIDDEN, detail),)
    return ()


def is_older(one: str, other: str) -> bool:
    """Tell whether the first time is before the second; False where they cannot be compared (contract T-13)."""
    if one == other:
        return False
    first, second = time_of(one), time_of(other)
    return first is not None and second is not None and first < second


def time_of(text: str) -> datetime | None:
    """Return a time of the server; None where it is no time with an offset."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


def shown_path(path: str) -> str:
    """Return the path under which an item is shown: its own, or one whose unusable names are percent aliases.

    A path over the limit, which no server of the contract sends, is shown at the root: it must not cost a directory for
    each of its parts.
    """
    if naming.path_units(path) > MAX_PATH_UNITS:
        return naming.alias_name(path)
    if not _UNUSABLE.search(path) and (path.isascii() and len(path) <= MAX_NAME_BYTES):
        return path
    names = path.split("/")
    return "/".join(_part_shown(names, depth) for depth in range(len(names)))


def _part_shown(names: list[str], depth: int) -> str:
    """Return the name that one of a path's names is shown under; our own folder's is taken at the root alone."""
    name = names[depth]
    if depth == 0 and name == naming.OWN_FOLDER:
        return naming.alias_name(name)
    return naming.alias_name(name) if naming.check_name(name) is not None else name


def _is_hidden(path: str) -> bool:
    return ".jobfs-" in path and any(map(naming.is_hidden_name, path.split("/")))


def _is_private(item: Item) -> bool:
    return item.lifecycle is Lifecycle.EXPERT_JOB


def _clipped(text: str) -> str:
    """Return a text of the server's as long as a person reads it: it may be of megabytes."""
    return text if len(text) <= _MOST_TOLD else f"{text[:_MOST_TOLD]}…"


class _Builder:
    """Collects the view; ``place`` for each item, then ``finish``."""

    def __init__(self) -> None:
        self._shown: dict[str, Item | None] = {}
        self._shadowed: list[Item] = []
        self._aliases: dict[str, Item] = {}
        self._hidden: list[Item] = []
        self._problems: list[Problem] = []
        self._covered: list[str] = []
        self._told: set[str] = set()

    def place(self, item: Item) -> None:
        path = item.path
        if not path:
            self._report(item, path, Trouble.INVALID_NAME, "the server lists an item for the root; it is not shown")
        elif _is_hidden(path):
            self._hidden.append(item)
        elif item.kind is None:
            self._report(item, path, Trouble.UNKNOWN_TYPE, "an item of a type that this version does not know")
            self._covered.append(shown_path(path))
        else:
            self._show(item, shown_path(path))

    def _show(self, item: Item, path: str) -> None:
        rival = self._shown.get(path)
        if rival is None:
            self._shown[path] = item
            return
        if rival.path != item.path:  # two different names with one alias
            self._shown[self._path_with_id(path, item)] = item
            return
        winner, loser = (item, rival) if _wins(item, rival) else (rival, item)
        self._shown[path] = winner
        self._shadowed.append(loser)
        self._covered.append(path)
        if _is_private(winner) == _is_private(loser):  # a private item over a default is how things should be
            self._report(
                loser, path, Trouble.SHADOWED, "the server has several items at this path; the newest is shown"
            )

    def _report(self, item: Item, path: str, trouble: Trouble, detail: str) -> None:
        self._problems.append(Problem(None, _clipped(path), trouble, f"{detail} (item {_clipped(item.id)})"))

    def finish(self) -> View:
        self._add_ancestors()
        for path, item in self._shown.items():
            if item is not None and path != item.path:
                self._aliases[path] = item
                self._tell_alias(path, item)
        return View(
            dict(sorted(self._shown.items())),
            tuple(self._shadowed),
            self._aliases,
            tuple(self._hidden),
            tuple(self._problems),
            frozenset(self._opaque()),
        )

    def _tell_alias(self, path: str, item: Item) -> None:
        """Tell of a name that cannot be had here, once for all that is below it."""
        raw = item.path
        if naming.path_units(raw) > MAX_PATH_UNITS:
            trouble, place = Trouble.PATH_TOO_LONG, path
        else:
            names, shown = raw.split("/"), path.split("/")
            unusable = (depth for depth, name in enumerate(names) if _part_shown(names, depth) != name)
            depth = next(unusable, None)
            if depth is None:
                return  # another item has its name, which was told
            trouble = naming.check_name(names[depth]) or Trouble.INVALID_NAME
            place = "/".join(shown[: depth + 1])
        if place not in self._told:
            self._told.add(place)
            detail = "its name on the server cannot be had here; it is shown, and kept in step, under this one"
            self._problems.append(Problem(None, place, trouble, f"{detail} (item {_clipped(item.id)})"))

    def _add_ancestors(self) -> None:
        """Give every shown item its directories (rule 3), and files that are in their way another name (rule 4)."""
        for path in list(self._shown):
            parent = path.rpartition("/")[0]
            while parent:
                if parent in self._shown:  # its own ancestors come with it
                    item = self._shown[parent]
                    if item is not None and item.kind is not Kind.DIRECTORY:
                        self._rename_file(parent, item)
                    break
                self._shown[parent] = None
                parent = parent.rpartition("/")[0]

    def _rename_file(self, path: str, file: Item) -> None:
        alias = self._path_with_id(path, file)
        self._shown[path], self._shown[alias] = None, file
        for loser in self._shadowed:  # a directory item that lost to the file now has the name after all
            if loser.path == file.path and loser.kind is Kind.DIRECTORY:
                self._shown[path] = loser
                self._shadowed.remove(loser)
                break
        detail = f"a file and a directory have this path; the file is shown as {alias}"
        self._report(file, path, Trouble.KIND_COLLISION, detail)

    def _path_with_id(self, path: str, item: Item) -> str:
        above, _, name = path.rpartition("/")
        prefix = f"{above}/" if above else ""
        alias = prefix + naming.alias_with_id(name, item.id)
        count = 1
        while alias in self._shown:
            count += 1
            alias = prefix + naming.alias_with_id(name, f"{count}-{item.id}")
        return alias

    def _opaque(self) -> set[str]:
        found: set[str] = set()
        for path in self._covered:
            if path in self._shown:
                item = self._shown[path]
                if item is None or item.kind is Kind.DIRECTORY:
                    found.add(path)
            parent = path.rpartition("/")[0]
            while parent and parent not in found:
                found.add(parent)
                parent = parent.rpartition("/")[0]
        return found


def _wins(one: Item, other: Item) -> bool:
    """View rule 2: private over default, then the later, then the greater id."""
    if _is_private(one) != _is_private(other):
        return _is_private(one)
    if is_older(other.updated_at, one.updated_at):
        return True
    return not is_older(one.updated_at, other.updated_at) and one.id > other.id

"""From a burst of file system events to the places that must be looked at. Pure.

Events are hints: they say where to look, never what happened. A hint too many costs one look; so everything that makes
a hint doubtful widens it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

from jobfs.planner.naming import is_hidden_name

MANY = 5000
"""So many single places cost more than a walk over everything."""


@dataclass(frozen=True, slots=True)
class Places:
    """What a scan has to look at.

    :param entries: single places, each by itself.
    :param trees: directories with everything below them; "" is the whole folder.
    """

    entries: frozenset[str] = frozenset()
    trees: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.entries or self.trees)

    def __or__(self, other: Places) -> Places:
        return Places(self.entries | other.entries, self.trees | other.trees)


NOWHERE = Places()
EVERYWHERE = Places(trees=frozenset({""}))


def coalesce(hints: Iterable[str], is_ignored: Callable[[str], bool]) -> Places:
    """Return the places that hints are about, each once.

    :param hints: places; the root itself, which no event of a change below it names, means everything.
    :param is_ignored: tells whether a place stays local whatever it is.
    """
    wanted = {hint for hint in hints if not is_hidden_name(hint.rpartition("/")[2]) and not is_ignored(hint)}
    return EVERYWHERE if "" in wanted else reduced(Places(frozenset(wanted)))


def reduced(places: Places) -> Places:
    """Return the same without what a tree covers already, and everything where it is too much to look at singly."""
    if "" in places.trees or len(places.entries) > MANY:
        return EVERYWHERE
    trees: set[str] = set()
    for tree in sorted(places.trees):  # what is above comes first
        if not is_covered(tree, trees):
            trees.add(tree)
    return Places(frozenset(entry for entry in places.entries if not is_covered(entry, trees)), frozenset(trees))


def is_covered(place: str, trees: Set[str]) -> bool:
    """Tell whether a place is one of some directories or below one."""
    if "" in trees:
        return True
    while place:
        if place in trees:
            return True
        place = place.rpartition("/")[0]
    return False

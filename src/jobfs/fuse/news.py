"""What watchers have to be told, from what programs could see before and what they can see now. Pure.

As with everything that has to be done, there is no queue of what happened: of each place only what was there when
watchers last heard of it is kept, and what they are told follows from what is there when they are told. So whatever
came and went meanwhile costs nothing, and nobody is told of what is no longer so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from jobfs.fuse.phantoms import Place
from jobfs.model import Kind, NodeId


class Shown(NamedTuple):
    """What is at a place."""

    node: NodeId
    kind: Kind


@dataclass(frozen=True, slots=True)
class Created:
    """A name came."""

    place: Place
    now: Shown


@dataclass(frozen=True, slots=True)
class Changed:
    """A file has other bytes: it is another node."""

    place: Place
    now: Shown


@dataclass(frozen=True, slots=True)
class Deleted:
    """A name went."""

    place: Place
    before: Shown


@dataclass(frozen=True, slots=True)
class Moved:
    """A node went from one place to another."""

    old: Place
    new: Place
    now: Shown


News: TypeAlias = Created | Changed | Deleted | Moved


def news(
    before: Mapping[Place, Shown | None], now: Callable[[Place], Shown | None], became: Mapping[NodeId, NodeId]
) -> Iterator[News]:
    """Yield what watchers have to be told, in the order of the places.

    :param before: what was at each place when watchers last heard of it.
    :param now: what is there.
    :param became: by which node a node was replaced; a file that somebody moved counts as a new version as well.
    """

    def latest(node: NodeId) -> NodeId:
        while node in became:
            node = became[node]
        return node

    gone = {latest(was.node): place for place, was in before.items() if was is not None and now(place) is None}
    came = {shown.node for place, was in before.items() if was is None and (shown := now(place)) is not None}
    for place, was in before.items():
        shown = now(place)
        if was is None:
            if shown is not None:
                source = gone.get(shown.node)
                yield Created(place, shown) if source is None else Moved(source, place, shown)
        elif shown is None:
            if latest(was.node) not in came:
                yield Deleted(place, was)
        elif was.kind is shown.kind is Kind.FILE:
            yield Changed(place, shown)
        elif was != shown:
            yield Deleted(place, was)
            yield Created(place, shown)

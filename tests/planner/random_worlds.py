"""Random worlds for the laws: a base, and what each side did to it since."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from jobfs.model import Content, Entry, Kind, NodeId, Permission

from .small_world import Tree, World

NAMES = ("a", "b", "c.txt")
Deed = tuple[int, int, int, int]


@dataclass(frozen=True)
class Thing:
    """A node on one side, apart from what the planner knows of it.

    :param text: the content of a file; None for a directory.
    :param writes: counts up when the bytes are written, equal or not.
    :param is_known: whether base has the digest of the content.
    :param is_remade: whether the item was deleted and created again.
    """

    parent: int
    name: str
    text: str | None
    writes: int = 0
    is_read_only: bool = False
    is_shared: bool = False
    has_item: bool = True
    is_known: bool = True
    is_remade: bool = False


@dataclass
class Side:
    """The things of one side, and deeds that change them as a file system would."""

    things: dict[int, Thing] = field(default_factory=dict)
    next_number: int = 2

    def at(self, parent: int, name: str) -> int | None:
        return next((n for n, t in self.things.items() if (t.parent, t.name) == (parent, name)), None)

    def directories(self) -> list[int]:
        return [1, *(n for n, t in self.things.items() if t.text is None)]

    def is_within(self, number: int, top: int) -> bool:
        while number != 1:
            if number == top:
                return True
            number = self.things[number].parent
        return False

    def remove(self, top: int) -> None:
        for number in [n for n in self.things if self.is_within(n, top)]:
            self.things.pop(number)

    def do(self, deed: Deed) -> None:
        what, which, where, how = deed
        directories = self.directories()
        parent = directories[where % len(directories)]
        name = NAMES[how % len(NAMES)]
        text = f"{'x' * (which % 3)}{how}"
        if what in (0, 1):
            if self.at(parent, name) is None:
                self.things[self.next_number] = Thing(parent, name, text if what == 0 else None)
                self.next_number += 1
            return
        if not self.things:
            return
        number = sorted(self.things)[which % len(self.things)]
        thing = self.things[number]
        if what == 2:
            self.remove(number)
        elif what == 3:
            self._move(number, parent, name)
        elif what == 4:
            self.things[number] = replace(thing, is_read_only=not thing.is_read_only)
        elif thing.text is not None and what == 5:
            self.things[number] = replace(thing, text=text, writes=thing.writes + 1)
        elif thing.text is not None and what == 6:  # written again, with the same bytes
            self.things[number] = replace(thing, writes=thing.writes + 1)
        elif what == 7:  # another node at the same place
            self.remove(number)
            self.things[self.next_number] = replace(thing, text=None if thing.text is None else text)
            self.next_number += 1

    def _move(self, number: int, parent: int, name: str) -> None:
        target = self.at(parent, name)
        if target == number or self.is_within(parent, number):
            return
        if target is not None:
            if self.things[target].text is None or self.things[number].text is None:
                return
            self.things.pop(target)
        self.things[number] = replace(self.things[number], parent=parent, name=name)


_DEED = st.tuples(st.integers(0, 7), st.integers(0, 9), st.integers(0, 5), st.integers(0, 9))


@st.composite
def sides(draw: st.DrawFn, *, plain: bool = False) -> tuple[Side, Side, Side]:
    """Draw a base and two sides that come from it.

    :param plain: without shared items and implicit directories, which the two sides do not treat alike.
    """
    base = Side()
    for deed in draw(st.lists(st.tuples(st.integers(0, 1), *[st.integers(0, 9)] * 3), max_size=9)):
        base.do(deed)
    special = draw(st.sets(st.integers(2, 11), max_size=2)) if not plain else set()
    unseen = draw(st.sets(st.integers(2, 11), max_size=3))
    for number, thing in base.things.items():
        thing = replace(thing, is_known=number not in unseen)
        if number in special:
            thing = replace(thing, is_shared=True) if thing.text is not None else replace(thing, has_item=False)
        base.things[number] = thing
    one = Side(dict(base.things), 100)
    for deed in draw(st.lists(_DEED, max_size=8)):
        one.do(deed)
    other = Side(dict(base.things), 200)
    for deed in draw(st.lists(_DEED, max_size=8)):
        other.do(deed)
    return base, one, other


def build(base: Side, here: Side, there: Side) -> World:
    """Make a world in which ``here`` is local and ``there`` is remote."""
    world = World(Tree(), Tree(), Tree())
    there = _identified(base, there)
    for number in _parents_first(base):
        world.base.put(_remote_entry(world, base, number, is_seen=base.things[number].is_known))
    for number in _parents_first(there):
        world.remote.put(_remote_entry(world, there, number, before=base.things.get(number)))
    for number in _parents_first(here):
        world.local.put(_local_entry(world, here.things[number], number, base.things.get(number)))
    return world


def _identified(base: Side, there: Side) -> Side:
    """Give what was deleted and created again on the server its former number, as ``identify`` does."""
    former: dict[int, int] = {}
    for number in _parents_first(there):
        thing = there.things[number]
        old = base.at(former.get(thing.parent, thing.parent), thing.name)
        if number in base.things or old is None or old in there.things:
            continue
        if (base.things[old].text is None) == (thing.text is None):
            former[number] = old
    remade = {
        former.get(number, number): replace(
            thing,
            parent=former.get(thing.parent, thing.parent),
            is_remade=number in former,
            writes=thing.writes + 1 if number in former else thing.writes,
        )
        for number, thing in there.things.items()
    }
    return Side(remade, there.next_number)


def _parents_first(side: Side) -> list[int]:
    order = [1]
    for number in order:
        order.extend(sorted(n for n, t in side.things.items() if t.parent == number))
    return order[1:]


def _entry(number: int, thing: Thing) -> Entry:
    kind = Kind.DIRECTORY if thing.text is None else Kind.FILE
    permission = Permission.READ_ONLY if thing.is_read_only else Permission.READ_WRITE
    return Entry(NodeId(number), NodeId(thing.parent), thing.name, kind, permission)


def _remote_entry(
    world: World, side: Side, number: int, *, before: Thing | None = None, is_seen: bool = False
) -> Entry:
    thing, known = side.things[number], world.base.get(NodeId(number))
    item = (
        known.item
        if known is not None and not thing.is_remade
        else world.new_item()
        if thing.has_item or thing.text
        else None
    )
    entry = replace(_entry(number, thing), item=item, is_shared=thing.is_shared)
    if thing.text is None:
        return entry
    assert item is not None
    is_kept = before is not None and before.writes == thing.writes and not thing.is_remade
    if is_kept and known is not None:
        return replace(entry, content=known.content)
    revision = world.new_revision(item, thing.text)
    return replace(entry, content=Content(len(thing.text), thing.text if is_seen else None, revision))


def _local_entry(world: World, thing: Thing, number: int, before: Thing | None) -> Entry:
    entry, known = _entry(number, thing), world.base.get(NodeId(number))
    if thing.text is None:
        return entry
    if before is not None and known is not None and before.writes == thing.writes:
        return replace(entry, content=known.content)
    return replace(entry, content=Content(len(thing.text), thing.text))


def texts_at_stake(base: Side, one: Side, other: Side) -> set[str]:
    """Return the contents that must be somewhere in the end: what a side wrote, and what neither side took away."""
    stake = set()
    before = {thing.text for thing in base.things.values()}  # written again it counts as unchanged
    for side in (one, other):
        stake.update(
            thing.text for thing in side.things.values() if thing.text is not None and thing.text not in before
        )
    for number, thing in base.things.items():
        here, there = one.things.get(number), other.things.get(number)
        if thing.text is not None and here is not None and there is not None and here.text == there.text == thing.text:
            stake.add(thing.text)
    return stake

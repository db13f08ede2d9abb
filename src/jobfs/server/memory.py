"""Items in memory: the store of the rules where nothing has to outlive the process, as in a simulation."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from jobfs.server.items import ItemRecord, ItemStore, Order, View


class MemoryItems(ItemStore):
    """Satisfies ``ItemStore``. Cost of a lookup follows the number of items: meant for small workspaces.

    :param shuffle: randomness of the order ``random``.
    """

    def __init__(self, shuffle: random.Random | None = None) -> None:
        self._items: dict[str, ItemRecord] = {}
        self._hidden: dict[str, set[str]] = {}
        self._shuffle = shuffle or random.Random(0)  # noqa: S311  (an order, not a secret)
        self.touched: dict[str, int] = {}

    def get(self, item_id: str) -> ItemRecord | None:
        return self._items.get(item_id)

    def at(self, space: str, path: str) -> Sequence[ItemRecord]:
        found = [item for item in self._items.values() if item.space == space and item.path == path]
        return sorted(found, key=_age)

    def below(self, space: str, path: str) -> Sequence[ItemRecord]:
        prefix = path + "/"
        found = [item for item in self._items.values() if item.space == space and item.path.startswith(prefix)]
        return sorted(found, key=lambda item: (item.path, item.id))

    def put(self, record: ItemRecord) -> None:
        self._items[record.id] = record

    def carry(self, items: Iterable[ItemRecord]) -> None:
        for item in items:
            self._items[item.id] = replace(self._items[item.id], path=item.path, shown=item.shown)

    def remove(self, items: Iterable[ItemRecord]) -> None:
        for item in items:
            self._items.pop(item.id, None)
            for hidden in self._hidden.values():
                hidden.discard(item.id)

    def hide(self, instance: str, items: Iterable[ItemRecord]) -> None:
        self._hidden.setdefault(instance, set()).update(item.id for item in items)

    def hidden_from(self, instance: str) -> Collection[str]:
        return self._hidden.get(instance, set())

    def page(self, view: View, *, order: Order, skip: int, take: int) -> Sequence[ItemRecord]:
        seen = self._seen(view)
        match order:
            case "created":
                seen.sort(key=_age)
            case "shuffled":
                seen.sort(key=lambda item: item.id[::-1])
            case "random":
                self._shuffle.shuffle(seen)
        return seen[skip : skip + take] if take >= 0 else seen[skip:]

    def count(self, view: View) -> int:
        return len(self._seen(view))

    def touch(self, space: str, at_ms: int) -> None:
        self.touched[space] = at_ms

    def _seen(self, view: View) -> list[ItemRecord]:
        hidden = self.hidden_from(view.instance) if view.instance else ()
        spaces = (view.own, view.application)
        return [item for item in self._items.values() if item.space in spaces and item.id not in hidden]


def _age(item: ItemRecord) -> tuple[int, str]:
    return item.created_ms, item.id

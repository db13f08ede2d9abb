"""Items as the server holds them, and what the rules need of a store.

An item lives in a *space*: the workspace of an application, or the instance of one job. The space decides the
lifecycle: an item in an application's space is an ``application`` item, any other is an ``expertJob`` item. A *view* is
what one caller sees: an application's space alone, or an instance over it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Owner = Literal["user", "expert"]
Access = Literal["readOnly", "readWrite"]
Order = Literal["created", "shuffled", "random"]


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One file or directory.

    :param space: the application's workspace or the instance that it lives in.
    :param path: normal form; ``shown`` is the spelling of answers (contract I-9).
    :param created_ms: milliseconds since 1970; ``updated_ms`` strictly increases with each change of this item.
    :param key: of the content; empty for a directory. Several items may share one.
    """

    id: str
    space: str
    is_directory: bool
    owner: Owner
    permission: Access
    path: str
    shown: str
    created_ms: int
    updated_ms: int
    key: str = ""
    mime_type: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """Whose eyes look.

    :param application: space of the application.
    :param instance: space of the job's instance; None for the application's own view.
    """

    application: str
    instance: str | None = None

    @property
    def own(self) -> str:
        """The space in which this view creates."""
        return self.instance or self.application


class ItemStore(Protocol):
    """Where the rules keep items. Plain calls inside one transaction of the caller."""

    def get(self, item_id: str) -> ItemRecord | None:
        """Return one item of any space."""

    def at(self, space: str, path: str) -> Sequence[ItemRecord]:
        """Return the items at exactly this normal path, the newest last."""

    def below(self, space: str, path: str) -> Sequence[ItemRecord]:
        """Return the items strictly below a normal path, parents before what they hold."""

    def put(self, record: ItemRecord) -> None:
        """Insert an item, or replace the one of the same id."""

    def carry(self, items: Iterable[ItemRecord]) -> None:
        """Give items of these ids the paths that they have here; all else stays as it is."""

    def remove(self, items: Iterable[ItemRecord]) -> None:
        """Forget items; content that nothing refers to any more goes with them."""

    def hide(self, instance: str, items: Iterable[ItemRecord]) -> None:
        """Take application items out of one instance's view (contract I-27, ``detach``)."""

    def hidden_from(self, instance: str) -> Collection[str]:
        """Return the ids of the application items that an instance does not see."""

    def page(self, view: View, *, order: Order, skip: int, take: int) -> Sequence[ItemRecord]:
        """Return a slice of everything that a view sees; ``take`` of -1 means the rest."""

    def count(self, view: View) -> int:
        """Return how many items a view sees."""

    def touch(self, space: str, at_ms: int) -> None:
        """Note that something in a space has changed."""

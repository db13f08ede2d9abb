"""What the engine needs of the far side: a job's workspace, or a finished run.

Declared here by its consumer. ``api.workspace.Workspace`` and ``api.runs.RunFiles`` satisfy it structurally; so does
the model server of the simulation. Nothing here does I/O.

Errors, for every coroutine: ``errors.ApiError`` and its subclasses. A write raises ``OutcomeUnknown`` or
``ServerFailure`` where it may have been done all the same; the caller then looks before it tries again (contract,
protocol U). Implementations repeat reads by themselves, and writes only where that is provably safe (contract T-10).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from jobfs.model import Item, ItemId, Lifecycle, Permission


class Page(Protocol):
    """One page of the item list, in no promised order."""

    @property
    def items(self) -> Sequence[Item]:
        """The rows that could be read."""

    @property
    def total(self) -> int | None:
        """The number of items that the server claims; None where it does not say."""

    @property
    def malformed(self) -> int:
        """The number of rows that could not be read: they are there, and take a place in the page."""


class Download(Protocol):
    """An open download. Chunks come as they arrive."""

    @property
    def offset(self) -> int:
        """First byte that will come: the offset asked for, or 0 where the server ignored the range."""

    @property
    def length(self) -> int | None:
        """Number of bytes announced, or None."""

    @property
    def offers_ranges(self) -> bool:
        """Whether the server says of itself that it honours ranges; not saying so means nothing."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes. Ends at the end of the body; raises ``Unreachable`` where it was cut."""


class Remote(Protocol):
    """A workspace on a server."""

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written there at all (a finished run)."""

    async def status(self) -> str:
        """Return the job's status (contract 5.3); a finished run is ``completed``."""

    def hints(self) -> AsyncIterator[object]:
        """Yield something whenever files may have changed; end where the server does not tell, or tells no more.

        A hint and nothing more: it may come late, twice or never (contract C-5 to C-8). Raises nothing of ``ApiError``.
        """

    async def list_page(self, *, skip: int, take: int) -> Page:
        """Return one page of the items."""

    async def find(self, path: str) -> Sequence[Item]:
        """Return the items whose normal path is exactly this one (filtered locally, contract I-30)."""

    async def get(self, item: ItemId) -> Item:
        """Return one item; ``NotFound`` where it is gone."""

    async def create_directory(self, path: str, permission: Permission) -> Item:
        """Create a directory whose parent exists. ``PathExists`` where the path is taken."""

    async def create_file(self, path: str, permission: Permission, source: Path | bytes, mime_type: str) -> Item:
        """Create a file from the bytes of a local file, streamed in constant memory, or from few bytes themselves."""

    async def update(
        self,
        item: ItemId,
        *,
        path: str | None = None,
        permission: Permission | None = None,
        lifecycle: Lifecycle | None = None,
    ) -> Item:
        """Change what is given; returns the item as it then is."""

    async def delete(self, item: ItemId) -> None:
        """Delete an item, a directory with everything below it. ``NotFound`` where it was gone before the first try."""

    def download(
        self, item: ItemId, *, offset: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[Download]:
        """Open the content. A range is a wish: see ``Download.offset``."""

"""A workspace as it is now, for the commands without a mount; whoever waits for it at a terminal sees how far it is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from jobfs.cli.terminal import many, progress
from jobfs.engine.listing import Pages
from jobfs.engine.remote import Page
from jobfs.workspace.snapshot import Snapshot, take_snapshot

_PATIENCE_S = 0.5
"""So long nobody wonders: most listings have come by then, and load nothing that draws."""

_REDRAW_S = 0.1


async def list_workspace(remote: Pages) -> Snapshot:
    """List a workspace.

    :raises ApiError: a page could not be had.
    """
    counted = CountedPages(remote)
    async with _shown(counted):
        return await take_snapshot(counted)


class CountedPages:
    """The pages of a workspace, and how many items have come; satisfies ``engine.listing.Pages``."""

    def __init__(self, remote: Pages) -> None:
        self._remote = remote
        self._items = 0
        self._total: int | None = None

    async def list_page(self, *, skip: int, take: int) -> Page:
        """Return one page. The one at the start begins anew: what came before did not fit together."""
        page = await self._remote.list_page(skip=skip, take=take)
        rows = len(page.items) + page.malformed
        self._items = rows if not skip else self._items + max(0, rows - 1)  # each begins with the last row before it
        self._total = page.total
        return page

    def told(self) -> str:
        """Say how far it is."""
        if not self._items:
            return "listing the workspace"
        if self._total is None:
            return f"listing the workspace: {many(self._items, 'item')}"
        return f"listing the workspace: {self._items:,} of {many(self._total, 'item')}"


@asynccontextmanager
async def _shown(counted: CountedPages) -> AsyncIterator[None]:
    """Show on a terminal how far it is, where it takes long; nothing of it stays."""
    if not sys.stderr.isatty():
        yield
        return
    showing = asyncio.create_task(_show(counted), name="listing-display")
    try:
        yield
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing


async def _show(counted: CountedPages) -> None:
    await asyncio.sleep(_PATIENCE_S)
    with progress(counted.told()) as display:
        while True:
            await asyncio.sleep(_REDRAW_S)
            display.show(counted.told())

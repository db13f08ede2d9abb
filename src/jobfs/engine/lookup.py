"""Find out what became of a write whose answer was lost (contract, protocol U)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from jobfs.engine.remote import Remote
from jobfs.errors import NotFound, OutcomeUnknown, ServerFailure
from jobfs.model import Content, Item, ItemId, Kind

COMPARE_BYTES = 1 << 20
"""Up to here bytes are compared; of larger files the length has to do."""


async def find_created(
    remote: Remote, path: str, kind: Kind, content: Content | None, known: ItemId | None = None
) -> Item | None:
    """Return the item that an unanswered create made at a path, or None where it made none.

    A file is adopted when its size is the one sent and, up to 1 MiB, its bytes are too; larger ones by size alone.

    :param known: an item that was there before and is not the one.
    """
    for item in await remote.find(path):
        if item.id == known or item.kind is not kind:
            continue
        if content is None:
            return item
        if item.size == content.size and await _holds(remote, item, content):
            return item
    return None


async def _holds(remote: Remote, item: Item, content: Content) -> bool:
    if content.sha256 is None or item.size > COMPARE_BYTES:
        return True
    return await digest_of(remote, item.id) == content.sha256


async def digest_of(remote: Remote, item: ItemId) -> str:
    """Return the SHA-256 of an item's bytes as they come, without keeping them."""
    digest = hashlib.sha256()
    async with remote.download(item) as download:
        async for chunk in download.chunks():
            digest.update(chunk)
    return digest.hexdigest()


async def get_if_there(remote: Remote, item: ItemId) -> Item | None:
    """Return an item, or None where it is gone."""
    try:
        return await remote.get(item)
    except NotFound:
        return None


async def move(remote: Remote, item: ItemId, path: str, *, on_doubt: Callable[[], None] = lambda: None) -> Item:
    """Move an item; where the answer is lost, look before trying again (protocol U).

    :param on_doubt: called where the request is sent anew, so that the first one may be done as well, later.
    :raises NotFound: the item is gone. :raises PathExists: the target is taken by another item.
    """
    try:
        return await remote.update(item, path=path)
    except (OutcomeUnknown, ServerFailure):
        found = await remote.get(item)
        if found.path == path:
            return found
        on_doubt()
        return await remote.update(item, path=path)


async def delete(remote: Remote, item: ItemId, *, on_doubt: Callable[[], None] = lambda: None) -> None:
    """Delete an item; gone is done (contract I-25).

    :param on_doubt: called before the request is sent anew; may raise to prevent that.
    """
    try:
        await remote.delete(item)
    except NotFound:
        return
    except (OutcomeUnknown, ServerFailure):
        if await get_if_there(remote, item) is not None:
            on_doubt()
            await remote.delete(item)

"""Receive one content completely and provably: the right length, from one revision, with its hash.

Used by the hydrator (into a blob that readers are served from meanwhile) and by folder mode (into a file beside the
target). A small content is one request. A large one may be several (``pieces``) and one more that proves that all of
them were of one version.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobfs.engine.landing import Answer, BadContent, Landing, WrongLength
from jobfs.engine.pieces import Pieces, Want
from jobfs.engine.remote import Remote
from jobfs.errors import NotFound, ProtocolViolation
from jobfs.model import Revision
from jobfs.store.blobs import disk_errors
from jobfs.store.system import System

SMALL_BYTES = 8 << 20
"""Up to here a content is one request: the round trip that a proof takes costs more than a second stream gains."""

_LENGTH_TRIES = 2
_HASHED_AT_ONCE = 32 << 20
_HASH_CHUNK = 1 << 20


class RevisionGone(NotFound):
    """The server no longer has this revision: the file was changed or deleted since the listing."""


async def receive(remote: Remote, revision: Revision, descriptor: int, system: System = os) -> str:
    """Download a revision's bytes into an open, empty file and return their SHA-256, lower-case hex.

    :param descriptor: open for reading and writing. :param system: whose file that is.
    :raises: as ``Transfer.run``.
    """
    return await Transfer(remote, revision, descriptor, system=system).run()


class Transfer:
    """One content on its way into a file that can be read meanwhile.

    :param descriptor: of an open file, for reading and writing; closed by the caller, after ``run``.
    :param system: whose file that is.
    :param is_honoured: whether the server was seen to honour ranges.
    :param on_learnt: told by each answer to a ranged request whether it did.
    :param on_offer: called where an answer to another request says that ranges are honoured.
    :param on_change: called whenever more is shown, or something else went on.
    :param is_same: tells whether another revision of the item has the same bytes: after a change of ours to its name.
    :param was_read: whether somebody was given bytes of this revision by an earlier download. An item may have changed
        since without changing its size, so nothing is shown before the item was looked at again.
    """

    def __init__(
        self,
        remote: Remote,
        revision: Revision,
        descriptor: int,
        *,
        system: System = os,
        is_honoured: bool = False,
        on_learnt: Callable[[bool], None] = lambda is_honoured: None,
        on_offer: Callable[[], None] = lambda: None,
        on_change: Callable[[], None] = lambda: None,
        is_same: Callable[[Revision], bool] = lambda revision: False,
        was_read: bool = False,
    ) -> None:
        self.revision = revision
        """The revision whose bytes these are: the given one, or a later one with the same bytes."""
        self.is_read = False
        """Set by whoever gave bytes to a reader. The download cannot start over then: he would get a mixture."""
        self._remote = remote
        self._landing = Landing(descriptor, revision.size, self._changed, system=system, trusts_first=not was_read)
        self._is_honoured = is_honoured
        self._on_learnt = on_learnt
        self._on_offer = on_offer
        self._on_change = on_change
        self._is_same = is_same
        self._wants: list[Want] = []
        self._pieces: Pieces | None = None

    @property
    def steps(self) -> int:
        """Grows with every sign of life but bytes."""
        return self._landing.steps

    @property
    def received(self) -> int:
        """So many bytes came."""
        return self._landing.received

    @property
    def arrived(self) -> int:
        """Number of bytes that are here."""
        return sum(end - start for start, end in self._landing.present)

    def shows(self, start: int, end: int) -> bool:
        """Tell whether a reader may be given these bytes."""
        return self._landing.shown.holds(start, end)

    @contextmanager
    def wanted(self, start: int, end: int) -> Iterator[None]:
        """Say that somebody waits for these bytes, for as long as the block runs: they may then come out of order."""
        want = Want(start, end)
        self._wants.append(want)
        try:
            self._consider()
            yield
        finally:
            self._wants.remove(want)
            if want.task is not None and not self.shows(start, end):  # otherwise it goes on, and is used to its end
                want.task.cancel()

    async def run(self) -> str:
        """Bring the bytes and return their SHA-256, lower-case hex.

        The size in the listing is checked against what arrives (contract I-40): on a mismatch the item is read again,
        and the download tried once more where it still is the same revision and nobody was given any of the bytes.

        :raises RevisionGone: the item changed or is gone.
        :raises BadContent: the server has no bytes for it, or sent another length than it lists.
        :raises ApiError: the download failed. :raises StateFull: the disk is full.
        """
        for tries_left in reversed(range(_LENGTH_TRIES)):
            self._landing.clear()
            try:
                return await (self._small() if self.revision.size <= SMALL_BYTES else self._large())
            except RevisionGone:
                raise
            except NotFound as error:
                await self._check()
                raise BadContent(
                    "the server lists the file but has no bytes for it", "try again later", status=error.status
                ) from error
            except WrongLength:
                await self._check()
                if self.is_read or not tries_left:
                    raise
            finally:
                self._pieces = None
        raise AssertionError("the last try ends above")

    async def _small(self) -> str:
        digest = hashlib.sha256()
        answer = Answer(0, self.revision.size)
        async with self._remote.download(self.revision.item) as download:
            self._landing.open(answer)
            if download.offers_ranges:
                self._on_offer()
            async for chunk in download.chunks():
                self._landing.write(answer, chunk)
                digest.update(chunk)
        self._landing.close(answer)
        if unproven := self._landing.unproven():
            await self._check()
            self._landing.prove(unproven)
        return digest.hexdigest()

    async def _large(self) -> str:
        self._pieces = Pieces(
            self._remote,
            self.revision.item,
            self._landing,
            self._wants,
            check=self._check,
            is_honoured=self._is_honoured,
            on_learnt=self._learn,
        )
        await self._pieces.run()
        return await self._hash()

    async def _hash(self) -> str:
        """Hash the whole in a thread; a sign of life after each part, for those who wait for the end."""
        digest = hashlib.sha256()
        for at in range(0, self.revision.size, _HASHED_AT_ONCE):
            length = min(_HASHED_AT_ONCE, self.revision.size - at)
            work = asyncio.to_thread(_hash_part, digest.update, self._landing.descriptor, at, length)
            job = asyncio.ensure_future(work)
            try:
                await asyncio.shield(job)
            except asyncio.CancelledError:
                await asyncio.gather(job, return_exceptions=True)  # the descriptor may be closed after us
                raise
            self._landing.tick()
        return digest.hexdigest()

    async def _check(self) -> None:
        """Raise ``RevisionGone`` unless the item is still what was asked for."""
        try:
            item = await self._remote.get(self.revision.item)
        except NotFound as error:
            raise RevisionGone("the file is gone from the server", status=error.status) from error
        except ProtocolViolation as error:
            raise BadContent(error.cause, error.remedy, status=error.status) from error
        if item.revision != self.revision:
            if not self._is_same(item.revision):
                raise RevisionGone("the file has changed on the server")
            self.revision = item.revision

    def _learn(self, is_honoured: bool) -> None:
        self._is_honoured = is_honoured
        self._on_learnt(is_honoured)

    def _changed(self) -> None:
        self._consider()
        self._on_change()

    def _consider(self) -> None:
        if self._pieces is not None and self._wants:
            self._pieces.consider()


def _hash_part(update: Callable[[bytes], object], descriptor: int, at: int, length: int) -> None:
    os.lseek(descriptor, at, os.SEEK_SET)
    while length:
        with disk_errors():
            chunk = os.read(descriptor, min(length, _HASH_CHUNK))
        if not chunk:
            raise ProtocolViolation("the downloaded file became shorter on this disk", "keep others out of it")
        update(chunk)
        length -= len(chunk)

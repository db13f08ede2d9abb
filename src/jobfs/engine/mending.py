"""When what interrupted replaces left is mended (``replace.Replacer.mend``): by the newest listing, one at a time.

**Invariants.** No two mend at once: both would do the same things. What a listing shows meanwhile is mended after that,
and of several listings only the last. Where a listing came too early for what a replace left while it was taken,
another one is asked for; not twice in a row, or a server that refuses every replace would be listed all the time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from jobfs.engine.replace import Replacer
from jobfs.errors import JobfsError, NotFound, PathExists
from jobfs.model import Item

_log = logging.getLogger(__name__)


class Mending:
    """The mending of one workspace.

    :param on_failure: told why the server, or the store, did not let it be done; the next listing begins it again.
    :param on_early: asked for another listing.
    """

    def __init__(
        self, replacer: Replacer, *, on_failure: Callable[[JobfsError], None], on_early: Callable[[], None]
    ) -> None:
        self._replacer = replacer
        self._on_failure = on_failure
        self._on_early = on_early
        self._was_early = False
        self._newest: tuple[Sequence[Item], int] | None = None

    def take(self, hidden: Sequence[Item], epoch: int) -> bool:
        """Take what a complete listing shows under hidden names; tell whether ``run`` is to be begun; else it goes on.

        :param epoch: of the listing (``Trees.begin_listing``).
        """
        self._replacer.note_hidden(hidden)
        is_under_way, self._newest = self._newest is not None, (hidden, epoch)
        return not is_under_way

    async def run(self) -> None:
        """Mend by the newest listing, until no newer one has come."""
        done: tuple[Sequence[Item], int] | None = None
        try:
            while self._newest is not None and self._newest is not done:
                done = self._newest
                try:
                    was_early, self._was_early = self._was_early, await self._replacer.mend(*done)
                    if self._was_early and not was_early:
                        self._on_early()
                except (NotFound, PathExists) as error:
                    _log.info("left for the next listing: %s", error)
                except JobfsError as error:
                    self._on_failure(error)
        finally:
            self._newest = None

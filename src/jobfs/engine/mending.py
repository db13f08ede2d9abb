"""When what interrupted replaces left is mended (``replace.Replacer.mend``): by the newest listing, one at a time.

**Invariant.** No two mend at once: both would do the same things. What a listing shows meanwhile is mended after that,
and of several listings only the last.
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
    """

    def __init__(self, replacer: Replacer, on_failure: Callable[[JobfsError], None]) -> None:
        self._replacer = replacer
        self._on_failure = on_failure
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
                    await self._replacer.mend(*done)
                except (NotFound, PathExists) as error:
                    _log.info("left for the next listing: %s", error)
                except JobfsError as error:
                    self._on_failure(error)
        finally:
            self._newest = None

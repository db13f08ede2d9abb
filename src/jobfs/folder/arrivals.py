"""What is being written beside its place: hidden names that no scan may take for litter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Arrivals:
    """The downloads and the versions put back of one folder that are not in their places yet.

    Each has a hidden name with a token of its own. One whose token is not in here was left by a process that died.

    :param tokens: gives eight random letters for hidden names.
    """

    def __init__(self, tokens: Callable[[], str]) -> None:
        self.tokens = tokens
        self._present: set[str] = set()

    def __contains__(self, token: object) -> bool:
        """Tell whether what has this token in its name is on its way to its place."""
        return token in self._present

    @contextmanager
    def one(self) -> Iterator[str]:
        """Give a token that is in here until the block ends, when the hidden name is gone."""
        token = self.tokens()
        self._present.add(token)
        try:
            yield token
        finally:
            self._present.discard(token)

"""An operation that finds no room is tried once more, where clean copies could give way.

That is safe for whatever fails with ``StateFull``: it has changed nothing. Where nothing can give way the program is
told.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from jobfs.errors import StateFull


class Roomy(Protocol):
    """What has such operations."""

    def make_room(self, subject: object) -> bool:
        """Let copies give way on a full disk; tell whether it is worth trying again.

        :param subject: the first argument of the operation.
        """


_Self = TypeVar("_Self", bound=Roomy)
_Subject = TypeVar("_Subject")
_Rest = ParamSpec("_Rest")
_Result = TypeVar("_Result")


def retried(
    operation: Callable[Concatenate[_Self, _Subject, _Rest], _Result],
) -> Callable[Concatenate[_Self, _Subject, _Rest], _Result]:
    """Try an operation once more where room could be made for it."""

    @wraps(operation)
    def attempt(self: _Self, subject: _Subject, /, *rest: _Rest.args, **options: _Rest.kwargs) -> _Result:
        try:
            return operation(self, subject, *rest, **options)
        except StateFull:
            if not self.make_room(subject):
                raise
        return operation(self, subject, *rest, **options)

    return attempt


def retried_later(
    operation: Callable[Concatenate[_Self, _Subject, _Rest], Coroutine[object, object, _Result]],
) -> Callable[Concatenate[_Self, _Subject, _Rest], Coroutine[object, object, _Result]]:
    """Do the same for one that may have to wait."""

    @wraps(operation)
    async def attempt(self: _Self, subject: _Subject, /, *rest: _Rest.args, **options: _Rest.kwargs) -> _Result:
        try:
            return await operation(self, subject, *rest, **options)
        except StateFull:
            if not self.make_room(subject):
                raise
        return await operation(self, subject, *rest, **options)

    return attempt

"""The one table from failures to errno values, for every transport.

It follows contract section 3, and what a program can best act on: EACCES means that asking again is no use until the
user changes something, EIO that the server or the store failed, ETIMEDOUT that a deadline passed, ENOSPC that a disk is
full.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator

from jobfs import errors

_TABLE: dict[type[errors.JobfsError], int] = {
    errors.JobfsError: errno.EIO,
    errors.SettingsError: errno.EINVAL,
    errors.ApiError: errno.EIO,
    errors.Unauthenticated: errno.EACCES,
    errors.NotFound: errno.ESTALE,  # it was there when the kernel learnt of it; the kernel then looks the path up anew
    errors.Refused: errno.EPERM,
    errors.Forbidden: errno.EACCES,
    errors.PathExists: errno.EEXIST,
    errors.ParentMissing: errno.ENOENT,
    errors.InvalidPath: errno.EINVAL,
    errors.Changed: errno.ESTALE,
    errors.IsDirectory: errno.EISDIR,
    errors.NotEmpty: errno.ENOTEMPTY,
    errors.TooLarge: errno.EFBIG,
    errors.RateLimited: errno.EIO,  # not EAGAIN: a program that did not ask for non-blocking files does not expect it
    errors.ServerFailure: errno.EIO,
    errors.Unreachable: errno.EIO,
    errors.OutcomeUnknown: errno.EIO,
    errors.ProtocolViolation: errno.EIO,
    errors.StateError: errno.EIO,
    errors.StateLocked: errno.EIO,
    errors.StateCorrupt: errno.EIO,
    errors.StateFull: errno.ENOSPC,
    errors.MountError: errno.EIO,
    errors.FuseUnavailable: errno.EIO,
    errors.MountPointBusy: errno.EBUSY,
    errors.FolderError: errno.EIO,
    errors.HistoryError: errno.EIO,
    errors.NoSuchVersion: errno.EIO,
    errors.GuardTripped: errno.EPERM,
    errors.DeadlineExceeded: errno.ETIMEDOUT,
    errors.Interrupted: errno.EINTR,
}
"""Every class of ``errors``, by itself: a new class has to be put here, and a test sees to it."""


def errno_of(error: BaseException) -> int:
    """Return the errno, a positive number, that a program sees for a failure.

    Anything that is neither ours nor the operating system's is EIO; whoever calls this logs it.
    """
    if isinstance(error, errors.JobfsError):
        return next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if isinstance(error, asyncio.CancelledError):
        return errno.EINTR
    return errno.EIO


def is_expected(error: BaseException) -> bool:
    """Tell whether a failure is an answer like any other; everything else is a defect, to be logged as one."""
    return isinstance(error, errors.JobfsError | OSError | asyncio.CancelledError)


def entries() -> Iterator[tuple[type[errors.JobfsError], int]]:
    """Yield the table."""
    yield from _TABLE.items()

"""Every exception that jobfs raises on purpose.

::

    JobfsError
    ├── SettingsError           a setting, argument or key is missing or wrong
    ├── ApiError                a request did not give what was asked for
    │   ├── Unauthenticated     401, or 403 to a read: the key is wrong or of the wrong kind
    │   ├── NotFound            404
    │   ├── Refused             400, 413, 422 and other final refusals
    │   │   ├── Forbidden       403 to a write: not with this key, or not there
    │   │   ├── PathExists      the target path is taken
    │   │   ├── ParentMissing   the parent directory is not there
    │   │   ├── InvalidPath     the server does not take this path
    │   │   ├── Changed         somebody else changed it meanwhile
    │   │   ├── IsDirectory     a directory is where a file is meant
    │   │   ├── NotEmpty        the directory holds something
    │   │   └── TooLarge        413, 507: the server does not take this much
    │   ├── RateLimited         429 after all tries
    │   ├── ServerFailure       5xx after all tries
    │   ├── Unreachable         no connection, or it broke
    │   │   └── OutcomeUnknown  it broke after a write was sent: done or not done
    │   └── ProtocolViolation   an answer that the contract does not allow
    ├── StateError              the local store cannot serve
    │   ├── StateLocked         another process has it
    │   ├── StateCorrupt        it fails its own checks, or was made by a newer version
    │   └── StateFull           no space left on the local disk
    ├── MountError              a mount cannot be made or ended
    │   ├── FuseUnavailable     this machine has no usable FUSE
    │   └── MountPointBusy      the directory is in use, not empty or missing
    ├── FolderError             a folder cannot be kept in step
    ├── HistoryError            a version of the local history cannot be put back
    │   └── NoSuchVersion       it is not, or no longer, kept
    ├── GuardTripped            a plan would delete too much without being told to
    ├── DeadlineExceeded        a wait ended before its event
    └── Interrupted             the user stopped it

Each class carries the exit code of the command line; each instance a cause (what happened and why) and a remedy (what
the user can do next). Expected failures of single paths are not exceptions but values: ``model.Problem``.
"""

from __future__ import annotations


class JobfsError(Exception):
    """Root of the tree.

    :param cause: one line for the user: what happened and why, without a final stop.
    :param remedy: one line: what to do next; empty where there is nothing to do.
    """

    exit_code = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.advise(remedy)

    def advise(self, remedy: str) -> None:
        """Say what to do next, instead of what was said before; a traceback shows it below the cause."""
        self.remedy = remedy
        self.__notes__ = [f"next: {remedy}"] if remedy else []


class SettingsError(JobfsError):
    """A setting, argument or key is missing or wrong."""

    exit_code = 2


class ApiError(JobfsError):
    """A request did not give what was asked for.

    :param status: HTTP status, 0 where no answer came.
    :param reason: the server's own words, as text; empty where it gave none.
    :param body: the raw body, clipped to 64 KiB, for ``--debug``.
    """

    def __init__(self, cause: str, remedy: str = "", *, status: int = 0, reason: str = "", body: bytes = b"") -> None:
        super().__init__(cause, remedy)
        self.status = status
        self.reason = reason
        self.body = body


class Unauthenticated(ApiError):
    """401, or 403 to a read: the key is missing, wrong, or of the wrong kind. Final: never retried."""

    exit_code = 3


class NotFound(ApiError):
    """404: no such job, item, run or artifact."""

    exit_code = 4


class Refused(ApiError):
    """A final refusal (400, 413, 422 and other 4xx): asking again cannot help."""


class Forbidden(Refused):
    """403 to a write: not with this key, or not there. Undocumented, so it speaks of this one change alone."""

    exit_code = 3


class PathExists(Refused):
    """The target path is taken."""


class ParentMissing(Refused):
    """The parent directory is not there, or is a file."""


class InvalidPath(Refused):
    """The server does not take this path."""


class Changed(Refused):
    """Somebody else changed it meanwhile: their version is untouched, and ours was not stored. Look at theirs first."""


class IsDirectory(Refused):
    """A directory is where a file is meant."""


class NotEmpty(Refused):
    """The directory holds something, and is not to be removed with it."""


class TooLarge(Refused):
    """413 or 507: the server does not take this much."""


class RateLimited(ApiError):
    """429 after all tries."""

    exit_code = 5


class ServerFailure(ApiError):
    """5xx after all tries. For a write: it may or may not have been done."""

    exit_code = 5


class Unreachable(ApiError):
    """No connection, or it broke before anything could have been done."""

    exit_code = 5


class OutcomeUnknown(Unreachable):
    """The connection broke after a write was sent: look before trying again (contract, protocol U)."""


class ProtocolViolation(ApiError):
    """An answer that the contract does not allow, or a wrong base address."""

    exit_code = 5


class StateError(JobfsError):
    """The local store cannot serve."""

    exit_code = 7


class StateLocked(StateError):
    """Another process has this store open."""

    exit_code = 6


class StateCorrupt(StateError):
    """The store fails its own checks, or was made by a newer version."""


class StateFull(StateError):
    """No space left on the local disk."""

    exit_code = 8


class MountError(JobfsError):
    """A mount cannot be made or ended."""

    exit_code = 6


class FuseUnavailable(MountError):
    """This machine has no usable FUSE."""


class MountPointBusy(MountError):
    """The directory is in use, not empty, missing, or no directory."""


class FolderError(JobfsError):
    """A folder cannot be kept in step."""

    exit_code = 6


class HistoryError(JobfsError):
    """A version of the local history cannot be put where it was asked for."""


class NoSuchVersion(HistoryError):
    """A version is not, or no longer, in the local history."""

    exit_code = 4


class GuardTripped(JobfsError):
    """A plan would delete too much without being told to."""

    exit_code = 9


class DeadlineExceeded(JobfsError):
    """A wait ended before its event."""

    exit_code = 10


class Interrupted(JobfsError):
    """The user stopped it."""

    exit_code = 130

"""From exceptions to what the user reads, and to exit codes.

A message says what and why in one line, and what to do next in another. A traceback comes with ``--debug`` only.
"""

from __future__ import annotations

import errno
import os
import re
import traceback
from pathlib import Path
from typing import Any

from jobfs.cli.terminal import shown, tell
from jobfs.errors import ApiError, JobfsError, SettingsError
from jobfs.workspace.settings import config_directory
from jobfs.workspace.states import STATE_DIRECTORY, state_root
from jobfs.workspace.variables import CONFIG_DIRECTORY

EXIT_CODES = {
    0: "done",
    1: "refused or failed; the message says why",
    2: "a setting or an argument is missing or wrong",
    3: "the API key is wrong or of the wrong kind",
    4: "no such job, file, version or run",
    5: "the server cannot be reached, or failed",
    6: "a mount point, folder or workspace is busy, missing or not usable; or FUSE is",
    7: "the local state is damaged: jobfs fsck",
    8: "the local disk is full",
    9: "stopped, for too much would be deleted: --yes or --max-delete",
    10: "a wait ended before its event",
    11: "ended, but something could not be sent: it is kept, and named",
    12: "a dry run has found something to do",
    20: "the job or run failed",
    21: "the job or run was canceled",
    22: "the job expired",
    23: "the job waits for an answer",
    24: "the job has used up its steps",
    130: "stopped by the user",
}
"""Every exit code with its meaning; the help and the README show the same table."""

ELSEWHERE = {
    **dict.fromkeys(("cp", "copy", "copyto"), "jobfs put sends files, jobfs get brings them"),
    **dict.fromkeys(("size", "ncdu", "about"), "jobfs du JOB"),
    **dict.fromkeys(("lsl", "lsf", "lsd", "dir"), "jobfs ls -l JOB:/PATH"),
    **dict.fromkeys(("delete", "deletefile", "purge", "rmdir"), "jobfs rm JOB:/PATH"),
    **dict.fromkeys(("move", "moveto", "rename"), "jobfs mv JOB:/PATH JOB:/PATH"),
    **dict.fromkeys(("unmount", "stop"), "jobfs umount DIR"),
    **dict.fromkeys(("config", "configure"), "jobfs login"),
    "bisync": "jobfs sync JOB DIR --once",
    "check": "jobfs sync JOB DIR --dry-run",
    "pause": "jobfs hold DIR",
    "resume": "jobfs hold DIR --off",
    "list": "jobfs jobs list",
    "log": "jobfs logs DIR",
    "version": "jobfs --version",
}
"""What the words of rclone and Dropbox are here; docs/coming-from.md has the whole of it."""

_NO_COMMAND = re.compile(r"no such command '([^']*)'")

_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS)
_LOCAL_REMEDIES = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG), "check the path"),
    **dict.fromkeys(_REFUSALS, "choose a place that you may use so"),
}
"""What to do where the machine refuses a path that the user has named."""

UNSENT = 11
TO_DO = 12

STATUS_CODES = {
    "completed": 0,
    "failed": 20,
    "canceled": 21,
    "expired": 22,
    "requestInteractiveToolResult": 23,
    "exceededMaxSteps": 24,
}
"""Exit codes of ``jobfs jobs wait`` by the status that ended the wait."""

RUN_CODES = {"completed": 0, "failed": 20, "rejected": 20, "cancelled": 21}
"""Exit codes of ``jobfs outputs`` by the final status of the run (contract E-10)."""


def show(error: JobfsError, *, is_debug: bool) -> None:
    """Print an error for the user, on stderr."""
    if is_debug:
        tell("".join(traceback.format_exception(error)).rstrip())
        if isinstance(error, ApiError) and error.body:
            tell(f"answer: {shown(error.body.decode('utf-8', 'replace'))}")
    tell(f"jobfs: {shown(error.cause)}")
    if error.remedy:
        tell(f"  next: {shown(error.remedy)}")


def failure_of(error: Exception) -> JobfsError:
    """Return whatever ended a command as one of ours: the user gets a message, and a traceback only if he asked."""
    if isinstance(error, JobfsError):
        return error
    return of_local_file(error) if isinstance(error, OSError) else of_bug(error)


def of_local_file(error: OSError) -> JobfsError:
    """Return the failure of a local file operation as one of ours."""
    words = error.strerror or str(error)
    failure = JobfsError(f"{error.filename}: {words}" if error.filename else words)
    failure.advise(_own_remedy(error) or _LOCAL_REMEDIES.get(error.errno or 0, ""))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        failure.exit_code = 8
        failure.advise("free some disk space and try again; nothing that was saved is lost")
    failure.__cause__ = error
    return failure


def _own_remedy(error: OSError) -> str:
    """Return what to do where the machine refuses what nobody has named: the place of the state, or of the settings."""
    if error.errno not in _REFUSALS or not isinstance(error.filename, str):
        return ""
    refused = Path(error.filename)
    for place, variable in ((state_root(), STATE_DIRECTORY), (config_directory(os.environ), CONFIG_DIRECTORY)):
        if refused.is_relative_to(place) or (place.is_relative_to(refused) and not place.exists()):
            return f"make {place} and own it, or name another place: {variable}=/another/place"
    return ""


def of_usage(error: Any) -> JobfsError:
    """Return what the parser says about arguments as one of ours: what is wrong, and which help to read.

    :param error: the parser's exception, which tells its message and the command.
    """
    words = " ".join(error.format_message().split()).removesuffix(".").replace("Value error, ", "")
    path = getattr(error.ctx, "command_path", None) or "jobfs"
    command = path.removeprefix("jobfs").strip()
    about = f"{command}: " if command else ""
    cause = f"{words[:1].lower()}{words[1:]}"
    unknown = _NO_COMMAND.match(cause) if not command else None
    if unknown is not None and unknown[1] in ELSEWHERE:
        return SettingsError(unknown[0], ELSEWHERE[unknown[1]])  # what the parser takes it for is only spelt alike
    return SettingsError(f"{about}{cause}", f"see {path} --help")


def of_bug(error: Exception) -> JobfsError:
    """Return something that should not have happened as one of ours."""
    bug = JobfsError(f"unexpected: {type(error).__name__}: {error}", "run it again with --debug and report it")
    bug.__cause__ = error
    return bug

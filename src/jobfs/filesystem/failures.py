"""What users of fsspec expect to be raised: ``OSError`` and its kinds, made from ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from jobfs.errors import JobfsError, NotFound, SettingsError
from jobfs.fuse.errno import errno_of
from jobfs.workspace.places import WrongPath


@contextmanager
def told_as_os_errors(path: str) -> Iterator[None]:
    """Turn our failures into ``FileNotFoundError``, ``PermissionError``, ...; ours is the cause of each.

    A wrong setting stays what it is: no path is to blame for it.
    """
    try:
        yield
    except JobfsError as error:
        if isinstance(error, SettingsError) and not isinstance(error, WrongPath):
            raise
        # A kernel that knew the file is told that its handle is stale; who named a path, that nothing is there.
        code = errno.ENOENT if isinstance(error, NotFound) else errno_of(error)
        raise OSError(code, f"{error.cause} ({os.strerror(code)})", path) from error

"""The log of a mount or folder, in its state folder."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from jobfs.errors import JobfsError

LOG_NAME = "log.txt"
_LOG_BYTES = 1 << 20
_LOGS_KEPT = 3

_log = logging.getLogger(__name__)


class _LogFile(logging.handlers.RotatingFileHandler):
    """A log file that stays closed: by itself a handler opens its file anew for a thread that logs too late."""

    _is_over = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_over:
            super().emit(record)

    def close(self) -> None:
        with self.lock or nullcontext():
            self._is_over = True
        with suppress(OSError):  # what could not be written before cannot be now
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """Do without the log where the disk does not take it: nothing fails for it, nor is that told elsewhere."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def logged_to(directory: Path, level: str = "info") -> Iterator[None]:
    """Write what jobfs logs into a state folder while the context lasts; files are rotated.

    :param level: the least important that is written: ``debug``, ``info``, ``warning`` or ``error``.
    """
    handler = _LogFile(directory / LOG_NAME, maxBytes=_LOG_BYTES, backupCount=_LOGS_KEPT, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    own, others = logging.getLogger("jobfs"), logging.getLogger("asyncio")
    before = own.level, own.propagate, others.propagate
    own.setLevel(level.upper())
    own.propagate = others.propagate = False
    own.addHandler(handler)
    others.addHandler(handler)
    try:
        yield
    except JobfsError as error:
        _log.info("ended: %s", error)
        raise
    except Exception:
        _log.info("ended by a failure", exc_info=True)
        raise
    finally:
        own.removeHandler(handler)
        others.removeHandler(handler)
        level_before, own.propagate, others.propagate = before
        own.setLevel(level_before)
        handler.close()

"""The file that a content's bytes land in, from one answer of the server or from several, in any order.

It knows which bytes are *present* and which of them may be *shown* to readers. The first answer from the start of the
file is shown as it arrives: whatever version it is of, it is of one version. The bytes of any other answer are shown
once it is *proven*, that is, once the item, read after that answer had begun, still had the revision that the whole
download is for (contract I-42); the first answer is then known to be of that revision as well.

**Invariants.** A byte that may be shown is never written again; one that waits for its proof is, by an answer that may
be shown, so that nobody waits longer because bytes came from elsewhere too. No reader is shown bytes of two versions,
nor the end of a body that is too long or too short: the last byte of an answer counts once its body has ended in good
order. Everything happens on the loop's thread between two awaits, so that the descriptor's position is nobody's
concern.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from jobfs.engine.extents import Extents
from jobfs.errors import ProtocolViolation
from jobfs.store.blobs import disk_errors, write_all
from jobfs.store.system import System


class BadContent(ProtocolViolation):
    """The server does not give the bytes that it lists: one file's trouble, and no other's."""


class WrongLength(BadContent):
    """A body ended in good order but is longer or shorter than it has to be: nothing of it can be trusted."""


@dataclass(slots=True, eq=False)
class Answer:
    """One answer of the server, from the moment that it is asked for.

    :param at: where its next byte goes.
    :param end: where it has to end.
    :param is_proven: whether what it writes may be shown at once.
    :param written: what it wrote before it was proven.
    """

    at: int
    end: int
    is_proven: bool = False
    written: Extents = field(default_factory=Extents)


class Landing:
    """An open file that is being filled.

    :param descriptor: for reading and writing; the caller's, who closes it.
    :param size: the length that the file has to have in the end, in bytes.
    :param on_change: called whenever there is more to show, or less.
    :param system: whose file that is.
    :param trusts_first: whether the first answer may be shown at once: nobody was given bytes of this version before.
    :raises StateFull: from every method that writes, where the disk is full.
    """

    def __init__(
        self,
        descriptor: int,
        size: int,
        on_change: Callable[[], None],
        *,
        system: System = os,
        trusts_first: bool = True,
    ) -> None:
        self.descriptor = descriptor
        self._system = system
        self.size = size
        self.present = Extents()
        self.shown = Extents()
        self.steps = 0
        """Grows with every sign of life but bytes; who waits measures progress by it, and by ``received``."""
        self.received = 0
        """So many bytes came, over all answers and tries."""
        self._on_change = on_change
        self._unproven: list[Answer] = []
        self._answers = 0
        self._trusts_first = trusts_first
        self._has_first = not trusts_first

    @property
    def is_complete(self) -> bool:
        """Whether every byte is present."""
        return self.present.holds(0, self.size)

    @property
    def is_joined(self) -> bool:
        """Whether more than one answer has a part in it."""
        return self._answers > 1

    def clear(self) -> None:
        """Forget everything, and empty the file."""
        with disk_errors():
            self._system.ftruncate(self.descriptor, 0)
        self.present = Extents()
        self.shown = Extents()
        self._unproven.clear()
        self._answers = 0
        self._has_first = not self._trusts_first

    def open(self, answer: Answer) -> None:
        """Take an answer whose body is about to come."""
        self._answers += 1
        if answer.at == 0 and not self._has_first and not any(self.shown):
            self._has_first = answer.is_proven = True
        else:
            self._unproven.append(answer)
        self.tick()

    def write(self, answer: Answer, chunk: bytes) -> None:
        """Put an answer's next bytes where they belong.

        :raises WrongLength: these are more than it may have.
        """
        start, end = answer.at, answer.at + len(chunk)
        if end > answer.end:
            raise _wrong_length(end, answer)
        view = memoryview(chunk)
        settled = self.shown if answer.is_proven else self.present
        for first, beyond in settled.gaps(start, end):
            self._write_at(first, view[first - start : beyond - start])
            self._mark(answer, first, min(beyond, answer.end - 1))
        answer.at = end
        self.received += len(chunk)
        self._on_change()

    def _write_at(self, at: int, view: memoryview) -> None:
        """Write at a position. Readers of the file use positioned reads, which leave the descriptor's own.

        A positioned write would say the same and does not exist on Windows, where folder mode needs this.
        """
        with disk_errors():
            os.lseek(self.descriptor, at, os.SEEK_SET)
            write_all(self._system, self.descriptor, view)

    def close(self, answer: Answer) -> None:
        """Note that a body has ended in good order.

        :raises WrongLength: it is too short.
        """
        if answer.at < answer.end:
            raise _wrong_length(answer.at, answer)
        settled = self.shown if answer.is_proven else self.present
        if answer.end and not settled.holds(answer.end - 1, answer.end):
            self._mark(answer, answer.end - 1, answer.end)
        self.tick()

    def _mark(self, answer: Answer, start: int, end: int) -> None:
        self.present.add(start, end)
        marked = self.shown if answer.is_proven else answer.written
        marked.add(start, end)

    def hides(self, start: int, end: int) -> bool:
        """Tell whether a byte of a stretch is present, and not shown."""
        missing, hidden = self.present.gaps(start, end), self.shown.gaps(start, end)
        return sum(map(_length, missing)) < sum(map(_length, hidden))

    def unproven(self) -> list[Answer]:
        """Return the answers that have begun and of which nothing is shown yet."""
        return list(self._unproven)

    def prove(self, answers: Iterable[Answer]) -> None:
        """Show what these answers brought and will bring."""
        for answer in answers:
            self._unproven.remove(answer)
            answer.is_proven = True
            for start, end in answer.written:
                self.shown.add(start, end)
        self.tick()

    def tick(self) -> None:
        """Say that something went on."""
        self.steps += 1
        self._on_change()


def _length(stretch: tuple[int, int]) -> int:
    return stretch[1] - stretch[0]


def _wrong_length(received: int, answer: Answer) -> WrongLength:
    return WrongLength(
        f"the server sent {received} bytes of a file where {answer.end} were due by its list", "try again later"
    )

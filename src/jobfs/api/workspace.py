"""The workspace of a job: its items, and what tells that they may have changed (endpoints 3, 7 to 14 and 16).

All that a mount asks of a server goes through here, so nothing more is loaded than this needs; ``studio`` has the jobs
themselves, with their shapes.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from jobfs import errors
from jobfs.api.address import segment
from jobfs.api.answer import ItemPage, inside, text_in
from jobfs.api.call import Call
from jobfs.api.items import PAGE_ROWS, Items
from jobfs.api.sse import Messages
from jobfs.api.transport import Transport
from jobfs.model import Lifecycle

_log = logging.getLogger(__name__)

PREFIX = "/api/studio/v1"
JOBS = f"{PREFIX}/expert_jobs/"
_MOST_SEEN = 10_000
"""Checkpoints that are remembered: one that comes again after so many others costs a listing and nothing else."""


def job_path(job_id: str) -> str:
    """Return the path of a job."""
    return f"{JOBS}{segment(job_id)}"


def checkpoints_call(job_id: str) -> Call:
    """Return the call for the stream of a job's checkpoints."""
    path = f"{job_path(job_id)}/checkpoints/stream"
    return Call(method="GET", path=path, subject=f"checkpoints of job {job_id}", is_endless=True)


class Workspace(Items):
    """A job's workspace; satisfies ``engine.remote.Remote``."""

    def __init__(self, transport: Transport, job_id: str) -> None:
        path = f"{job_path(job_id)}/workspace_instance/items/"
        super().__init__(transport, path, f"workspace of job {job_id}", Lifecycle.EXPERT_JOB)
        self._is_known_empty = False
        self._seen: dict[int, None] = {}
        self.job_id = job_id

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written there at all: never so for a job."""
        return False

    async def status(self) -> str:
        """Return the job's status."""
        subject = f"job {self.job_id}"
        answer = await self._transport.json(Call(method="GET", path=job_path(self.job_id), subject=subject))
        return text_in(inside(answer, ("expertJob",), subject), "status", subject)

    async def hints(self) -> AsyncIterator[str]:
        """Yield the ids of the expert's checkpoints as they come, each once however often the stream is opened anew.

        The stream is optional (contract C-5); where there is none, or it breaks, this ends.
        """
        try:
            async with self._transport.stream(checkpoints_call(self.job_id)) as stream:
                async for checkpoint in Messages(stream):
                    id_ = checkpoint.get("id") if isinstance(checkpoint, dict) else None
                    mark = hash(id_) if isinstance(id_, str) else None
                    if mark is not None and mark not in self._seen:
                        self._seen[mark] = None
                        if len(self._seen) > _MOST_SEEN:
                            del self._seen[next(iter(self._seen))]
                        yield str(id_)
        except errors.ApiError as error:
            _log.debug("no checkpoint stream: %s", error)

    async def list_page(self, *, skip: int, take: int = PAGE_ROWS) -> ItemPage:
        """Return one page of the items, in no promised order.

        Some servers answer for a job that is gone with an empty list. The first empty answer after one that was not is
        therefore confirmed by reading the instance (contract T-7).

        :raises NotFound: where the job or its instance is not there.
        """
        page = await super().list_page(skip=skip, take=take)
        if page.items:
            self._is_known_empty = False
        elif not page.malformed and not page.total and not self._is_known_empty:
            await self._confirm()
            self._is_known_empty = True
        return page

    async def _confirm(self) -> None:
        path = f"{job_path(self.job_id)}/workspace_instance/"
        answer = await self._transport.json(Call(method="GET", path=path, subject=self._subject))
        inside(answer, ("workspaceInstance",), self._subject)

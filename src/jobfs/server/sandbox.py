"""The expert's side door to a workspace.

The API has no way to say that an item belongs to the expert, nor to overwrite a content: a real expert works inside a
sandbox that the server watches. This is that door, for the runner and for tests, in the server's own process and on its
loop. Everything else that a runner does goes through the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from jobfs.server.content import ContentWriter
from jobfs.server.items import Access, ItemRecord, Owner, View
from jobfs.server.state import ServerState
from jobfs.server.workspace import Draft


class Sandbox:
    """One workspace as the expert sees it: one item a path, the job's own before a default (contract, view rule 2).

    :param job_id: whose workspace; None for that of the first application.
    :param owner: of what is made here; ``user`` for tests that arrange a workspace.
    :raises Refused: 404 where there is no such job.
    """

    def __init__(self, state: ServerState, job_id: str | None, *, owner: Owner = "expert") -> None:
        self._state = state
        self._job_id = job_id
        self._owner: Owner = owner
        if job_id is None:
            self._view = View(state.jobs.application_space(state.first_application()))
        else:
            self._view = state.jobs.view(state.jobs.get(None, job_id))

    # ------------------------------------------------------------------ looking

    @property
    def status(self) -> str:
        """The job's status as it is now; empty for an application's workspace."""
        return self._state.jobs.get(None, self._job_id).status if self._job_id is not None else ""

    def items(self) -> Sequence[ItemRecord]:
        """Return everything that is seen, parents before what they hold."""
        seen = self._winners(self._state.storage.items.page(self._view, order="created", skip=0, take=-1))
        return [seen[path] for path in sorted(seen)]

    def at(self, path: str) -> ItemRecord | None:
        """Return the item that is seen at a path."""
        return self._winners(self._state.rules.seen_at(self._view, path)).get(path)

    def has_items_below(self, path: str) -> bool:
        """Tell whether anything of the workspace's own lies below a path."""
        return bool(self._state.storage.items.below(self._view.own, path))

    def is_shared(self, item: ItemRecord) -> bool:
        """Tell whether an item is a default of the application."""
        return item.space == self._view.application

    def content(self, key: str) -> Path:
        """Return where the bytes of a key lie; read them, never change them."""
        return self._state.storage.contents.path(key)

    def contents(self) -> dict[str, bytes | None]:
        """Return everything that is seen, by path: the bytes of files, None for directories."""
        return {item.path: None if item.is_directory else self.content(item.key).read_bytes() for item in self.items()}

    # ------------------------------------------------------------------ changing

    def writer(self) -> ContentWriter:
        """Open a new content, to be given to ``put_file`` and kept."""
        return self._state.storage.contents.writer()

    def put_file(
        self,
        path: str,
        *,
        key: str,
        size: int,
        mime_type: str = "application/octet-stream",
        permission: Access = "readWrite",
    ) -> ItemRecord:
        """Make a file of a written content, or give the workspace's own file there this content; makes its parents.

        The caller keeps the content afterwards, before it awaits anything. The permission is only for a new file.
        """
        return self._overwrite(
            Draft(
                path,
                is_directory=False,
                permission=permission,
                owner=self._owner,
                key=key,
                mime_type=mime_type,
                size=size,
            )
        )

    def put_directory(self, path: str, *, permission: Access = "readWrite") -> ItemRecord:
        """Make a directory, unless the workspace has one of its own there; makes its parents."""
        return self._overwrite(Draft(path, is_directory=True, permission=permission, owner=self._owner))

    def put_bytes(
        self,
        path: str,
        content: bytes,
        *,
        mime_type: str = "application/octet-stream",
        permission: Access = "readWrite",
    ) -> ItemRecord:
        """Make or overwrite a file from bytes."""
        with self.writer() as writer:
            writer.write(content)
            record = self.put_file(path, key=writer.key, size=writer.size, mime_type=mime_type, permission=permission)
            writer.keep()
        return record

    def delete(self, item: ItemRecord) -> None:
        """Delete an item, a directory with everything in it. Raises ``Refused`` with 404 where it is gone."""
        with self._state.transaction():
            self._state.rules.delete(self._view, item.id)

    def _overwrite(self, draft: Draft) -> ItemRecord:
        with self._state.transaction():
            return self._state.rules.overwrite(self._view, draft)

    def _winners(self, records: Iterable[ItemRecord]) -> dict[str, ItemRecord]:
        def rank(record: ItemRecord) -> tuple[bool, int, str]:
            return not self.is_shared(record), record.updated_ms, record.id

        seen: dict[str, ItemRecord] = {}
        for record in records:
            rival = seen.get(record.path)
            if rival is None or rank(record) > rank(rival):
                seen[record.path] = record
        return seen


def unsettled_jobs(state: ServerState) -> Sequence[tuple[str, str]]:
    """Return id and status of every job that says a command is running."""
    rows = state.storage.all("SELECT id, status FROM job WHERE status IN ('processing', 'canceling') ORDER BY number")
    return [(row["id"], row["status"]) for row in rows]

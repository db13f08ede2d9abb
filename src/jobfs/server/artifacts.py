"""The files of a run: the workspace as long as its job is under way, a frozen copy of the list afterwards (E-9).

Freezing copies rows, not bytes: a content lives as long as any row names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobfs.server.items import ItemRecord, View
from jobfs.server.storage import Storage

Role = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a run.

    :param path: its identity within the run.
    :param role: ``output`` for what the expert wrote, ``input`` for everything else.
    """

    path: str
    role: Role
    key: str
    mime_type: str
    size: int


class Artifacts:
    """The frozen lists."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def freeze(self, job_id: str, view: View) -> None:
        """Keep what the workspace holds now. Runs inside the caller's transaction."""
        self.thaw(job_id)
        for artifact in self.live(view):
            self._storage.insert(
                "artifact",
                job_id=job_id,
                path=artifact.path,
                role=artifact.role,
                key=artifact.key,
                mime_type=artifact.mime_type,
                size=artifact.size,
            )

    def thaw(self, job_id: str) -> None:
        """Forget the frozen list, because the job goes on. Runs inside the caller's transaction."""
        for row in self._storage.all("SELECT key FROM artifact WHERE job_id = ?", job_id):
            self._storage.drop_content(row["key"])
        self._storage.run("DELETE FROM artifact WHERE job_id = ?", job_id)

    def frozen(self, job_id: str) -> Sequence[Artifact]:
        """Return the kept list, by path."""
        rows = self._storage.all("SELECT * FROM artifact WHERE job_id = ? ORDER BY path", job_id)
        return [Artifact(row["path"], row["role"], row["key"], row["mime_type"], row["size"]) for row in rows]

    def live(self, view: View) -> Sequence[Artifact]:
        """Return what the workspace holds now, one file a path (contract, view rule 2), by path."""
        winners: dict[str, ItemRecord] = {}
        for record in self._storage.items.page(view, order="created", skip=0, take=-1):
            rival = winners.get(record.path)
            if not record.is_directory and (rival is None or _rank(view, record) > _rank(view, rival)):
                winners[record.path] = record
        return [
            Artifact(path, "output" if item.owner == "expert" else "input", item.key, item.mime_type, item.size)
            for path, item in sorted(winners.items())
        ]


def _rank(view: View, record: ItemRecord) -> tuple[bool, int, str]:
    return record.space == view.own, record.updated_ms, record.id

"""Variables and secrets of an application (contract 5.5). Their values leave the server on endpoint 14 alone."""

from __future__ import annotations

from jobfs.server.refusals import ENV_EXISTS, ENV_NOT_FOUND, Refused
from jobfs.server.storage import Storage
from jobfs.server.times import Clock


class Environment:
    """The names and values that jobs start with. Every changing call runs inside the caller's transaction."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    def names(self, application: str, *, is_secret: bool) -> list[str]:
        """Return the names of one kind, in alphabetical order."""
        return list(self.values(application, is_secret=is_secret))

    def values(self, application: str, *, is_secret: bool) -> dict[str, str]:
        """Return names with their clear values: for endpoint 14 only."""
        rows = self._storage.all(
            "SELECT name, value FROM env WHERE application_id = ? AND is_secret = ? ORDER BY name",
            application,
            is_secret,
        )
        return {row["name"]: row["value"] for row in rows}

    def create(self, application: str, name: str, value: str, *, is_secret: bool) -> None:
        """Add a name; 400 if either kind has it (contract V-4)."""
        self._require_free(application, name)
        self._storage.insert(
            "env",
            application_id=application,
            name=name,
            is_secret=is_secret,
            value=value,
            created_ms=self._clock(),
        )

    def require(self, application: str, name: str, *, is_secret: bool) -> None:
        """404 unless a name of this kind exists."""
        if name not in self.values(application, is_secret=is_secret):
            raise Refused(404, ENV_NOT_FOUND)

    def update(self, application: str, name: str, *, new_name: str | None, value: str | None) -> None:
        """Change value or name of a variable (contract V-5); there is no update of a secret."""
        self.require(application, name, is_secret=False)
        if new_name is not None and new_name != name:
            self._require_free(application, new_name)
        self._storage.run(
            "UPDATE env SET name = coalesce(?, name), value = coalesce(?, value) WHERE application_id = ? AND name = ?",
            new_name,
            value,
            application,
            name,
        )

    def delete(self, application: str, name: str, *, is_secret: bool) -> None:
        """Remove a name of this kind; 404 if there is none."""
        self.require(application, name, is_secret=is_secret)
        self._storage.run("DELETE FROM env WHERE application_id = ? AND name = ?", application, name)

    def _require_free(self, application: str, name: str) -> None:
        if self._storage.one("SELECT 1 FROM env WHERE application_id = ? AND name = ?", application, name):
            raise Refused(400, ENV_EXISTS)

"""The application's own workspace: the defaults of every job, and the environment (endpoints 20 to 27).

Values of the environment can be written and never read (contract V-1).
"""

from __future__ import annotations

from collections.abc import Mapping

from jobfs import errors
from jobfs.api import wire
from jobfs.api.address import segment
from jobfs.api.answer import inside
from jobfs.api.body import Json
from jobfs.api.call import Call
from jobfs.api.items import Items
from jobfs.api.transport import Transport
from jobfs.api.wire import ApplicationWorkspace
from jobfs.model import Lifecycle


class Application:
    """The calls on an application's workspace.

    :param prefix: of the studio's paths.
    :ivar items: its files and directories, which every job sees.
    """

    def __init__(self, transport: Transport, prefix: str) -> None:
        self._transport = transport
        self._path = f"{prefix}/workspace/"
        self.items = Items(transport, f"{self._path}items/", "application workspace", Lifecycle.APPLICATION)

    async def get(self) -> ApplicationWorkspace:
        """Return the workspace, with the names of its variables and secrets."""
        return self._read(await self._transport.json(self._call("GET", "", "application workspace")))

    async def create_variable(self, name: str, value: str) -> ApplicationWorkspace:
        """Add a variable. A taken name is refused; it may belong to a secret (contract V-4)."""
        return await self._create("variables", name, value)

    async def create_secret(self, name: str, value: str) -> ApplicationWorkspace:
        """Add a secret. There is no update: delete and create."""
        return await self._create("secrets", name, value)

    async def update_variable(
        self, name: str, *, value: str | None = None, new_name: str | None = None
    ) -> ApplicationWorkspace:
        """Change a variable's value, its name, or both; what is None is not sent (contract V-5, V-6)."""
        wishes = {"name": new_name, "value": value}
        fields = {field: text for field, text in wishes.items() if text is not None}
        if not fields:
            raise ValueError("an update needs a name or a value")
        call = self._call("POST", f"variables/{segment(name)}", f"variable {name}", fields)
        return self._read(await self._transport.json(call))

    async def delete_variable(self, name: str) -> None:
        """Remove a variable; repeated after an unclear outcome."""
        await self._transport.done(self._call("DELETE", f"variables/{segment(name)}", f"variable {name}"))

    async def delete_secret(self, name: str) -> None:
        """Remove a secret; repeated after an unclear outcome."""
        await self._transport.done(self._call("DELETE", f"secrets/{segment(name)}", f"secret {name}"))

    async def _create(self, kind: str, name: str, value: str) -> ApplicationWorkspace:
        if not name:
            raise errors.SettingsError("a variable or secret needs a name", "give one, such as API_TOKEN")
        fields = {"name": name, "value": value}
        call = self._call("POST", f"{kind}/", f"{kind.removesuffix('s')} {name}", fields)
        return self._read(await self._transport.json(call))

    def _call(self, method: str, path: str, subject: str, fields: Mapping[str, str] | None = None) -> Call:
        return Call(
            method=method,
            path=f"{self._path}{path}",
            subject=subject,
            body=Json(fields) if fields else None,
            is_sensitive=fields is not None,
            secret=fields.get("value", "") if fields else "",
        )

    def _read(self, answer: object) -> ApplicationWorkspace:
        subject = "application workspace"
        return wire.read_one(ApplicationWorkspace, inside(answer, ("workspace",), subject), subject)

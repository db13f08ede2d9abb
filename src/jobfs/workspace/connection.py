"""A server as scripts and commands reach it: the connections to its two APIs, and the workspaces behind them."""

from __future__ import annotations

from pathlib import Path

from jobfs.api.runs import Runs
from jobfs.api.studio import Studio
from jobfs.workspace.line import Line
from jobfs.workspace.settings import Settings
from jobfs.workspace.states import state_root


class Connection(Line):
    """One server with one key. Connects when it is needed; close it in the end, on the loop that has used it.

    :param state: the folder of all states; by default the one that the command line uses.
    """

    def __init__(self, settings: Settings, *, state: Path | None = None) -> None:
        super().__init__(settings)
        self.state = state or state_root()
        self._studio: Studio | None = None
        self._run_api: Runs | None = None

    @property
    def studio(self) -> Studio:
        """The API of jobs."""
        if self._studio is None:
            self._studio = Studio(self.to_jobs())
        return self._studio

    @property
    def runs(self) -> Runs:
        """The API of runs."""
        if self._run_api is None:
            self._run_api = Runs(self.to_runs())
        return self._run_api

    async def aclose(self) -> None:
        """Close every connection. May be called twice."""
        self._studio = self._run_api = None
        await super().aclose()

"""``jobfs.AsyncWorkspace``: the workspace of a job, or the files of a run, for asynchronous scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from time import time
from typing import Literal, Self, TypedDict, TypeVar, Unpack

from jobfs.api.studio import JobFile, JobSettings
from jobfs.api.wire import Checkpoint, Job
from jobfs.errors import Refused, SettingsError
from jobfs.folder.report import Progress, Summary
from jobfs.folder.root import stand_in
from jobfs.folder.sync import Direction, FolderSync, SyncOptions
from jobfs.planner.plan import ConflictPolicy
from jobfs.workspace.arguments import (
    FILE_OF_JOB,
    FUNCTION,
    NUMBER,
    PATH,
    TEXT,
    WHOLE_NUMBER,
    Wanted,
    all_of,
    check,
)
from jobfs.workspace.connection import Connection
from jobfs.workspace.ended import note_unsent, opened
from jobfs.workspace.files import Files, Founds
from jobfs.workspace.follow import follow, follow_run, status_of
from jobfs.workspace.forgetting import unbegun_forgotten
from jobfs.workspace.instance import FOLDER, Instance, check_apart
from jobfs.workspace.line import check_changes
from jobfs.workspace.places import RUN_PREFIX
from jobfs.workspace.settings import Chosen, of_script
from jobfs.workspace.states import check_folder, folder_state, real_directory

_E = TypeVar("_E", bound=Enum)

DirectionName = Literal["both", "push", "pull"]
ConflictName = Literal["keep-both", "local", "remote"]


class Server(TypedDict, total=False):
    """Which server, with which key, and where state lies; what is missing is found as the command line finds it.

    ``api_key_file`` names a file that holds the key, ``api_key`` is the key itself; ``state`` is the folder of the
    state that the command line and mounts use as well.
    """

    url: str | None
    api_key: str | None
    api_key_file: Path | str | None
    profile: str | None
    state: Path | str | None


_KINDS = {"url": TEXT, "api_key": TEXT, "api_key_file": PATH, "profile": TEXT, "state": PATH}
_SETTINGS = Wanted("a jobfs.JobSettings", (JobSettings,))


def connect(server: Server) -> Connection:
    """Return a connection as the arguments, the environment and the configuration file say, in this order.

    :raises SettingsError: there is no key, a file or profile cannot be read, or an argument is none of these.
    """
    check_server(server)
    file = server.get("api_key_file")
    chosen = Chosen(server.get("url"), Path(file) if file is not None else None, server.get("profile"))
    return Connection(of_script(chosen, server.get("api_key")), state=state_of(server))


def state_of(server: Server) -> Path | None:
    """Return the folder of the state, where it is said."""
    state = server.get("state")
    return Path(state) if state is not None else None


def check_server(server: Server) -> None:
    """Refuse arguments that mean nothing: a misspelt one would be left out in silence; and values of wrong types.

    :raises SettingsError:
    """
    for name, value in server.items():
        if name not in _KINDS:
            raise SettingsError(f"there is no argument {name!r}", f"there are {', '.join(_KINDS)}")
        check(name, value, _KINDS[name], or_none=True)


class AsyncWorkspace(Files):
    """One workspace, used by ``await``. A context manager; else call ``aclose`` in the end. One loop only.

    Server and key are found as the command line finds them: arguments, ``JOBFS_URL`` and ``JOBFS_API_KEY``, the chosen
    or default profile. Every method asks the server anew: nothing is remembered between two calls.

    :param job: a job's id, or ``run:RUN`` for the files of a run, which can only be read.
    :param server: see ``Server``.
    :raises SettingsError: there is no key, or a setting is wrong.
    """

    def __init__(self, job: str, **server: Unpack[Server]) -> None:
        super().__init__(connect(server), job)

    @classmethod
    async def start(
        cls,
        expert: str,
        query: str | None = None,
        *,
        files: Sequence[JobFile] = (),
        settings: JobSettings | None = None,
        **server: Unpack[Server],
    ) -> Self:
        """Start a job and return its workspace; the job runs on the server from then on.

        :param files: local files to send along, or names of files that are there.
        :raises OutcomeUnknown: it may have been started; look at the list of jobs before starting another.
        """
        check("expert", expert, TEXT)
        check_order(query, settings)
        files = all_of("files", files, FILE_OF_JOB)
        connection = connect(server)
        try:
            check_changes(is_read_only=connection.settings.is_read_only)
            job = await connection.studio.start_job(expert, query, files, settings)
        except BaseException:
            await connection.aclose()
            raise
        self = cls.__new__(cls)
        Files.__init__(self, connection, job.id)
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for what is under way, and close every connection. May be called twice."""
        try:
            await super().aclose()
        finally:
            await self._connection.aclose()

    # -- the job

    async def status(self) -> str:
        """Return the status of the job or run: ``queued``, ``processing``, ``completed``, ``failed``, ..."""
        if self._is_run:
            return status_of(await self._connection.runs.get_run(self._run_id))
        return (await self.describe()).status

    async def describe(self) -> Job:
        """Return the job as the server has it: expert, query, step, times.

        :raises Refused: it is a run.
        """
        self._check_job()
        return await self._connection.studio.get_job(self.job)

    async def wait(
        self, *, timeout_s: float | None = None, on_step: Callable[[Checkpoint], None] = lambda step: None
    ) -> str:
        """Wait until the job has stopped, or the run has finished, and return its status; a failure is no exception.

        :param on_step: called with each step of a job as it comes.
        :raises DeadlineExceeded: not in time; it goes on, and can be waited for again.
        """
        check("timeout_s", timeout_s, NUMBER, or_none=True)
        check("on_step", on_step, FUNCTION)
        if self._is_run:
            return status_of(await follow_run(self._connection.runs, self._run_id, timeout_s=timeout_s))
        return (await follow(self._connection.studio, self.job, timeout_s=timeout_s, on_step=on_step)).status

    async def resume(
        self,
        query: str | None = None,
        *,
        files: Sequence[JobFile] = (),
        settings: JobSettings | None = None,
        is_answer: bool | None = None,
    ) -> Job:
        """Have a stopped job go on with a new query, in the files as they are now.

        :param is_answer: True marks the query as the answer to what the expert has asked.
        :raises OutcomeUnknown: it may go on already; look at its status before trying again.
        """
        check_order(query, settings)
        files = all_of("files", files, FILE_OF_JOB)
        self._check_job()
        check_changes(is_read_only=self._connection.settings.is_read_only)
        studio = self._connection.studio
        return await studio.continue_job(self.job, query, files, settings, interactive_tool_call_result=is_answer)

    async def outputs(self) -> Founds:
        """Return the files that the expert has written; of a run, all of them."""
        return [found for found in await self.find(is_directory=False) if found.owner == "expert"]

    # -- a folder

    async def sync(
        self,
        folder: Path | str,
        *,
        direction: DirectionName = "both",
        delete: bool = True,
        conflict: ConflictName = "keep-both",
        ignore: Sequence[str] = (),
        max_deletions: int | None = 0,
        dry_run: bool = False,
        on_event: Progress | None = None,
    ) -> Summary:
        """Bring a real folder in step with the workspace, once, as ``jobfs sync --once`` does and with its record.

        ``jobfs status`` shows the folder from then on, and ``LocalCopy`` knows it.

        Whatever it could not do is in the summary; what was done stays where it ends early, and the next call goes on.

        :param direction: which side may change: ``push`` only the server, ``pull`` only the folder.
        :param delete: whether a deletion on one side is one on the other.
        :param max_deletions: so many deletions are never asked about; None: any number.
        :param dry_run: change nothing; the summary's ``steps`` say what would be done.
        :param on_event: called with everything that is done, as it happens.
        :raises GuardTripped: it would delete most of a side. :raises FolderError: the folder cannot be used.
        :raises StateLocked: the folder is kept in step by another process just now.
        """
        check("folder", folder, PATH)
        check("max_deletions", max_deletions, WHOLE_NUMBER, or_none=True)
        check("on_event", on_event, FUNCTION, or_none=True)
        options = SyncOptions(
            direction=_choice("direction", Direction, direction),
            delete=delete,
            conflict=_choice("conflict", ConflictPolicy, conflict),
            ignore=all_of("ignore", ignore, TEXT),
            max_deletions=max_deletions,
            is_trial=dry_run,
        )
        if direction != "pull" and not dry_run:
            check_changes(is_read_only=self._connection.settings.is_read_only)
        return await self._synchronise(self._usable(Path(folder)), options, on_event)

    def _usable(self, folder: Path) -> Path:
        """Return a folder as records spell it.

        :raises SettingsError: it holds the state of jobfs, or is in a mount or in another such folder.
        """
        place = real_directory(folder)
        check_folder(self._connection.state, place)
        check_apart(place, self._connection.state)
        return Path(place)

    async def _synchronise(self, folder: Path, options: SyncOptions, on_event: Progress | None) -> Summary:
        """Synchronise a folder, which is on record afterwards unless it was a trial."""
        connection, url = self._connection, self._connection.settings.url
        state_folder = folder_state(connection.state, url, self.job, folder)
        began = Instance(state_folder, FOLDER, str(folder), url, self.job, "sync", 0, time())
        with unbegun_forgotten(began), opened(began) as state, ExitStack() as stack:
            if options.is_trial:
                folder = stack.enter_context(stand_in(folder, state))
            else:
                began.write()
                stack.callback(note_unsent, began, state)
            return await FolderSync(
                state, connection.remote(self.job), folder, options=options, progress=on_event
            ).run()

    # -- jobs and runs

    @property
    def _is_run(self) -> bool:
        return self.job.startswith(RUN_PREFIX)

    @property
    def _run_id(self) -> str:
        return self.job.removeprefix(RUN_PREFIX)

    def _check_job(self) -> None:
        if self._is_run:
            raise Refused(f"{self.job} is a run, not a job", "ask for its status, or wait for it")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.job!r})"


def check_order(query: str | None, settings: JobSettings | None) -> None:
    """Refuse values of wrong types in what a job is to do.

    :raises SettingsError:
    """
    check("query", query, TEXT, or_none=True)
    check("settings", settings, _SETTINGS, or_none=True)


def _choice(name: str, kind: type[_E], word: str) -> _E:
    """Return what a word stands for.

    :raises SettingsError: nothing.
    """
    try:
        return kind(word)
    except ValueError:
        raise SettingsError(
            f"{name} cannot be {word!r}", "choose " + ", ".join(str(one.value) for one in kind)
        ) from None

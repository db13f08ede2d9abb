"""``jobfs demo``: the whole story in half a minute, with a server of its own and the commands that a user types."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

import jobfs
from jobfs.cli.terminal import say
from jobfs.errors import Interrupted, JobfsError, SettingsError
from jobfs.workspace.states import STATE_DIRECTORY
from jobfs.workspace.variables import API_KEY, CONFIG_DIRECTORY, PROFILE, SECOND_API_KEY, URL

_EXPERT = "@jobfs/csv-profile"
_TABLE = "measurements.csv"
_REPORT = f"csv-profile/{_TABLE}.md"
_ROWS = 40
_LINES_SHOWN = 8
_STOP_S = 15.0
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".git", ".hg", ".venv", "node_modules", "*.pyc", ".*_cache")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog="Example: jobfs demo --from ~/notes --keep")(demo)


def demo(
    source: Annotated[Path | None, typer.Option("--from", help="The files to begin with.", metavar="DIR")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave all running, and tell what to try.")] = False,
) -> None:
    """Show it: a server, a workspace of real files, a mount, an edit, a job and its report. Everything is temporary."""
    files = source or Path(jobfs.__file__).parent
    if not files.is_dir():
        raise SettingsError(f"{files} is no directory", "name one that holds some files")
    with _ended_by_signals(), ExitStack() as cleanup:
        stage = _Stage(Path(tempfile.mkdtemp(prefix="jobfs-demo-")), cleanup)
        job = _play(stage, files)
        if keep:
            cleanup.pop_all()
            stage.tell_what_to_try(job)
        else:
            stage.run("jobfs", "umount", stage.mount)


class _Stage:
    """A temporary folder with a server, and what runs in front of the user.

    :param cleanup: gets what must be undone, whatever happens.
    """

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        self.folder = folder
        self.mount = folder / "workspace"
        self._server: subprocess.Popen[str] | None = None
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in (SECOND_API_KEY, PROFILE)},
            STATE_DIRECTORY: str(folder / "state"),
            CONFIG_DIRECTORY: str(folder / "config"),
        }
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        cleanup.callback(self._end_server)
        cleanup.callback(self._end_mount)

    def heading(self, text: str) -> None:
        """Begin a scene."""
        say(f"\n== {text}")

    def run(self, *words: str | Path, show: bool = True) -> None:
        """Run a command in front of the user.

        :raises JobfsError: it failed.
        """
        code = subprocess.run(self._announced(words, show), env=self._environment, check=False).returncode
        if code:
            raise JobfsError(f"{words[0]} {words[1]} ended with code {code}", "its message is above")

    def output(self, *words: str | Path) -> str:
        """Run a command in front of the user and return what it printed.

        :raises JobfsError: it failed.
        """
        command = self._announced(words, True)
        done = subprocess.run(command, env=self._environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise JobfsError(f"{words[0]} {words[1]} ended with code {done.returncode}", "its message is above")
        say(done.stdout.strip())
        return done.stdout.strip()

    def _announced(self, words: Sequence[str | Path], show: bool) -> list[str]:
        if show:
            say(f"$ {shlex.join(map(str, words))}")
        sys.stdout.flush()
        return [*_own_command(), *map(str, words[1:])] if words[0] == "jobfs" else list(map(str, words))

    def start_server(self) -> None:
        """Start the server; its address and key go into the environment of what runs here.

        :raises JobfsError: it does not start.
        """
        command = [*_own_command(), "serve", "--data", str(self.folder / "server"), "--port", "0"]
        with (self.folder / "server.log").open("w") as log:
            self._server = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=self._environment, start_new_session=True
            )
        told = dict(_told(self._server))
        if not told.keys() >= {"url", "key"}:
            words = (self.folder / "server.log").read_text().strip()
            raise JobfsError(words or "the server did not start", "see 'jobfs serve'")
        key_file = self.folder / "key"
        key_file.touch(mode=0o600)
        key_file.write_text(told["key"] + "\n")
        self._environment |= {URL: told["url"], API_KEY: told["key"]}
        say(f"serving {told['url']}; its data and the key are in {self.folder}")

    def _end_mount(self) -> None:
        if os.path.ismount(self.mount):
            subprocess.run(
                [*_own_command(), "umount", "--force", str(self.mount)],
                env=self._environment,
                stdout=subprocess.DEVNULL,
                check=False,
            )

    def _end_server(self) -> None:
        server = self._server
        if server is None:
            return
        server.terminate()
        try:
            server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if server.stdout is not None:
            server.stdout.close()

    def tell_what_to_try(self, job: str) -> None:
        """Say what is left running, and how to end it."""
        self.heading("Everything is left running. In this shell, for instance:")
        server = self._server
        pid = server.pid if server is not None else 0
        lines = [
            f"export {URL}={self._environment[URL]} {API_KEY}=$(cat {self.folder / 'key'})",
            f"export {STATE_DIRECTORY}={self._environment[STATE_DIRECTORY]}",
            f"cd {self.mount}",
            f"jobfs jobs continue {job} --query 'Once more' --wait && cat {_REPORT}",
            "jobfs status",
            "# and to end it:",
            f"cd && jobfs umount {self.mount} && kill {pid} && rm -r {self.folder}",
        ]
        for line in lines:
            say(f"  {line}")
        if server is not None:
            server.returncode = 0  # it goes on without us


def _own_command() -> list[str]:
    return [sys.executable, "-P", "-m", "jobfs"]


def _told(server: subprocess.Popen[str]) -> Iterator[tuple[str, str]]:
    """Yield address and key as the server prints them; ends when both are there, or the server is."""
    if server.stdout is None:
        return
    for line in server.stdout:
        words = line.split()
        if words[:1] == ["serving"]:
            yield "url", words[1]
        if words[:2] == ["API", "key:"]:
            yield "key", words[2]
        if words[:1] == ["Keep"]:
            return


def _play(stage: _Stage, files: Path) -> str:
    stage.heading("A studio server on this machine")
    stage.start_server()
    stage.heading("A job. Its workspace is still empty")
    job = stage.output("jobfs", "jobs", "start", "--expert", _EXPERT, "--query", "Profile the tables")
    stage.run("jobfs", "jobs", "wait", job)
    stage.heading("Its workspace gets files")
    own = stage.folder / (files.resolve().name or "files")
    shutil.copytree(files, own, ignore=_LEFT_OUT, symlinks=True)
    (stage.folder / _TABLE).write_text(_table())
    stage.run("jobfs", "put", "-r", own, stage.folder / _TABLE, f"{job}:/")
    stage.heading("The workspace as an ordinary folder")
    stage.mount.mkdir()
    stage.run("jobfs", "mount", job, stage.mount)
    stage.run("ls", "-l", stage.mount)
    stage.heading("An edit by an ordinary program")
    table = stage.mount / _TABLE
    in_place = ("-i", "") if sys.platform == "darwin" else ("-i",)
    stage.run("sed", *in_place, "s/library/lighthouse/", table)
    stage.run("head", "-n", "4", table)
    stage.heading("The job goes on with the edited files")
    stage.run("jobfs", "jobs", "continue", job, "--query", "Profile them again", "--wait")
    stage.heading("Its report is in the folder")
    stage.run("ls", stage.mount / "csv-profile" / _TABLE)
    stage.run("head", "-n", str(_LINES_SHOWN), stage.mount / _REPORT)
    stage.run("jobfs", "status")
    return job


def _table() -> str:
    places = ("harbour", "library", "station", "market")
    rows = [f"{at},{places[at % 4]},{(at * 37) % 101 / 4:.2f},{'' if at % 9 == 4 else at % 7}" for at in range(_ROWS)]
    return "\n".join(["number,place,level,visitors", *rows, ""])


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does: everything is cleaned up."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("stopped; everything was cleaned up") from None
    finally:
        signal.signal(signal.SIGTERM, before)

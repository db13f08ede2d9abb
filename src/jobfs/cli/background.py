"""``jobfs service``: mount a workspace, or keep a folder in step, at every login, by systemd or launchd."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from jobfs.cli.choices import chosen
from jobfs.cli.terminal import say, say_json, shown, tell
from jobfs.cli.units import Launchd, Manager, Systemd, Task, name_of, own_command, task_of
from jobfs.cli.whole import Whole
from jobfs.errors import JobfsError, SettingsError
from jobfs.workspace import settings
from jobfs.workspace.places import parse_place
from jobfs.workspace.settings import Chosen
from jobfs.workspace.states import real_directory
from jobfs.workspace.variables import API_KEY, PROFILE, SECOND_API_KEY, URL

RUNTIME_DIRECTORY = "XDG_RUNTIME_DIR"
_DEADLINE_S = 90.0
_NOT_PASSED_ON = (URL, API_KEY, SECOND_API_KEY)

_app = typer.Typer(
    cls=Whole,
    help="Mount or synchronise at every login, by systemd or launchd.",
    epilog="Example: jobfs service install abc123 ~/job",
    no_args_is_help=True,
)

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only print what would be written and run.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="service")


@_app.command("install", epilog="Example: jobfs service install abc123 ~/job --dry-run")
def install(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job; run:RUN for the files of a run.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The mount point, or the folder.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="-- OPTIONS", help="More options of jobfs mount or jobfs sync.")
    ] = None,
    sync: Annotated[bool, typer.Option("--sync", help="Keep a real folder in step instead of mounting.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Write a service for a workspace, say what was written, and start it.

    It uses the profile that is chosen now, and its key: log in first. A key of the environment is never written.
    """
    general = chosen(context)
    place = parse_place(job)
    if place.path:
        raise SettingsError("only a whole workspace can be served", f"write jobfs service install {place.job} DIR")
    _check_key(general)
    profile = general.profile or os.environ.get(PROFILE)
    point = real_directory(directory)
    task = task_of(place.job, point, is_sync=sync, profile=profile, options=options or ())
    set_up(manager_of(sys.platform), task, is_trial=dry_run)


def set_up(manager: Manager, task: Task, *, is_trial: bool = False) -> None:
    """Write a service and start it, each told. Nothing is written where it would never run.

    :raises JobfsError: it could not be started; where the user's manager does not run just now, it is enabled for when
        that does.
    """
    is_running = is_trial or _is_running(manager)
    text = manager.text(task, own_command())
    path = manager.path(task.name)
    say(shown(f"{'would write' if is_trial else 'writing'} {path}:"))
    for line in text.splitlines():
        say(shown(f"  {line}"))
    if not is_trial:
        _write(path, text, task)
    _run_all(manager.start(task.name) if is_running else manager.enable(task.name), is_trial=is_trial)
    if not is_running:
        cause = f"{task.name} is written and enabled, but not started: no service manager of this user runs just now"
        raise JobfsError(cause, "it starts when you log in; without a login, once this is run: loginctl enable-linger")
    if not is_trial:
        say(shown(f"{task.name} serves {task.job} at {task.directory}, now and after each login"))


def _is_running(manager: Manager) -> bool:
    """Tell whether the user's service manager runs now.

    :raises JobfsError: there is none, and will be none.
    """
    remedy = "have 'jobfs mount' run by whatever starts programs here"
    program = manager.probe()[0]
    if shutil.which(program) is None:
        raise JobfsError(f"there is no {program} here, so nothing was written", remedy)
    is_running = _answers(manager)
    if not is_running and not manager.begins_later():
        raise JobfsError("this machine was not started by systemd (a container?), so nothing was written", remedy)
    return is_running


def _answers(manager: Manager) -> bool:
    """Tell whether the user's service manager runs now."""
    command = manager.probe()
    return shutil.which(command[0]) is not None and _told(command).stdout.strip() != "offline"


@_app.command("remove", epilog="Example: jobfs service remove ~/job")
def remove(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The mount point, or the folder.")],
    dry_run: DryRunOption = False,
) -> None:
    """End the service of a directory and delete it. What is not sent is kept, and sent by the next mount."""
    name = name_of(real_directory(directory))
    manager = manager_of(sys.platform)
    path = manager.path(name)
    if not path.exists():
        raise SettingsError(f"there is no service for {directory}", "see 'jobfs service status'")
    is_running = dry_run or _answers(manager)
    _run_all(manager.stop(name) if is_running else manager.disable(name), is_trial=dry_run)
    if not dry_run:
        path.unlink()
    _run_all(manager.forget() if is_running else [], is_trial=dry_run)
    say(shown(f"{'would delete' if dry_run else 'deleted'} {path}"))


@_app.command("status", epilog="Example: jobfs service status")
def status(json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """List the services of jobfs, and whether they run."""
    manager = manager_of(sys.platform)
    found = [
        {"name": name, "file": str(manager.path(name)), "state": _state(manager, name)} for name in manager.installed()
    ]
    if json:
        say_json(found)
        return
    if not found:
        say("there is no service of jobfs")
    for one in found:
        say(shown(f"{one['name']}  {one['state']}  {one['file']}"))


def manager_of(platform: str) -> Manager:
    """Return the service manager of a system.

    :param platform: as ``sys.platform``.
    :raises SettingsError: there is none that jobfs knows.
    """
    if platform == "linux":
        return Systemd(platformdirs.user_config_path())
    if platform == "darwin":
        return Launchd(Path.home(), os.getuid())
    raise SettingsError("services are written for systemd and launchd only", "start 'jobfs mount' by other means")


def _check_key(general: Chosen) -> None:
    """Refuse a service that would find no key: it has none of the present environment.

    :raises SettingsError:
    """
    if general.url is not None or general.api_key_file is not None:
        remedy = "jobfs login --url URL --profile NAME, then jobfs service install --profile NAME"
        raise SettingsError("a service takes server and key from a profile", remedy)
    plain = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    try:
        settings.load(general, plain)
    except SettingsError as error:
        raise SettingsError(f"the service would have no key: {error.cause}", "log in first: jobfs login") from error


def _write(path: Path, text: str, task: Task) -> None:
    Path(task.directory).mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    temporary.replace(path)


def _run_all(commands: list[list[str]], *, is_trial: bool) -> None:
    """Run commands, each told; the first that fails ends it.

    :raises JobfsError: one could not be run, or failed.
    """
    for command in commands:
        tell(shown(f"{'would run' if is_trial else 'running'} {shlex.join(command)}"))
        if is_trial:
            continue
        if shutil.which(command[0]) is None:
            raise JobfsError(f"there is no {command[0]} here", "run it where the service manager is")
        done = _told(command)
        if done.returncode:
            words = " ".join((done.stderr or done.stdout).split()) or f"code {done.returncode}"
            raise JobfsError(f"{shlex.join(command)}: {words}", "what was written stays; try it by hand")


def _told(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the service manager; return how it ended, and what it printed.

    :raises JobfsError: it does not answer.
    """
    environment = dict(os.environ)
    if sys.platform == "linux" and RUNTIME_DIRECTORY not in environment:
        # As after su or sudo. Where the user has a session besides, its manager can be spoken to all the same.
        environment[RUNTIME_DIRECTORY] = f"/run/user/{os.getuid()}"
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise JobfsError(f"{command[0]} does not answer", "see its own log") from None


def _state(manager: Manager, name: str) -> str:
    command = manager.ask(name)
    if shutil.which(command[0]) is None:
        return "unknown"
    try:
        done = _told(command)
    except JobfsError:
        return "unknown"
    word = done.stdout.strip()
    return word if word.isalpha() else "inactive" if done.returncode else "active"

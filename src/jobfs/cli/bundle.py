"""``jobfs report``: what somebody needs to know who looks for a fault, as one archive without contents or secrets.

Logs and records hold names of files, which often are what the fault is about; the command says so. They hold no
contents. Keys are cut out wherever they might stand: those that are known here by their value, others by their form.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.checks import machine_findings
from jobfs.cli.choices import chosen
from jobfs.cli.doctor import server_report
from jobfs.cli.logbook import LOG_NAME
from jobfs.cli.order import CRASH_NAME
from jobfs.cli.terminal import progress, say, tell
from jobfs.errors import JobfsError
from jobfs.workspace import settings
from jobfs.workspace.instance import Instance, identity, instances
from jobfs.workspace.settings import Chosen, config_directory
from jobfs.workspace.variables import SECRET_VARIABLES

_MOST_LOG_BYTES = 2 << 20
_LEAST_SECRET = 4
_FORMS = (
    (re.compile(r"jobfs_[a-z]_[A-Za-z0-9_-]{8,}"), "***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"(?i)(\b[a-z]+://)[^/\s@\"']+@"), r"\1***@"),
    (re.compile(r"(\b[a-z]+://[^\s?\"']+)\?[^\s\"']+"), r"\1?***"),
    (
        re.compile(r"(?i)(\"?\b(?:token|secret|password|api[-_]?key|authorization)\b\"?\s*[:=]\s*)(\"[^\"]*\"|\S+)"),
        r"\1***",
    ),
)
"""How keys, passwords in addresses and signed links look, whoever wrote them there."""

_TABLES = ("local", "base", "link", "aside", "creation")
_SHOWN_VARIABLES = ("LANG", "LC_ALL", "PATH", "TERM", "XDG_RUNTIME_DIR", "HTTPS_PROXY", "https_proxy", "no_proxy")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog="Example: jobfs report ~/jobfs-report.zip")(report)


def report(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The archive; a new one here by default.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server.")] = False,
) -> None:
    """Write an archive for whoever looks for a fault: checks, states and logs. No contents of files, and no keys."""
    path = file or Path(f"jobfs-report-{time.strftime('%Y%m%d-%H%M%S')}.zip")
    clean = Cleaner(secrets_of(chosen(context), os.environ))
    with progress("collecting"):
        write_archive(path, clean, _parts(context, is_offline=offline))
    say(f"{path} is written")
    tell("it holds names of files, no contents and no keys; look into it before you give it away")


class Cleaner:
    """Cuts out secrets.

    :param known: values that are secret.
    """

    def __init__(self, known: frozenset[str]) -> None:
        forms = {form for value in known for form in (value, json.dumps(value)[1:-1])}
        self._known = sorted((form for form in forms if len(form) >= _LEAST_SECRET), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return a text without them."""
        for value in self._known:
            text = text.replace(value, "***")
        for form, instead in _FORMS:
            text = form.sub(instead, text)
        return text


def secrets_of(options: Chosen, environment: Mapping[str, str]) -> frozenset[str]:
    """Return every secret value that is known here: keys of the environment, of files, of the profile."""
    found = {environment[name].strip() for name in SECRET_VARIABLES if environment.get(name)}
    for name, value in environment.items():
        if re.search(r"(?i)key|token|secret|password", name):
            found.add(value.strip())
    try:
        known = settings.load(options, environment)
        found |= {known.api_key, known.system_key or ""}
    except JobfsError:
        pass  # then there is no further key that could be found
    for file in config_directory(environment).glob("**/*key*"):
        if file.is_file():
            found |= set(file.read_text(encoding="utf-8", errors="replace").split())
    found |= {one.address.token for one in instances() if one.address is not None}
    return frozenset(found - {""})


def write_archive(path: Path, clean: Callable[[str], str], parts: Iterator[tuple[str, str]]) -> None:
    """Write texts by name into a new archive that only its owner can read; each is cleaned.

    :raises FileExistsError: it is there already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts:
            archive.writestr(name, clean(text))


def _parts(context: typer.Context, *, is_offline: bool) -> Iterator[tuple[str, str]]:
    checks = list(machine_findings())
    if not is_offline:
        checks += server_report(context)
    yield "checks.json", _json([finding.as_json() for finding in checks])
    yield "environment.json", _json(_environment(os.environ))
    config = config_directory(os.environ) / "config.toml"
    if config.is_file():
        yield "config.toml", config.read_text(encoding="utf-8", errors="replace")
    for number, instance in enumerate(instances(), 1):
        folder = f"workspace-{number}"
        yield f"{folder}/status.json", _json(_status(instance))
        yield f"{folder}/state.json", _json(_state(instance.state))
        for log in sorted(instance.state.glob(f"{LOG_NAME}*")):
            yield f"{folder}/{log.name}", _tail(log)
    for crash in sorted({instance.state.parent.parent / CRASH_NAME for instance in instances()}):
        if crash.is_file():
            yield crash.name, _tail(crash)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that matter; of secret ones only that they are set."""
    found = {name: environment[name] for name in _SHOWN_VARIABLES if name in environment}
    for name, value in sorted(environment.items()):
        if name.startswith(("JOBFS_", "PERSTACK_")):
            found[name] = "set" if name in SECRET_VARIABLES else value
    return found


def _status(instance: Instance) -> object:
    if not instance.is_running():
        return {**identity(instance), "isRunning": False}
    try:
        return {**instance.ask("status"), "isRunning": True}
    except JobfsError as error:
        return {**identity(instance), "isRunning": True, "trouble": error.cause}


def _state(state: Path) -> dict[str, object]:
    """Return how much is in a state's tables, and its settings; read without disturbing who has it open."""
    database = state / "state.db"
    found: dict[str, object] = {"bytes": database.stat().st_size}
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            for table in _TABLES:
                (found[table],) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
            found["meta"] = dict(connection.execute("SELECT key, value FROM meta"))
    except sqlite3.Error as error:
        found["trouble"] = str(error)
    return found


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MOST_LOG_BYTES))
        return file.read().decode("utf-8", "replace")


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

"""``jobfs doctor``: is everything as it has to be, and what to do where it is not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from jobfs.api.transport import Transport
from jobfs.cli import abilities
from jobfs.cli.checks import Finding, Verdict, machine_findings
from jobfs.cli.choices import chosen
from jobfs.cli.probes import probing
from jobfs.cli.reach import check_job, server_findings
from jobfs.cli.remote import run
from jobfs.cli.terminal import progress, say, say_json, shown
from jobfs.errors import ApiError, JobfsError, SettingsError
from jobfs.workspace import settings
from jobfs.workspace.instance import instances
from jobfs.workspace.meter import Meter, MeteredTransport
from jobfs.workspace.settings import Settings
from jobfs.workspace.states import state_root

_WIDTH = max(len(verdict.value) for verdict in Verdict)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", epilog="Example: jobfs doctor --probe abc123")(doctor)


def doctor(
    context: typer.Context,
    probe: Annotated[
        str | None,
        typer.Option("--probe", metavar="JOB", help="Also try out the server, in a new folder of this job."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check this machine, the settings and the server: what was looked at, how it is, and what to do.

    What --probe finds out about a server is remembered, and used by every later mount.
    """
    if probe is not None and offline:
        raise SettingsError("--probe and --offline contradict each other", "leave one of them out")
    found = [*machine_findings(), *_mounts()]
    if not offline:
        with progress("asking the server"):
            found += server_report(context, probe)
    if json:
        say_json([finding.as_json() for finding in found])
    else:
        for finding in found:
            _say(finding)
    if any(finding.verdict is Verdict.FAILED for finding in found):
        raise typer.Exit(JobfsError.exit_code)


def _say(finding: Finding) -> None:
    say(shown(f"{finding.verdict.value:<{_WIDTH}}  {finding.what}: {finding.detail}"))
    if finding.remedy:
        say(shown(f"{'':<{_WIDTH}}    next: {finding.remedy}"))


def _mounts() -> list[Finding]:
    """Look whether everything that is said to run answers."""
    found = []
    for instance in instances():
        if instance.address is None:
            continue
        what = f"{instance.kind} {instance.directory}"
        try:
            instance.ask("ping", timeout_s=5.0)
            found.append(Finding(what, Verdict.OK, "answers"))
        except JobfsError as error:
            found.append(Finding(what, Verdict.FAILED, error.cause, f"jobfs umount {instance.directory}; mount again"))
    return found


def server_report(context: typer.Context, job: str | None = None) -> list[Finding]:
    """Return what is found about key and server.

    :param job: try out the server, in the workspace of this job.
    """
    try:
        known = settings.load(chosen(context), os.environ)
    except JobfsError as error:
        return [Finding("key", Verdict.FAILED, error.cause, error.remedy)]
    warnings = [Finding("key file", Verdict.WARNING, warning) for warning in known.warnings]
    try:
        return warnings + run(_ask(known, job))
    except SettingsError as error:
        return [*warnings, Finding("server", Verdict.FAILED, error.cause, error.remedy)]


async def _ask(known: Settings, job: str | None) -> list[Finding]:
    async with _opened(known) as transport:
        found = await server_findings(known, transport)
        if any(finding.verdict is Verdict.FAILED for finding in found):
            return found
        if job is None:
            return found + _remembered(known.url)
        there = await check_job(transport, job)
        found.append(there)
        return found + (await _probe(transport, known.url, job) if there.verdict is Verdict.OK else [])


@asynccontextmanager
async def _opened(known: Settings) -> AsyncIterator[Transport]:
    async with MeteredTransport(known.url, known.api_key, known.system_key, meter=Meter()) as transport:
        yield transport


def _remembered(url: str) -> list[Finding]:
    known = abilities.recall(state_root(), url)
    if not known:
        return [Finding("abilities", Verdict.NOTE, "nobody has probed this server", "jobfs doctor --probe JOB")]
    words = ", ".join(f"{name}={value}" for name, value in known.items())
    return [Finding("abilities", Verdict.OK, f"as probed: {words}")]


async def _probe(transport: Transport, url: str, job: str) -> list[Finding]:
    """Try out the server and remember the results, also where a later probe fails."""
    results: dict[str, str] = {}
    found = []
    try:
        async with probing(transport, job) as probe:
            for name, ask in probe.probes().items():
                try:
                    results[name] = await ask()
                except ApiError as error:
                    found.append(Finding(f"probe {name}", Verdict.NOTE, error.cause))
                    continue
                found.append(_judged(name, results[name]))
    except ApiError as error:
        found.append(Finding("probe", Verdict.FAILED, error.cause, error.remedy))
    if results:
        abilities.remember(state_root(), url, results)
    return found


def _judged(name: str, value: str) -> Finding:
    if (name, value) == ("bytes", "changed"):
        remedy = "do not keep files other than text there; tell who runs the server"
        return Finding(f"probe {name}", Verdict.FAILED, "the server changes the bytes of files", remedy)
    return Finding(f"probe {name}", Verdict.OK, value)

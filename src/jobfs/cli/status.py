"""``jobfs status``: what is mounted and synchronised, and how it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from jobfs.cli.instance import Instance, instances
from jobfs.cli.report import identity
from jobfs.cli.terminal import human_size, say, say_json, shown
from jobfs.errors import JobfsError

_MOST_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", epilog="Example: jobfs status --json")(status)


def status(json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show every mount and synchronised folder: job, items, what is not yet sent, problems and conflicts."""
    found = [_status(instance) for instance in instances()]
    if json:
        say_json(found)
        return
    if not found:
        say("nothing is mounted or synchronised")
    for one in found:
        for line in _lines(one):
            say(shown(line))


def _status(instance: Instance) -> dict[str, Any]:
    if not instance.is_running():
        return {**identity(instance), "pid": 0, "isRunning": False}
    try:
        told: dict[str, Any] = instance.ask("status")
    except JobfsError as error:
        return {**identity(instance), "isRunning": True, "trouble": error.cause}
    return {**told, "isRunning": True}


def _lines(one: Mapping[str, Any]) -> Iterator[str]:
    where = "mounted on" if one["kind"] == "mount" else "in step with"
    if not one["isRunning"]:
        yield f"{one['job']}  ended; was {where} {one['directory']}"
        return
    yield f"{one['job']}  {where} {one['directory']}  ({one['transport']}, process {one['pid']})"
    if "trouble" in one:
        yield f"  {one['trouble']}"
        return
    listed = one["lastListingSecondsAgo"]
    ago = "not yet" if listed is None else f"{listed:.0f} s ago"
    age = max(time.time() - one["started"], 0)
    yield f"  job {one['jobStatus'] or 'status unknown'}; listed {ago}; up {age / 60:.0f} min; {_requests(one)}"
    yield f"  {one['items']} items, {human_size(one['cachedBytes'])} of content here"
    yield from _troubles(one)


def _requests(one: Mapping[str, Any]) -> str:
    failed = one["requests"]["failed"]
    return f"{one['requests']['total']} requests" + (f", {failed} failed" if failed else "")


def _troubles(one: Mapping[str, Any]) -> Iterator[str]:
    if one["offline"]:
        yield f"  offline: {one['offline']}"
    if one["isFrozen"]:
        yield "  the workspace is gone from the server; the files here are kept as they are"
    if one["guard"]:
        yield f"  stopped: {one['guard']}"
    if one["pending"]:
        yield f"  {one['pending']} changes are not yet sent:"
        yield from _some([f"{two['path']}: {two['reason']}" for two in one["pendingPaths"]], one["pending"])
    if one["problems"]:
        yield f"  {len(one['problems'])} problems:"
        yield from _some([f"{two['path']}: {two['detail']}" for two in one["problems"]], len(one["problems"]))
    if one["conflicts"]:
        yield f"  {len(one['conflicts'])} conflict copies: see 'jobfs conflicts'"


def _some(lines: list[str], number: int) -> Iterator[str]:
    for line in lines[:_MOST_SHOWN]:
        yield f"    {line}"
    if number > _MOST_SHOWN:
        yield f"    and {number - _MOST_SHOWN} more: 'jobfs status --json' has them"

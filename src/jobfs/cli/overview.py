"""What a workspace's status says, in lines for people: for ``jobfs status``, and ``.jobfs/status.txt``."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobfs.cli.terminal import human_size, many, say, shown
from jobfs.workspace.instance import FOLDER, Instance

_MOST_SHOWN = 10
_DOING = {
    "Upload": "sending",
    "Download": "receiving",
    "MakeDirectory": "making",
    "MoveRemote": "moving",
    "Displace": "moving aside",
    "SetRemotePermission": "setting the permission of",
    "DeleteRemote": "deleting",
}

_HELD_NEXT = "jobfs push PATH sends it, jobfs revert PATH undoes it"

_WORDS = {
    "in step": "the server has it as it is here",
    "on the server": "its bytes are brought here when they are read",
    "waiting": "waits to be sent",
    "held": f"held: {_HELD_NEXT}",
    "sending": "is being sent",
    "receiving": "is being brought here",
    "local only": "stays on this machine, for its name is ignored",
}


def describe_status(one: Mapping[str, Any], now_s: float | None = None) -> list[str]:
    """Return the lines about one mount or synchronised folder, without anything that would steer a terminal.

    :param one: see ``report.Reporter.status``, and ``isRunning``.
    :param now_s: seconds since the epoch.
    """
    return [shown(line) for line in _lines(one, time.time() if now_s is None else now_s)]


def _lines(one: Mapping[str, Any], now_s: float) -> Iterator[str]:
    where = "mounted on" if one["kind"] == "mount" else "in step with"
    if not one["isRunning"]:
        yield f"{one['job']}  ended; was {where} {one['directory']}"
        yield from _after(one)
        return
    yield f"{one['job']}  {where} {one['directory']}  ({one['transport']}, process {one['pid']})"
    if "trouble" in one:
        yield f"  {one['trouble']}"
        return
    listed = one["lastListingSecondsAgo"]
    ago = "not yet" if listed is None else f"{human_time(listed)} ago"
    age_s = max(now_s - one["started"], 0)
    yield f"  job {one['jobStatus'] or 'status unknown'}; listed {ago}; up {human_time(age_s)}; {_requests(one)}"
    past = one.get("historyBytes", 0)
    earlier = f", {human_size(past)} of earlier versions" if past else ""
    here = f", {human_size(one['cachedBytes'])} of content here" if one["kind"] == "mount" else ""
    yield f"  {many(one['items'], 'item')}{here}{earlier}"
    yield from _work(one)
    yield from _troubles(one)


def _after(one: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be done about what has ended."""
    place = shlex.quote(one["directory"])
    if one["isBrokenOff"]:
        end = f"'jobfs umount {place}', then mount it again" if one["kind"] == "mount" else "synchronise it again"
        yield f"  its process died; what it had not sent is kept: {end}"
    elif one["unsent"]:
        yield f"  {many(one['unsent'], 'change')} not sent, and kept: 'jobfs push {place}' sends what is not held"


def human_time(seconds: float) -> str:
    """Return a length of time in one number and its unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _requests(one: Mapping[str, Any]) -> str:
    failed = one["requests"]["failed"]
    return many(one["requests"]["total"], "request") + (f", {failed} failed" if failed else "")


def _work(one: Mapping[str, Any]) -> Iterator[str]:
    yield from _some([(_transfer(two),) for two in one["inFlight"]], len(one["inFlight"]), indent="  ")
    if one["pending"]:
        yield f"  {many(one['pending'], 'change')} not yet sent:"
        yield from _some([(_pending(two),) for two in one["pendingPaths"]], one["pending"])
    if one.get("isHeld"):
        yield f"  changes are held, {one['held']} wait: 'jobfs diff' shows them, 'jobfs push' sends them"


def _transfer(two: Mapping[str, Any]) -> str:
    doing = f"{_DOING.get(two['what'], two['what'])} {two['path']}"
    if two["moved"] is None:
        return doing
    if not two["size"]:
        return f"{doing}: {human_size(two['moved'])}"
    share = min(1, two["moved"] / two["size"])
    return f"{doing}: {human_size(two['moved'])} of {human_size(two['size'])}, {share:.0%}"


def _pending(two: Mapping[str, Any]) -> str:
    age = "" if two["secondsAgo"] is None else f" (changed {human_time(two['secondsAgo'])} ago)"
    return f"{two['path']}: {two['reason']}{age}"


def _room_for(one: Mapping[str, Any]) -> str:
    """Return what helps on a full disk, of which a folder has two: its own, and that of its state."""
    if one["kind"] == FOLDER:
        return f"free some space where {one['directory']} and {one['state']} lie; it goes on by itself then"
    return f"free some space where {one['state']} lies; what was closed is kept, and sent then"


def _troubles(one: Mapping[str, Any]) -> Iterator[str]:
    if one["offline"]:
        yield f"  {'the local disk is full' if one.get('isDiskFull') else 'offline'}: {one['offline']}"
        again = "nothing; it is tried again, ever more rarely, at least once a minute"
        yield f"    next: {_room_for(one) if one.get('isDiskFull') else again}"
    if one["isFrozen"]:
        yield "  the workspace is gone from the server; the files here are kept as they are"
    if one["guard"]:
        yield f"  stopped: {one['guard']}"
        yield f"    next: {one['guardNext']}"
    if one["problems"]:
        yield f"  {many(len(one['problems']), 'problem')}:"
        problems = [(f"{two['path']}: {two['detail']}", f"next: {two['next']}") for two in one["problems"]]
        yield from _some(problems, len(problems))
    if one["conflicts"]:
        yield f"  {many(len(one['conflicts']), 'conflict')}, with copies:"
        conflicts = [(two["path"], f"next: {two['next']}") for two in one["conflicts"]]
        yield from _some(conflicts, len(conflicts))


def _some(entries: Sequence[Sequence[str]], number: int, *, indent: str = "    ") -> Iterator[str]:
    """Yield the lines of the first entries, the further lines of each indented below its first."""
    for first, *more in entries[:_MOST_SHOWN]:
        yield f"{indent}{first}"
        yield from (f"{indent}  {line}" for line in more)
    if number > _MOST_SHOWN:
        yield f"{indent}and {number - _MOST_SHOWN} more: 'jobfs status --json' has them"


def tell_ready(instance: Instance) -> None:
    """Say what serves where."""
    if instance.kind == FOLDER:
        say(f"{instance.job} is kept in step with {instance.directory}")
    else:
        say(f"{instance.job} is mounted on {instance.directory} ({instance.transport})")


def describe_standing(one: Mapping[str, Any]) -> list[str]:
    """Return the lines about one path, without anything that would steer a terminal."""
    return [shown(line) for line in _standing(one)]


def _standing(one: Mapping[str, Any]) -> Iterator[str]:
    size = f", {human_size(one['size'])}" if one["kind"] == "file" and one["isHere"] else ""
    gone = "" if one["isHere"] else ", deleted here"
    reason = f": {one['reason']}" if one["state"] == "waiting" else ""
    yield f"{one['path']}{'/' if one['kind'] == 'directory' else ''}{size}{gone}: {_WORDS[one['state']]}{reason}"
    for name, words in (("waitingBelow", "not yet sent"), ("heldBelow", f"held: {_HELD_NEXT}")):
        if one[name]:
            yield f"  {many(one[name], 'change')} in it {words}"
    if "conflictWith" in one:
        yield f"  a conflict copy, beside {one['conflictWith']}"
        yield f"    next: {one['next']}"

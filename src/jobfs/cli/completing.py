"""``jobfs completing``: what a shell offers besides the words of its script: jobs, runs, mounts and folders.

Called by the scripts of ``completion`` while somebody types. It answers soon or not at all: a server is asked for two
seconds, its answer believed for a minute, and of a failure nothing is said.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Annotated

import typer

from jobfs.cli.choices import load_settings
from jobfs.cli.context import open_runs, open_studio
from jobfs.cli.loading import load
from jobfs.cli.parser import Command, commands
from jobfs.cli.remote import run
from jobfs.cli.terminal import say, shown
from jobfs.errors import JobfsError
from jobfs.workspace.follow import status_of
from jobfs.workspace.instance import instances
from jobfs.workspace.settings import Settings
from jobfs.workspace.states import key_of, state_root

ASK_S = 2.0
BELIEVED_S = 60.0
_MOST = 50
_LONGEST = 50
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
"""What a shell takes for one word and nothing more: a server may name its jobs otherwise."""

_CACHE = "completions"
_NEW_PLACES = ("mount", "sync", "pull", "outputs", "get", "report", "service install", "serve")
"""Commands whose directory or file is any one of this machine."""

Offer = tuple[str, str]
"""A word, and what it is."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    lenient = {"ignore_unknown_options": True, "allow_extra_args": True}
    app.command("completing", hidden=True, context_settings=lenient)(completing)


def completing(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(help="What is typed already, but for the word itself.")] = None,
) -> None:
    """Print what may come next, and what that is, parted by a tab; nothing where that cannot be told soon."""
    with suppress(JobfsError, OSError, TimeoutError, ValueError):  # nobody has asked for anything yet
        for word, what in offers([*(words or ())], lambda: load_settings(context)):
            say(f"{shown(word)}\t{shown(what)}" if what else shown(word))


def offers(words: Sequence[str], settings: Callable[[], Settings]) -> list[Offer]:
    """Return what may come after these words.

    :param words: without the program and the general options. :param settings: asked for where the server is.
    :raises JobfsError: it cannot be told. :raises TimeoutError: not soon.
    """
    for command in commands(load("app").compose(words[:1])) if words and words[0] in load("app").COMMANDS else ():
        own = command.name.split()
        if list(words[: len(own)]) == own:
            place = _next_place(command, words[len(own) :])
            break
    else:
        return []
    found = _known(place, settings()) if "JOB" in place or place == "RUN" else []
    if ":" not in place and ("DIR" in place or "PATH" in place) and command.name not in _NEW_PLACES:
        found += _places()
    return found


def _next_place(command: Command, words: Sequence[str]) -> str:
    """Return what the usage of a command calls the argument that comes after these words; nothing: none comes."""
    valued = {name for option in command.options if option.value for name in option.names}
    source = iter(words)
    count = 0
    for word in source:
        if word in valued:
            if next(source, None) is None:
                return ""  # its value comes
        elif not word.startswith("-"):
            count += 1
    if not command.arguments:
        return ""
    last = command.arguments[-1]
    if count >= len(command.arguments) and not last.is_repeated:
        return ""
    return command.arguments[min(count, len(command.arguments) - 1)].names[0].strip("[].")


def _places() -> list[Offer]:
    """Return the mounts and folders of this machine."""
    return [(one.directory, f"{one.kind} of {one.job}") for one in instances()]


def _known(place: str, settings: Settings) -> list[Offer]:
    """Return jobs or runs, as the server lists them, or listed them within the last minute."""
    kind = "runs" if place == "RUN" else "jobs"
    cache = state_root() / _CACHE / f"{kind}-{key_of(settings.url, settings.api_key)}.json"
    with suppress(OSError, ValueError):
        if 0 <= time.time() - cache.stat().st_mtime < BELIEVED_S:
            return _plain(json.loads(cache.read_text(encoding="utf-8")))
    found = run(_ask(kind, settings))
    cache.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = cache.with_name(f"{cache.name}.{os.getpid()}")
    fresh.write_text(json.dumps(found), encoding="utf-8")
    fresh.replace(cache)
    return _plain(found)


def _plain(found: Iterable[Offer]) -> list[Offer]:
    return [(word, what) for word, what in found if _PLAIN.fullmatch(word)]


async def _ask(kind: str, settings: Settings) -> list[Offer]:
    async with asyncio.timeout(ASK_S):
        if kind == "runs":
            async with open_runs(settings) as runs:
                page = await runs.list_runs(limit=_MOST)
                return [(one.id, status_of(one)) for one in page.runs]
        async with open_studio(settings) as studio:
            rows = (await studio.list_jobs(sort="createdAt", order="desc", take=_MOST)).rows
            return [(job.id, _one_line(f"{job.status} {job.query}")) for job in rows]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]

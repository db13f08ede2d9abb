"""``jobfs hold``: keep changes here until they are looked at, or let them go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobfs.cli.context import run
from jobfs.cli.review import place_of
from jobfs.cli.terminal import many, say
from jobfs.engine.hold import set_held
from jobfs.errors import SettingsError
from jobfs.planner.difference import is_different
from jobfs.store.state import State
from jobfs.workspace.instance import Instance


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("hold", epilog="Example: jobfs hold ~/job; jobfs diff ~/job; jobfs push ~/job")(hold)


def hold(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The mount point or folder; else the current directory's.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Hold no more, and send what was held.")] = False,
) -> None:
    """Keep changes here until they are looked at: nothing is sent but by 'jobfs push'. What others change still comes.

    'jobfs diff' shows what is held, 'jobfs push' sends all or a part of it, 'jobfs revert' undoes it. It stays so when
    the mount ends, until --off.
    """
    found, inner = place_of(directory)
    if inner and directory is not None:
        raise SettingsError("only a whole mount or folder can be held", f"write jobfs hold {found.directory}")
    number = found.ask("hold", on=not off) if found.is_running() else run(_set(found, is_held=not off))
    changes = many(number, "change")
    if not off:
        say(f"changes in {found.directory} are held" + (f"; {changes} already: see 'jobfs diff'" if number else ""))
    elif found.is_running():
        say(f"changes in {found.directory} are sent again" + (f", {changes} now" if number else ""))
    else:
        say(f"changes in {found.directory} are no longer held" + (f"; 'jobfs push' sends {changes}" if number else ""))


async def _set(instance: Instance, *, is_held: bool) -> int:
    """Hold what nobody serves just now, or let it go; return how many changes are known to wait."""
    state = State.open(instance.state)
    try:
        with state.transaction(durable=True):
            set_held(state, is_held=is_held)
            for node in state.approvals():
                state.drop_approval(node)
        base, local = state.base, state.synced
        return sum(is_different(base.get(node), local.get(node)) for node in {*base, *local})
    finally:
        state.close()

"""What of the user's changes the server does not have at the end, told to the user."""

from __future__ import annotations

from jobfs.cli.terminal import many, shown, tell
from jobfs.engine.leftover import Unsynced

_MOST_NAMED = 20


def tell_left(left: list[Unsynced]) -> bool:
    """Name what could not be sent, and count what is held; return whether there is anything of the first."""
    unsent = [one for one in left if not one.is_held]
    name_left(unsent)
    name_held(len(left) - len(unsent))
    return bool(unsent)


def name_held(number: int) -> None:
    """Say how many changes stay here because they are held."""
    if number:
        tell(f"jobfs: {many(number, 'change')} held: see 'jobfs diff'; 'jobfs push PATH' sends them")


def name_left(left: list[Unsynced]) -> None:
    """Name what could not be sent."""
    if not left:
        return
    tell(f"jobfs: {many(len(left), 'change')} could not be sent; kept, and sent by the next mount, or by 'jobfs push':")
    for unsynced in left[:_MOST_NAMED]:
        tell(f"  {shown(unsynced.path)}: {shown(unsynced.reason)}")
    if len(left) > _MOST_NAMED:
        tell(f"  and {len(left) - _MOST_NAMED} more")

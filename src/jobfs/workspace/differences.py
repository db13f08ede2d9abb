"""Differences with their bytes: which versions are shown side by side, and what a patch cannot say."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jobfs.workspace.conflicts import is_conflict_copy, original_of
from jobfs.workspace.patch import MOST_BYTES, Change, Version, patch_lines, quoted

_AT_ONCE = 64
"""So many files are fetched together: what is printed begins early, and little lies on the disk."""

Told = Mapping[str, Any]
"""A difference as ``review.handlers_of`` tells it."""


class Ask(Protocol):
    """Asks a workspace for its differences, and their versions; see ``review.handlers_of``."""

    async def __call__(self, do: str, **options: Any) -> Any:
        """Return the answer."""


async def patch_of(ask: Ask, path: str) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a patch of what differs at or below a path, what a patch cannot say first."""
    told: list[Told] = await ask("differences", path=path)
    for what in of_directories(told):
        yield f"jobfs: {what}\n".encode()
    async with aclosing(changes_of(ask, paired(told))) as changes:
        async for change in changes:
            for line in patch_lines(change):
                yield line


@dataclass(frozen=True, slots=True)
class Pair:
    """A file of the old side and one of the new side that are shown as one change; either may be missing.

    :param old, new: the differences whose versions they are; of a rename or an edit, the same one.
    """

    old: Told | None
    new: Told | None


def paired(told: Sequence[Told]) -> list[Pair]:
    """Return which versions of files are shown side by side, by path.

    A file that moved is a rename, unless another one stood at its new place or stands at its old one. Patch programs
    know places only, so then each place is shown for itself.
    """
    files = [one for one in told if one["kind"] == "file"]
    old = {one["old"]["path"]: one for one in files if one["old"] is not None}
    new = {one["new"]["path"]: one for one in files if one["new"] is not None}
    pairs: dict[str, Pair] = {}
    for one in files:
        if one["old"] and one["new"] and one["new"]["path"] not in old and one["old"]["path"] not in new:
            pairs[one["new"]["path"]] = Pair(one, one)
            del old[one["old"]["path"]], new[one["new"]["path"]]
    for place in {*old, *new}:
        pairs[place] = Pair(old.get(place), new.get(place))
    return [pairs[place] for place in sorted(pairs)]


def of_directories(told: Sequence[Told]) -> Iterator[str]:
    """Yield what a patch cannot say: of directories without files, renamed, or with another permission."""
    paths = {
        side: [one[side]["path"] for one in told if one["kind"] == "file" and one[side]] for side in ("old", "new")
    }
    for one in told:
        if one["kind"] != "directory":
            continue
        old, new = one["old"], one["new"]
        if old is None or new is None:
            side = "new" if old is None else "old"
            place = one[side]["path"]
            if not any(path.startswith(f"{place}/") for path in paths[side]):
                yield f"{'new' if old is None else 'deleted'} directory {quoted(place)}"
            continue
        if old["path"] != new["path"]:
            yield f"directory {quoted(old['path'])} is now {quoted(new['path'])}"
        if old["permission"] != new["permission"]:
            yield f"directory {quoted(new['path'])} is now {new['permission']}"


async def changes_of(ask: Ask, pairs: Sequence[Pair]) -> AsyncGenerator[Change, None]:
    """Yield the pairs with their bytes."""
    with tempfile.TemporaryDirectory(prefix="jobfs-diff-") as folder:
        for at in range(0, len(pairs), _AT_ONCE):
            part = pairs[at : at + _AT_ONCE]
            nodes = sorted({one["node"] for pair in part if _is_wanted(pair) for one in (pair.old, pair.new) if one})
            failures = await ask("versions", nodes=nodes, directory=folder) if nodes else {}
            for pair in part:
                yield _change(pair, Path(folder), failures)
            for left in Path(folder).iterdir():
                left.unlink()


def _is_same(pair: Pair) -> bool:
    return pair.old is pair.new and bool(pair.old and pair.old["isSame"])


def _is_wanted(pair: Pair) -> bool:
    """Tell whether the bytes of a pair are shown."""
    sides = [one[side] for one, side in ((pair.old, "old"), (pair.new, "new")) if one is not None]
    return not _is_same(pair) and all(side["size"] <= MOST_BYTES for side in sides)


def _change(pair: Pair, folder: Path, failures: Mapping[str, Sequence[str]]) -> Change:
    notes: list[str] = []
    for one in (pair.old, pair.new) if pair.old is not pair.new else (pair.new,):
        if one is not None:
            notes += failures.get(str(one["node"]), ()) if _is_wanted(pair) else ()
    if pair.old is not None and pair.old["isOvertaken"]:
        notes.append(f"the server has another version of {quoted(pair.old['old']['path'])} by now")
    if pair.new is not None and pair.old is None and is_conflict_copy(pair.new["new"]["path"]):
        original = quoted(original_of(pair.new["new"]["path"]))
        notes.append(f"this is the version from here of {original}, which was changed on the server meanwhile")
    return Change(_version(pair.old, "old", folder), _version(pair.new, "new", folder), _is_same(pair), tuple(notes))


def _version(one: Told | None, side: str, folder: Path) -> Version | None:
    if one is None:
        return None
    told = one[side]
    found = folder / f"{one['node']}.{side}"
    data = found.read_bytes() if found.exists() else None
    return Version(told["path"], told["mode"], told["size"], data, told["sha256"])

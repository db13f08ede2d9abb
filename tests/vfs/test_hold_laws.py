"""Laws of a held workspace, over random edits: what a push sends, what it leaves, and what a revert brings back.

``scripts/hold-laws`` tries others each time, and many more of them.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from engine_harness import DEADLINE_S, Mounted, mounted, run
from hypothesis import given, settings
from hypothesis import strategies as st
from model_remote import ModelRemote

from jobfs.engine.review import InTheWay, Review
from jobfs.errors import NotFound
from jobfs.model import Kind, path_of

PATHS = ("a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a", "f/d")
EDITS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(PATHS), st.sampled_from(("1", "22", "333"))),
    st.tuples(st.just("remove"), st.sampled_from(PATHS), st.just("")),
    st.tuples(st.just("make"), st.sampled_from(PATHS), st.just("")),
    st.tuples(st.just("move"), st.sampled_from(PATHS), st.sampled_from(PATHS)),
    st.tuples(st.just("protect"), st.sampled_from(PATHS), st.just("")),
)
Edit = tuple[str, str, str]

EXAMPLES = int(os.environ.get("JOBFS_HOLD_EXAMPLES", "0"))
"""So many, found by chance; without it the same few each time."""

SETTINGS = settings(
    max_examples=EXAMPLES or 15, derandomize=not EXAMPLES, database=None, deadline=None, print_blob=bool(EXAMPLES)
)


def workspace() -> ModelRemote:
    remote = ModelRemote()
    for path, data in {"a": b"A", "d": None, "d/a": b"DA", "d/b": b"DB", "d/e": None, "d/e/a": b"DEA"}.items():
        remote.put(path, data)
    return remote


async def edit(mount: Mounted, what: str, path: str, other: str) -> None:
    """Do one thing as a program would; what a program could not do is left."""
    try:
        match what:
            case "write":
                await mount.write(path, other.encode())
            case "make":
                mount.vfs.make(*mount.place(path), Kind.DIRECTORY, mode=0o755)
            case "move":
                await mount.rename(path, other)
            case "protect":
                mount.vfs.set_mode(mount.node(path), 0o444)
            case _:
                remove(mount, path)
    except OSError:
        return


def remove(mount: Mounted, path: str) -> None:
    """``rm -r``."""
    node = mount.node(path)
    for name in mount.session.state.local.children(node).copy():
        remove(mount, f"{path}/{name}")
    is_directory = mount.vfs.attributes(node).kind is Kind.DIRECTORY
    (mount.vfs.rmdir if is_directory else mount.vfs.unlink)(*mount.place(path))


async def here(mount: Mounted) -> dict[str, bytes | None]:
    """Return what a program sees: path to bytes, None for directories."""
    local = mount.session.state.synced
    found: dict[str, bytes | None] = {}
    for node in list(local):
        entry, path = local.get(node), path_of(local, node)
        if path and entry is not None:
            found[path] = None if entry.kind is Kind.DIRECTORY else await mount.read(path)
    return found


def part(tree: dict[str, bytes | None], top: str) -> dict[str, bytes | None]:
    return {path: data for path, data in tree.items() if not top or path == top or path.startswith(f"{top}/")}


def changed(before: dict[str, bytes | None], after: dict[str, bytes | None]) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path, "") != after.get(path, "")}


@SETTINGS
@given(st.lists(EDITS, min_size=1, max_size=8), st.sampled_from(("", *PATHS)))
def test_after_a_push_the_server_has_a_path_as_it_is_here_and_nothing_else_has_changed(
    edits: list[Edit], path: str
) -> None:
    async def scenario(directory: Path) -> None:
        remote = workspace()
        async with mounted(directory, remote) as mount:
            review = Review(mount.session)
            await review.hold(is_on=True)
            for one in edits:
                await edit(mount, *one)
            await mount.session.drain(DEADLINE_S)
            before, wanted = remote.tree(), await here(mount)
            places = [(one.old_path, one.new_path) for one in await review.differences("")]
            try:
                published = await review.publish(path, DEADLINE_S)
            except NotFound:
                assert part(before, path) == part(wanted, path) == {}
                return
            assert published.left == ()
            assert part(remote.tree(), path) == part(wanted, path)
            told = {place for pair in places if set(pair) & set(published.sent) for place in pair if place}
            strange = {
                one
                for one in changed(before, remote.tree())
                if not any(one == place or one.startswith(f"{place}/") for place in told)
            }
            assert strange == set()
            assert remote.destroyed_unseen == set()
            assert (await review.publish("", DEADLINE_S)).left == ()
            assert remote.tree() == wanted == await here(mount)
            assert mount.session.state.check() == []
            assert mount.session.state.approvals() == set()

    with tempfile.TemporaryDirectory() as directory:
        run(scenario(Path(directory)))


@SETTINGS
@given(st.lists(EDITS, min_size=1, max_size=8), st.sampled_from(("", *PATHS)))
def test_after_a_revert_a_path_is_as_on_the_server_and_the_rest_can_still_be_pushed(
    edits: list[Edit], path: str
) -> None:
    async def scenario(directory: Path) -> None:
        remote = workspace()
        before = remote.tree()
        async with mounted(directory, remote) as mount:
            review = Review(mount.session)
            await review.hold(is_on=True)
            for one in edits:
                await edit(mount, *one)
            await mount.session.drain(DEADLINE_S)
            edited = await here(mount)
            try:
                await review.revert(path)
            except NotFound:
                assert part(before, path) == part(edited, path) == {}
                return
            except InTheWay:
                assert await here(mount) == edited
                return
            await mount.session.drain(DEADLINE_S)
            if path in before or path in await here(mount):
                assert await review.differences(path) == []
            if not path:
                assert await here(mount) == before
            assert mount.session.state.check() == []
            assert remote.tree() == before
            left = await here(mount)
            assert (await review.publish("", DEADLINE_S)).left == ()
            assert remote.tree() == left

    with tempfile.TemporaryDirectory() as directory:
        run(scenario(Path(directory)))

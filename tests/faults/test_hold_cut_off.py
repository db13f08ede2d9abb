"""A push of held changes that is cut off at each of its requests: the next session ends it, and sends nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_harness import DEADLINE_S, Mounted, mounted, run
from model_remote import ModelRemote

from jobfs.engine.review import Review
from jobfs.errors import OutcomeUnknown
from jobfs.model import Kind

BEFORE = {"gone": b"gone", "held": b"held", "src": None, "src/a": b"one", "src/b": b"two"}
AFTER = {"held": b"held", "lib": None, "lib/a": b"edited", "lib/new": b"new", "src": None, "src/b": b"two"}


def workspace() -> ModelRemote:
    remote = ModelRemote()
    for path, data in BEFORE.items():
        remote.put(path, data)
    return remote


async def edit(mount: Mounted) -> None:
    await mount.read("src/a")  # of bytes that were never here nobody could tell whether a move has changed them
    mount.vfs.make(*mount.place("lib"), Kind.DIRECTORY, mode=0o755)
    await mount.rename("src/a", "lib/a")
    await mount.write("lib/a", b"edited")
    await mount.write("lib/new", b"new")
    mount.vfs.unlink(*mount.place("gone"))
    await mount.write("held", b"not reviewed")


def cut(remote: ModelRemote, at: int, *, is_done: bool) -> None:
    """From the request of that number on the server is not reached; that one it still does, or not."""

    def lose(call: str, subject: str) -> None:
        if len(remote.asked()) >= at:
            raise OutcomeUnknown("the line was cut")

    if is_done:
        remote.after = lose
    remote.before = lambda call, subject: lose(call, subject) if len(remote.asked()) > at or not is_done else None


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_push_that_is_cut_off_anywhere_is_ended_by_the_next_session(tmp_path: Path, is_done: bool) -> None:
    async def scenario(at: int) -> bool:
        """Cut one push; return whether it came so far."""
        remote = workspace()
        async with mounted(tmp_path / str(at), remote) as mount:
            review = Review(mount.session)
            await review.hold(is_on=True)
            await edit(mount)
            await mount.session.drain(DEADLINE_S)
            remote.calls.clear()
            cut(remote, at, is_done=is_done)
            for path in ("lib", "gone"):
                await review.publish(path, 0.05)
            was_cut = len(remote.asked()) >= at
        remote.before = remote.after = lambda call, subject: None
        async with mounted(tmp_path / str(at), remote) as mount:
            await mount.pull()
            left = await mount.session.drain(DEADLINE_S)
            assert [(one.path, one.is_held) for one in left] == [("held", True)], f"cut at request {at}"
            assert remote.tree() == AFTER, f"cut at request {at}"
            assert await mount.read("held") == b"not reviewed"
            assert mount.session.state.check() == []
        return was_cut

    at = 1
    while run(scenario(at)):
        at += 1
    assert at > 7

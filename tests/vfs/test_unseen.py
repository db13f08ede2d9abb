"""What a program deletes or replaces is what it was shown, not what took the name a moment before."""

from __future__ import annotations

from pathlib import Path

from engine_harness import mounted, run
from model_remote import ModelRemote

from jobfs.model import ROOT, NodeId
from jobfs.vfs.operations import NameChange


class Cache:
    """A transport's cache that names nothing but what a test lets it look up."""

    def __init__(self) -> None:
        self.known: set[NodeId] = set()
        self.changed: list[str] = []

    def knows(self, node: NodeId) -> bool:
        return node in self.known

    def name_changed(self, change: NameChange) -> None:
        self.changed.append(change.name)

    def attributes_changed(self, node: NodeId) -> None:
        pass


def test_what_took_a_name_unseen_is_neither_unlinked_nor_replaced_by_a_program_that_meant_something_else(
    tmp_path: Path,
) -> None:
    remote = ModelRemote()

    async def story() -> None:
        async with mounted(tmp_path, remote) as mount:
            cache = Cache()
            mount.vfs.tell(cache)
            await mount.write("mine", b"mine")
            cache.known.add(mount.node("mine"))
            remote.put("a", b"theirs")
            await mount.pull()
            cache.changed.clear()
            mount.vfs.unlink(ROOT, "a")  # the program looked when something else was there
            assert (mount.names(), cache.changed) == (["a", "mine"], ["a"])
            await mount.rename("mine", "a")  # and this one when nothing was
            await mount.settle()
            copy = next(name for name in mount.names() if "conflict" in name)
            assert remote.tree() == {"a": b"mine", copy: b"theirs"}
            cache.known.update((mount.node("a"), mount.node(copy)))
            mount.vfs.unlink(ROOT, copy)
            await mount.rename("a", "b")
            await mount.settle()
            assert remote.tree() == {"b": b"mine"}

    run(story())

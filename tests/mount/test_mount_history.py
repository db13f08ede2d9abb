"""Versions that come back into a real mount, as programs see it, by each transport."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kept_versions import kept_versions
from model_remote import ModelRemote

from jobfs.engine.restore import TreeRestorer, last_deleted

pytestmark = pytest.mark.mount

Live = Any  # see conftest
Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def live(serving: Callable, transport: str) -> Live:
    remote = ModelRemote()
    remote.put("a", b"first")
    remote.put("d", None)
    remote.put("d/b", b"other")
    return serving(transport, remote)


def kept(live: Live) -> list[tuple[str, bytes, str]]:
    found: list[tuple[str, bytes, str]] = live.do(lambda: kept_versions(live.session.state))
    return found


def restore(live: Live, number: int, path: str, *, is_undelete: bool = False) -> None:
    version = live.do(lambda: live.session.state.versions.get(number))
    restorer = TreeRestorer(live.session.workspace)
    live.call(lambda: restorer.restore(version, path, is_undelete=is_undelete))


def test_a_restored_version_is_at_its_name_for_every_program(live: Live, eventually: Eventually) -> None:
    path: Path = live.path / "a"
    assert path.read_bytes() == b"first"
    path.write_bytes(b"second, and longer")
    live.settle()
    assert path.read_bytes() == b"second, and longer"
    restore(live, 1, "a")
    eventually(lambda: (path.stat().st_size, path.read_bytes()) == (5, b"first"))
    live.settle()
    assert live.do(live.remote.tree)["a"] == b"first"
    assert [data for _, data, _ in kept(live)] == [b"first", b"second, and longer"]


def test_what_was_deleted_comes_back_into_listings(live: Live, eventually: Eventually) -> None:
    directory: Path = live.path / "d"
    (directory / "c").write_bytes(b"mine")
    assert (directory / "b").read_bytes() == b"other"
    live.settle()
    for name in ("b", "c"):
        (directory / name).unlink()
    directory.rmdir()
    assert os.listdir(live.path) == ["a"]
    live.settle()
    for version in live.do(lambda: last_deleted(live.session.state.versions.below("d"))):
        restore(live, version.number, version.path, is_undelete=True)
    eventually(lambda: sorted(os.listdir(live.path)) == ["a", "d"])
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {"b": b"other", "c": b"mine"}
    live.settle()
    assert live.do(live.remote.tree)["d/c"] == b"mine"


def test_the_ways_in_which_editors_save_are_one_version_each(live: Live) -> None:
    path, beside, backup = (live.path / name for name in ("a", ".a.swp", "a~"))
    assert path.read_bytes() == b"first"
    path.rename(backup)  # vim with backupcopy=no
    path.write_bytes(b"by vim")
    backup.unlink()
    live.settle()
    beside.write_bytes(b"by another")
    beside.rename(path)
    live.settle()
    with path.open("r+b") as file:
        file.write(b"IN PLACE")
    live.settle()
    assert kept(live) == [
        ("a", b"first", "replaced"),
        ("a", b"by vim", "replaced"),
        ("a", b"by another", "replaced"),
    ]

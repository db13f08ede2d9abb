"""A disk that fails now and then: nothing is taken for deleted, nothing stays hidden, and it is tried again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from folder_harness import QUICK, Desk, run

from jobfs.cli.order import Order
from jobfs.cli.outcome import Outcome, outcome_of
from jobfs.errors import FolderError
from jobfs.folder.disk import Disk
from jobfs.folder.report import Summary
from jobfs.folder.sync import FolderSync, SyncOptions
from jobfs.planner.naming import is_hidden_name


class BadSystem:
    """The operating system, on a disk that fails once for each fault: a call's name, and which of its paths."""

    def __init__(self, *faults: tuple[str, Callable[[str], bool]]) -> None:
        self.left = list(faults)

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            for fault in self.left:
                if fault[0] == name and any(isinstance(arg, str) and fault[1](arg) for arg in args):
                    self.left.remove(fault)
                    raise OSError(errno.EIO, os.strerror(errno.EIO), args[0])
            return getattr(os, name)(*args, **options)

        return call


def ends(*suffixes: str) -> Callable[[str], bool]:
    return lambda path: path.endswith(suffixes)


def is_hidden(path: str) -> bool:
    return is_hidden_name(os.path.basename(path))


def second(matches: Callable[[str], bool]) -> Callable[[str], bool]:
    """Return what is true of the second path for which another predicate is."""
    seen = 0

    def is_second(path: str) -> bool:
        nonlocal seen
        seen += matches(path)
        return seen == 2

    return is_second


def sync(desk: Desk, system: BadSystem) -> Summary:
    summary = run(desk.sync(make_disk=lambda root: Disk(root, system)))  # type: ignore[arg-type]
    assert system.left == []
    return summary


def test_a_file_that_could_not_be_read_once_is_sent_all_the_same(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("a", b"a")
    sync(desk, BadSystem(("open", second(ends("/a")))))  # the first one is the scan's
    assert desk.model.tree() == {"a": b"a"}


def test_a_file_that_cannot_be_read_ends_with_the_code_of_what_could_not_be_sent(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("a", b"a")
    system = BadSystem(*[("open", ends("/a"))] * 50)
    order = Order(job="j", directory=str(desk.root), url="", api_key="")

    async def outcome() -> Outcome:
        with desk.opened() as state:
            options = SyncOptions(host="testhost", times=QUICK)
            make_disk = partial(Disk, system=system)  # type: ignore[arg-type]
            sync = FolderSync(state, desk.remote, desk.root, options=options, make_disk=make_disk)
            return outcome_of(order, sync, await sync.run())

    told = run(outcome())
    assert (told.unsent, told.code, [one.path for one in told.skipped]) == (1, 11, ["a"])
    assert desk.model.tree() == {}


@pytest.mark.parametrize("place", ["d", "d/a"])
def test_what_could_not_be_looked_at_is_not_taken_for_deleted(tmp_path: Path, place: str) -> None:
    desk = Desk(tmp_path)
    desk.write("d/a", b"a")
    run(desk.in_step())
    desk.write("d/a", b"written")
    summary = sync(desk, BadSystem(("lstat", ends(f"/{place}"))))
    assert "Input/output error" in "".join(problem.detail for problem in summary.problems)
    assert desk.tree().keys() == desk.model.tree().keys() == {"d", "d/a"}
    assert run(desk.in_step()) == {"d": None, "d/a": b"written"}


def test_a_mark_that_cannot_be_read_stops_everything_with_a_reason(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("a", b"a")
    run(desk.in_step())
    with pytest.raises(FolderError, match="cannot be read: Input/output error"):
        sync(desk, BadSystem(("open", ends(".jobfs/folder"))))
    assert desk.model.tree() == {"a": b"a"}


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([("unlink", ends("/a"))], id="its name cannot be taken away"),
        pytest.param([("lstat", second(is_hidden))], id="it cannot be looked at"),
        pytest.param([("lstat", second(is_hidden)), ("link", second(is_hidden))], id="and not be put back"),
        pytest.param([("unlink", is_hidden)], id="it cannot be removed"),
    ],
)
def test_a_deletion_that_fails_half_way_leaves_nothing_hidden(tmp_path: Path, faults: list[Any]) -> None:
    desk = Desk(tmp_path)
    desk.write("a", b"a")
    desk.write("b", b"b")
    run(desk.in_step())
    desk.model.remove("a")
    sync(desk, BadSystem(*faults))
    assert not any(map(is_hidden, desk.tree()))
    assert run(desk.in_step()) == {"b": b"b"}


def test_a_conflict_copy_is_taken_back_where_its_winner_could_not_be_placed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("a", b"first")
    run(desk.in_step())
    desk.model.put("a", b"there")
    path = desk.write("a", b"here")
    with path.open("r+b") as program:  # which goes on writing the file, whatever names it has
        run(desk.sync(make_disk=partial(Disk, system=BadSystem(*[("replace", is_hidden)] * 50))))  # type: ignore[arg-type]
        assert desk.tree() == {"a": b"here"}
        program.write(b"more")
    found = run(desk.in_step())
    assert sorted(data for data in found.values() if data) == [b"more", b"there"]


def test_a_new_file_whose_name_may_not_last_is_taken_back_until_it_does(tmp_path: Path) -> None:
    class Forgetful(Disk):
        def sync_directory(self, place: str) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO), place)

    desk = Desk(tmp_path)
    desk.model.put("a", b"a")
    summary = run(desk.sync(make_disk=Forgetful))
    assert desk.tree() == {}  # nobody can move what is not known yet
    assert "Input/output error" in "".join(problem.detail for problem in summary.problems)
    assert run(desk.in_step()) == {"a": b"a"}

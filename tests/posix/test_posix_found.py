"""What the POSIX model has found: each case by itself, through each transport where libfuse can know the difference."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from file_calls import RENAME_EXCHANGE, rename_with
from live_mount import TRANSPORTS, Live, look_until, served
from model_remote import ModelRemote

pytestmark = pytest.mark.mount

LONG_AGO = 1_000_000_000


@pytest.fixture(params=TRANSPORTS)
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    with served(request.param, tmp_path) as found:
        yield found


@pytest.mark.parametrize("data", [b"", b"bytes"])
@pytest.mark.parametrize(
    "cut",
    [
        lambda path: os.truncate(path, path.stat().st_size),
        lambda path: path.open("wb").close(),
    ],
    ids=["truncate", "O_TRUNC"],
)
def test_cutting_a_file_to_the_length_that_it_has_is_a_change_of_its_time(
    live: Live, cut: Callable[[Path], object], data: bytes
) -> None:
    path = live.path / "stamp"
    path.write_bytes(data)
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    cut(path)
    assert path.stat().st_mtime_ns > LONG_AGO


def test_a_file_that_could_not_be_cut_is_not_left_unsent(live: Live) -> None:
    path = live.path / "a"
    path.write_bytes(b"a")
    live.settle()
    with pytest.raises(OSError) as refused:
        os.truncate(path, 1 << 62)
    assert refused.value.errno == errno.EFBIG
    live.settle()
    assert os.getxattr(path, "user.jobfs.state") == b"clean"


def test_what_comes_and_goes_remotely_changes_the_time_of_its_directory(live: Live) -> None:
    (live.path / "d").mkdir()
    (live.path / "d" / "a").write_bytes(b"a")
    (live.path / "e").mkdir()
    live.settle()
    changes: list[Callable[[], object]] = [
        lambda: live.remote.put("d/new", b"new"),
        lambda: live.remote.put("d/a", b"newer"),
        lambda: live.remote.remove("d/new"),
    ]
    for change in changes:
        for directory in ("d", "e"):
            os.utime(live.path / directory, ns=(LONG_AGO, LONG_AGO))
        live.do(change)
        live.pull()
        look_until(lambda: (live.path / "d").stat().st_mtime_ns > LONG_AGO)
    assert (live.path / "e").stat().st_mtime_ns == LONG_AGO


@pytest.mark.parametrize(("old", "new"), [("a", "c"), ("c", "a"), ("b", "c"), ("c", "b"), ("a", "d/e"), ("d/e", "b")])
def test_one_of_several_names_of_a_file_changes_places_with_another_file(live: Live, old: str, new: str) -> None:
    place = live.path / ".git"
    (place / "d").mkdir(parents=True)
    (place / "a").write_bytes(b"two names")
    os.link(place / "a", place / "b")
    (place / "c").write_bytes(b"c")
    os.link(place / "c", place / "d" / "e")
    before = {name: (place / name).read_bytes() for name in ("a", "b", "c", "d/e")}
    rename_with(str(place / old), str(place / new), RENAME_EXCHANGE)
    after = {name: (place / name).read_bytes() for name in before}
    assert after == before | {old: before[new], new: before[old]}
    assert sorted(os.listdir(place)) == ["a", "b", "c", "d"]
    assert {(place / name).stat().st_nlink for name in before} == {2}
    live.settle()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_times_that_a_program_has_set_are_those_of_the_next_mount(tmp_path: Path, transport: str) -> None:
    remote = ModelRemote()
    with served(transport, tmp_path, remote) as live:
        (live.path / ".git").mkdir()
        for name in ("a", ".git/a"):
            (live.path / name).write_bytes(b"bytes")
            os.utime(live.path / name, ns=(LONG_AGO, LONG_AGO))
        os.utime(live.path / ".git", ns=(LONG_AGO, LONG_AGO))
    with served(transport, tmp_path, remote) as live:
        found = {name: (live.path / name).stat().st_mtime_ns for name in ("a", ".git/a", ".git")}
    assert found == dict.fromkeys(found, LONG_AGO)
